"""Whole benchmarks: the document, its schema, the cold start, what else the machine did, and the command line."""

from __future__ import annotations

import copy
import itertools
import json
import os
import pty
import subprocess
import sys
import time
import types

import numpy as np
import pytest

import controlled_engine
import swiftdet
from swiftdet import benchmarking, cuda_devices, measurements
from swiftdet.benchmarking import cold_start, interference
from swiftdet.benchmarking.gpu_watch import GpuWatch
from swiftdet.benchmarking.interference import Watch, _Counters, judge
from swiftdet.cli import main
from swiftdet.errors import BackendError, BackendUnavailable, DocumentError, InvalidArgument, InvalidType, ModelError

PICTURE = np.zeros((64, 96, 3), np.uint8)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return controlled_engine.write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def document():
    """Of a real detector on its own pictures, with everything on."""
    return swiftdet.benchmark(
        "demo-yolov7",
        threads=[1, 2],
        batch=[1, 3],
        rate_hz=20,
        duration_s=0.4,
        warmup_s=0.05,
        conf=0.3,
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
    run = document["measured"]["runs"][2]
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
        (("runs", 0, "samples", "total"), ["1"]),
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


class NvmlError(Exception):
    """As nvidia-ml-py's."""


def fake_nvml(*, works=True):
    """The module of a GPU that slows down: 1800 MHz, then 900 at a power cap."""
    asked = []
    megahertz = itertools.chain([1800], itertools.repeat(900))

    def start():
        if not works:
            raise NvmlError("library not found")

    def unsupported(_, __):
        raise NvmlError("not supported")

    return types.SimpleNamespace(
        NVML_CLOCK_SM=1,
        NVML_CLOCK_MEM=2,
        NVML_TEMPERATURE_GPU=0,
        NVMLError=NvmlError,
        asked=asked,
        nvmlInit=start,
        nvmlDeviceGetHandleByPciBusId=asked.append,
        nvmlDeviceGetClockInfo=lambda _, kind: next(megahertz) if kind == 1 else 5000,
        nvmlDeviceGetCurrentClocksThrottleReasons=lambda _: 0x1 | 0x4,
        nvmlDeviceGetMaxClockInfo=lambda _, __: 1980,
        nvmlDeviceGetTemperature=unsupported,
        nvmlDeviceGetEnforcedPowerLimit=lambda _: 70_000,
        nvmlDeviceGetMemoryInfo=lambda _: types.SimpleNamespace(used=3 << 30),
    )


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


def test_without_nvml_a_gpu_is_not_watched(monkeypatch):
    monkeypatch.setattr(cuda_devices, "pci_bus_id", lambda _: "0000:00:00.0")
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml(works=False))
    assert GpuWatch.of(0) is None
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert GpuWatch.of(0) is None


def test_nvml_has_what_is_asked_of_it():
    pynvml = pytest.importorskip("pynvml")
    asked = [name for name in vars(fake_nvml()) if name.startswith(("nvml", "NVML"))]
    assert len(asked) == 12  # with NVMLError
    assert [name for name in asked if not hasattr(pynvml, name)] == []


# --- what else the machine did --------------------------------------------------------------------------------------

QUIET = _Counters(
    wall_s=10.0,
    machine_s=20.0,
    busy_s=10.0,
    steal_s=0.0,
    own_s=10.0,
    involuntary=3,
    pressure_s=0.1,
    limited=0,
    overheated=None,
)


def passed(**changes):
    return _Counters(**{**vars(QUIET), **changes})


def test_a_quiet_machine_gets_no_warning():
    facts = judge(QUIET, [2600.0, 2590.0])
    assert facts == {
        "steal_percent": 0.0,
        "other_load_percent": 0.0,
        "frequency_mhz": {"min": 2590.0, "max": 2600.0},
        "involuntary_switches": 3,
        "throttled": False,
        "cpu_pressure_percent": 1.0,
        "warnings": [],
    }


