"""Whole benchmarks: the document, its schema, the cold start, and a GPU as far as it can be played."""

from __future__ import annotations

import copy
import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest

import controlled_engine
import swiftdet
from fake_nvml import fake_nvml
from swiftdet import benchmarking, cuda_devices, measurements
from swiftdet.benchmarking import cold_start
from swiftdet.errors import BackendError, BackendUnavailable, DocumentError, InvalidArgument, InvalidType, ModelError

PICTURE = np.zeros((64, 96, 3), np.uint8)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return controlled_engine.write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def document():
    """Of a real detector on its own pictures, with everything on."""
    return swiftdet.benchmark(
        Path("demo-yolov7"),
        threads=[1, 2],
        batch=[1, np.int64(3)],
        rate_hz=20,
        duration_s=0.4,
        warmup_s=0.05,
        conf=np.float64(0.3),
        imgsz=np.int64(256),
        samples=True,
        device="cpu",
    )


# --- the document ---------------------------------------------------------------------------------------------------


def test_a_document_says_what_was_measured_on_what_and_how(document, tmp_path):
    measured = document["measured"]
    assert document["format"] == "swiftdet.benchmark/1"
    assert document["subject"]["model"] == "demo-yolov7"
    assert document["subject"]["synthetic"] is False
    assert measured["options"] == {
        "conf": 0.3,
        "iou": 0.7,
        "max_det": 300,
        "class_agnostic": False,
        "multi_label": False,
    }
    assert measured["input"]["images"] == 100
    assert len(document["provenance"]["host"]["cpu"]) > 1
    combinations = [(run["threads"], run["batch"], run["loop"], run["rate_hz"]) for run in measured["runs"]]
    assert combinations == [
        (threads, batch, loop, rate)
        for threads in (1, 2)
        for batch in (1, 3)
        for loop, rate in (("closed", None), ("paced", 20.0))
    ]
    path = tmp_path / "result.json"
    measurements.write(document, path)
    assert measurements.read(path) == document


def test_the_stages_of_every_run_add_up_to_its_total(document):
    for run in document["measured"]["runs"]:
        means = {name: stats["mean"] for name, stats in run["stages"].items()}
        assert list(run["stages"]) == sorted(["decode", "preprocess", "inference", "postprocess", "python"])
        late = run["late"]["mean"] if run["late"] else 0.0
        assert sum(means.values()) + late == pytest.approx(run["total"]["mean"], rel=0.02)
        assert means["inference"] > means["postprocess"]
        assert all(stats["count"] == run["calls"] for stats in [run["total"], *run["stages"].values()])
        assert run["images"] == run["calls"] * run["batch"]
        assert run["objects"] > run["images"]  # the demo finds something in its own pictures
        assert run["timed"] is False


def test_samples_are_those_that_the_figures_are_of(document):
    runs = document["measured"]["runs"]
    assert ["late" in run["samples"] for run in runs] == [run["loop"] == "paced" for run in runs]
    run = runs[3]
    samples = {name: np.array(values) for name, values in run["samples"].items()}
    np.testing.assert_allclose(
        sum(values for name, values in samples.items() if name != "total"), samples["total"], atol=1e-4
    )
    assert run["total"]["max"] == pytest.approx(samples["total"].max(), abs=1e-6)
    assert run["total"]["mean"] == pytest.approx(samples["total"].mean(), abs=1e-6)


def test_a_cold_start_is_measured_in_a_process_of_its_own(document):
    start = document["measured"]["cold_start"]
    assert start["process"] == "new"
    # Each takes far longer in a new process than it ever could in this one, where all is loaded.
    assert start["import_ms"] > 20
    assert start["load_ms"] > 5
    assert start["first_call_ms"] > 0.2
    assert start["rss_bytes"] > 30 << 20


def change(document, path, value):
    changed = copy.deepcopy(document)
    holder = changed
    for key in path[:-1]:
        holder = holder[key]
    if value is ...:
        del holder[path[-1]]
    else:
        holder[path[-1]] = value
    return changed


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("runs", 0, "total", "p50"), ...),
        (("runs", 0, "total", "p50"), "3 ms"),
        (("runs", 0, "stages", "network"), {}),
        (("runs", 0, "stages", "python"), ...),
        (("runs", 0, "loop"), "open"),
        (("runs", 0, "calls"), 0),
        (("runs", 0, "memory", "rss_bytes"), -1),
        (("runs", 0, "interference", "warnings"), None),
        (("runs", 0, "interference", "mood"), "good"),
        (("runs", 0, "samples", "total"), 1.0),
        (("runs",), []),
        (("input", "kind"), "video"),
        (("input", "sha256"), "0"),
        (("cold_start", "load_ms"), None),
        (("options", "conf"), 2),
        (("extra",), 1),
    ],
)
def test_other_fields_and_types_are_refused(path, value, document):
    measured = change(document["measured"], path, value)
    with pytest.raises(DocumentError):
        measurements.seal(
            "benchmark", subject=document["subject"], measured=measured, provenance=document["provenance"]
        )


def test_an_engine_in_python_and_arrays(model):
    engine = controlled_engine.ControlledEngine(model)
    shown = []
    document = swiftdet.benchmark(
        model,
        engine=engine,
        images=PICTURE,
        duration_s=0.6,
        warmup_s=0.0,
        sessions=2,
        threads=3,
        on_progress=shown.append,
    )
    measured = document["measured"]
    assert measured["cold_start"]["process"] == "this"
    assert measured["cold_start"]["import_ms"] is None
    (run,) = measured["runs"]
    assert set(run["stages"]) == {"preprocess", "inference", "postprocess", "python"}
    assert run["sessions"] == 2
    assert run["samples"] is None
    assert (shown[0].run, shown[0].runs, shown[0].loop.threads, shown[0].seconds) == (1, 1, 3, 0.0)
    assert shown[-1].seconds >= 0.5
    assert shown[-1].total == pytest.approx(0.6)