@pytest.mark.parametrize(
    ("changes", "megahertz", "words"),
    [
        ({"steal_s": 1.0}, [], "hypervisor gave 5.0 %"),
        ({"busy_s": 14.0}, [], "other programs took 20 %"),
        ({}, [3000.0, 2000.0], "ran at 2000 to 3000 MHz"),
        ({"limited": 7}, [], "CPU limit stopped this process 7 times"),
        ({"overheated": 2}, [], "slowed down 2 times"),
        ({"pressure_s": 5.0}, [], "in 50 % of the time"),
    ],
)
def test_interference_is_put_into_words(changes, megahertz, words):
    facts = judge(passed(**changes), megahertz)
    (warning,) = facts["warnings"]
    assert words in warning
    assert facts["throttled"] is any(word in words for word in ("limit", "slowed"))


def test_what_a_system_does_not_tell_is_unknown():
    facts = judge(passed(involuntary=None, pressure_s=None, limited=None), [])
    assert [facts[name] for name in ("frequency_mhz", "involuntary_switches", "throttled")] == [None] * 3
    assert facts["cpu_pressure_percent"] is None


def test_another_program_is_noticed():
    watch = Watch()
    busy = [sys.executable, "-c", "while True: pass"]
    with subprocess.Popen(busy) as program:
        try:
            time.sleep(0.1)
            watch.start()
            time.sleep(0.7)
            memory, facts = watch.stop()
        finally:
            program.kill()
    # One whole processor, or what others leave of it, of those that there are.
    assert facts["other_load_percent"] > 40.0 / os.cpu_count()
    assert 0 < memory["rss_bytes"] <= memory["peak_rss_bytes"]


def test_counters_are_read_where_the_system_keeps_them(monkeypatch, tmp_path):
    (tmp_path / "pressure").write_text("some avg10=1.00 avg60=0 avg300=0 total=2500000\nfull avg10=0.00 total=7\n")
    (tmp_path / "of_process").write_text("5:cpu,cpuacct:/job\n0::/job/own\n")
    version_1, version_2 = tmp_path / "groups/cpu,cpuacct/job", tmp_path / "groups/job/own"
    version_1.mkdir(parents=True)
    version_2.mkdir(parents=True)
    (version_2 / "cpu.stat").write_text("usage_usec 5\nnr_periods 9\nnr_throttled 4\n")
    heat = tmp_path / "processors/cpu0/thermal_throttle"
    heat.mkdir(parents=True)
    (heat / "core_throttle_count").write_text("11\n")
    monkeypatch.setattr(interference, "_PRESSURE", tmp_path / "pressure")
    monkeypatch.setattr(interference, "_OWN_CGROUPS", tmp_path / "of_process")
    monkeypatch.setattr(interference, "_CGROUPS", tmp_path / "groups")
    monkeypatch.setattr(interference, "_PROCESSORS", tmp_path / "processors")
    now = Watch()._count()
    assert (now.pressure_s, now.limited, now.overheated) == (2.5, 4, 11)
    (version_1 / "cpu.stat").write_text("nr_periods 9\nnr_throttled 6\n")
    assert Watch()._count().limited == 6
    for name in ("_PRESSURE", "_OWN_CGROUPS", "_PROCESSORS"):
        monkeypatch.setattr(interference, name, tmp_path / "none")
    now = Watch()._count()
    assert (now.pressure_s, now.limited, now.overheated) == (None, None, None)


# --- the command line -----------------------------------------------------------------------------------------------

QUICK = ("--duration", "0.2", "--warmup", "0", "--cold-start", "this", "--device", "cpu")