def test_channels_are_in_the_order_that_the_kind_of_input_has(model, tmp_path):
    """A red picture as a file and as a BGR array look the same to the network."""
    red = np.zeros((*controlled_engine.SIZE, 3), np.uint8)
    red[..., 2] = 255
    from PIL import Image as PilImage

    PilImage.fromarray(red[..., ::-1]).save(tmp_path / "red.png")
    for images in (red, tmp_path / "red.png"):
        engine = controlled_engine.ControlledEngine(model)
        seen = []
        inner = engine.run
        engine.run = lambda inputs, seen=seen, inner=inner: (
            seen.append(next(iter(inputs.values()))[0, :, 0, 0].tolist()) or inner(inputs)
        )
        swiftdet.benchmark(model, engine=engine, images=images, duration_s=0.05, warmup_s=0)
        assert set(map(tuple, seen)) == {(1.0, 0.0, 0.0)}


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"duration_s": 0}, InvalidArgument, "duration_s"),
        ({"cold_start": "warm"}, InvalidArgument, "cold_start: expected one of 'new', 'this'"),
        ({"samples": "no"}, InvalidType, "samples"),
        ({"timed": 1}, InvalidType, "timed"),
        ({"conf": 2}, InvalidArgument, "conf"),
        ({"color": "rgb"}, InvalidArgument, "BGR"),
        ({"images": []}, InvalidArgument, "at least one image"),
        ({"family": "yolov9"}, InvalidArgument, "family"),
        ({"device": "cuda"}, BackendUnavailable, "driver|CUDA part"),
        ({"weights": "missing.pt"}, (ModelError, InvalidArgument), "weights"),
    ],
)
def test_wrong_options_are_refused(options, error, words, model):
    with pytest.raises(error, match=words):
        swiftdet.benchmark(model, **{"duration_s": 0.01, **options})


def test_a_failing_engine_fails_the_benchmark(model):
    engine = controlled_engine.ControlledEngine(model)

    def fails(_):
        raise RuntimeError("out of order")

    engine.fails = fails
    with pytest.raises(BackendError, match="out of order"):
        swiftdet.benchmark(model, engine=engine, images=PICTURE, duration_s=5)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("raise SystemExit('no memory')", "a new process failed: no memory"),
        ("import sys; sys.exit(3)", "without a word"),
        ("print('nonsense')", "gave no figures"),
    ],
)
def test_a_new_process_that_fails_is_an_error(code, words, monkeypatch):
    monkeypatch.setattr(cold_start, "_CHILD", code)
    with pytest.raises(BackendError, match=words):
        cold_start.in_new_process("demo-yolov7", {}, PICTURE)


# --- a GPU, as far as it can be played ------------------------------------------------------------------------------


class GpuDetector:
    """What a benchmark needs of a detector on a GPU; its stages take no time but say so."""

    device = "cuda:1"
    provenance = types.MappingProxyType({})

    def __init__(self, *_, **__):
        self.calls = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def __call__(self, image, **options):
        self.calls.append(options)
        speed = dict.fromkeys(("pack", "copy_in", "preprocess", "inference", "postprocess", "copy_out", "unpack"), 0.1)
        if not options.get("timed"):
            speed = {"preprocess": 0.1, "inference": 0.5, "postprocess": 0.1}
        time.sleep(0.01)
        batch = image if isinstance(image, list) else [image]
        found = [swiftdet.Detections([], [], [], names=["a"], orig_shape=(4, 4), speed=speed) for _ in batch]
        return found if isinstance(image, list) else found[0]

    def _concurrency(self):
        return 1, 2


@pytest.mark.parametrize("timed", [True, False])
def test_the_stages_of_a_gpu(timed, monkeypatch, document):
    nvml = fake_nvml()
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.setattr(cuda_devices, "pci_bus_id", lambda index: f"0000:0{index}:00.0")
    monkeypatch.setattr("swiftdet.detector.Detector", GpuDetector)
    collected = []
    monkeypatch.setattr(measurements, "collect", lambda device: collected.append(device) or document["provenance"])
    monkeypatch.setattr(GpuDetector, "provenance", {**document["subject"], "device": "cuda:1"})
    made = swiftdet.benchmark(
        "yolov7", images=PICTURE, batch=2, duration_s=0.6, warmup_s=0, timed=timed, cold_start="this"
    )
    (run,) = made["measured"]["runs"]
    stages = {name: stats["mean"] for name, stats in run["stages"].items()}
    assert run["timed"] is timed
    if timed:
        assert set(stages) == {"preprocess", "copy_in", "inference", "postprocess", "copy_out", "python"}
        assert (stages["copy_in"], stages["inference"]) == (pytest.approx(0.4), pytest.approx(0.2))
    else:
        assert set(stages) == {"device", "python"}
    assert collected == ["cuda:1"]
    assert nvml.asked == [b"0000:01:00.0"]
    assert run["memory"]["gpu_bytes"] == 3 << 30
    assert run["interference"]["gpu"] == {
        "sm_mhz": {"min": 900.0, "max": 1800.0},
        "max_sm_mhz": 1980,
        "memory_mhz": 5000,
        "temperature_c": None,
        "power_limit_w": 70.0,
        "throttle_reasons": ["power cap"],
    }
    assert run["interference"]["warnings"][-2:] == [
        "the GPU's clocks were held down (power cap)",
        "the GPU ran at 900 to 1800 MHz",
    ]


def test_the_public_names():
    assert swiftdet.benchmark is benchmarking.benchmark
    assert "benchmark" in swiftdet.__all__