@pytest.fixture
def run(capsys):
    def run(*args):
        code = main([str(arg) for arg in args])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_the_table_for_people(run, tmp_path):
    file = tmp_path / "out.json"
    code, out, err = run("benchmark", "demo-yolov7", *QUICK, "--rate", "20", "--threads", "1,2", "-o", file)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "demo-yolov7 256x256 fp32"
    assert "100 pictures of the demos' sample, 100 sizes such as 323x306, decoded by every call" in lines[2]
    assert lines[3].startswith("start  in this process: construction")
    rows = [line.split() for line in lines if line.startswith(("late", "decode", "inference", "python", "total"))]
    assert [row[0] for row in rows[:4]] == ["decode", "inference", "python", "total"]
    assert [row[0] for row in rows].count("late") == 2
    header = next(line for line in lines if line.startswith("ms a call"))
    assert header.split()[3:] == ["mean", "p50", "p90", "p95", "p99", "max", "share"]
    assert rows[0][5] == "-"  # no p99 of so few calls
    assert any(line.startswith("- too few calls (") for line in lines)
    assert lines[-1] == f"written to {file}"
    assert measurements.read(file)["measured"]["runs"][1]["loop"] == "paced"


def test_one_document_for_machines_or_a_list_of_them(run, tmp_path):
    code, out, err = run("benchmark", "demo-yolov7", *QUICK, "--json", "batch=2")
    assert (code, err) == (0, "")
    assert json.loads(out)["measured"]["runs"][0]["batch"] == 2
    folder = tmp_path / "out"
    code, out, _ = run("benchmark", "demo-yolov7", "demo-damo-yolo", "demo-yolov7", *QUICK, "--json", "-o", folder)
    assert code == 0
    assert [d["subject"]["model"] for d in json.loads(out)] == ["demo-yolov7", "demo-damo-yolo", "demo-yolov7"]
    assert sorted(p.name for p in folder.iterdir()) == ["demo-damo-yolo.json", "demo-yolov7-2.json", "demo-yolov7.json"]
    assert measurements.read(folder / "demo-yolov7-2.json") == json.loads(out)[2]


def test_made_up_weights_are_told(run):
    code, out, err = run("benchmark", "damo-yolo-ns", *QUICK, "--imgsz", "64", "--json")
    assert code == 0
    assert err == "note: damo-yolo-ns: no weights were given; made-up ones (synthetic) take the same time\n"
    assert json.loads(out)["subject"]["synthetic"] is True
    _, out, _ = run("benchmark", "damo-yolo-ns", *QUICK, "--imgsz", "64")
    assert out.startswith("damo-yolo-ns 64x64 fp32, made-up weights\n")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ((), "MODEL"),
        (("demo-yolov7", "--batch", "1,x"), "expected whole numbers such as 1,4, got '1,x'"),
        (("demo-yolov7", "--batch", "0"), "batch: expected 1 to 1024, got 0"),
        (("demo-yolov7", "--rate", "fast"), "expected numbers such as 10,30"),
        (("demo-yolov7", "--rate", "nan"), "rate_hz"),
        (("demo-yolov7", "--duration", "-1"), "duration_s"),
        (("demo-yolov7", "--cold-start", "no"), "cold_start"),
        (("demo-yolov7", "--conf", "7"), "conf"),
        (("demo-yolov7", "demo-damo-yolo", "-o", "out.json"), "out.json is one file, and there are 2 models"),
        (("no-such-model.onnx",), "no-such-model.onnx"),
        (("demo-yolov7", "--images", "no/folder"), "no/folder: no such file or folder"),
    ],
)
def test_wrong_usage_is_one_line(args, words, run):
    code, out, err = run("benchmark", *args)
    assert code in {1, 2}
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert words in err


def test_a_bar_is_drawn_on_a_terminal_alone():
    controller, terminal = pty.openpty()
    command = [sys.executable, "-m", "swiftdet", "benchmark", "demo-yolov7", "--json", *QUICK, "--duration", "1.2"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=terminal, env={**os.environ, "TERM": "xterm"}
    ) as done:
        os.close(terminal)
        shown = b""
        while chunk := _read(controller):
            shown += chunk
        out = done.stdout.read()
    os.close(controller)
    assert done.returncode == 0
    assert b"run 1 of 1, closed loop" in shown
    assert json.loads(out)["format"] == "swiftdet.benchmark/1"


def _read(controller):
    try:
        return os.read(controller, 4096)
    except OSError:  # the other end is closed
        return b""


def test_the_public_names():
    assert swiftdet.benchmark is benchmarking.benchmark
    assert "benchmark" in swiftdet.__all__
