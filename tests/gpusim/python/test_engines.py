"""The compiled half itself: which engines it takes, which it refuses and why, and how runs share sessions."""

from __future__ import annotations

import numpy as np
import pytest

import plans
from conftest import picture
from swiftdet import _core
from swiftdet.engines.tensorrt import library, running
from swiftdet.errors import BackendUnavailable, InvalidArgument, ModelError

OPTIONS = {"conf": 0.05, "iou": 0.7, "max_det": 300, "class_agnostic": False, "multi_label": False, "classes": None}


@pytest.fixture
def runtime(cuda):
    from pathlib import Path

    compiled = running.cuda_part()
    return compiled.TensorRTRuntime.load(library.runtime_library().path, Path(compiled.__file__).parent)


@pytest.fixture
def tiny(read_model):
    return read_model("ultralytics-columns")


def edited(loaded, edit):
    """The plan of a model with other lines of text before its graph."""
    text, graph = plans.plan_bytes(loaded).split(b"\nonnx ", 1)
    return b"\n".join(edit(text.split(b"\n"))) + b"\nonnx " + graph


def detector(engine, spec, **options):
    preprocess = {name: value for name, value in vars(spec.preprocess).items() if name != "channel_order"}
    made = running.cuda_part().Detector
    return made(engine, _core.Preprocess(**preprocess), _core.HeadSpec(**vars(spec.head)), spec.imgsz, **options)


def test_the_build_describes_itself(cuda):
    config = running.cuda_part().build_config()
    assert config["tensorrt_headers"].startswith("10.")
    assert config["architectures"]
    assert config["cuda_runtime"] >= 12000


def test_a_device_that_is_not_there(cuda):
    compiled = running.cuda_part()
    assert compiled.device_count() == 2
    with pytest.raises(BackendUnavailable, match="cuda:7: this machine has 2 GPUs"):
        compiled.device(7)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda lines: [line.replace(b" f32", b" i64") if b"output" in line else line for line in lines], "float32 or"),
        (lambda lines: [*lines, b"input second f32 1 4"], "one input and at least one output, got 2 and 1"),
        (lambda lines: [line for line in lines if not line.startswith(b"output")], "got 1 and 0"),
        (
            lambda lines: [b"input images f32 3 3 64 96" if line.startswith(b"input") else line for line in lines],
            r"image input \[N, 3, H, W\]",
        ),
    ],
    ids=["integers", "two inputs", "no output", "rank 3"],
)
def test_networks_that_are_no_detectors(runtime, tiny, edit, words):
    with pytest.raises(ModelError, match=words):
        runtime.deserialize(edited(tiny, edit), 0)


def two_profiles(lines):
    """One image in a run, or four to eight, but nothing between."""
    kept = [line for line in lines if not line.startswith(b"profile")]
    one, four, eight = (f"4 {n} 3 64 96".encode() for n in (1, 4, 8))
    return [*kept, b" ".join([b"profile", one, one, one]), b" ".join([b"profile", four, eight, eight])]


def test_profiles_are_chosen_by_shape(runtime, tiny):
    engine = runtime.deserialize(edited(tiny, two_profiles), 0)
    assert engine.batch_range((64, 96)) == (1, 8)
    assert engine.batch_range((64, 128)) == (0, 0)
    both = detector(engine, tiny.spec)
    images = [(picture(50, 60, seed), False) for seed in range(5)]
    (alone,) = both.detect(images[:1], **OPTIONS)
    together = both.detect(images, **OPTIONS)
    np.testing.assert_array_equal(together[0][0], alone[0])
    assert len(together) == 5
    with pytest.raises(InvalidArgument, match=r"built for inputs of \[1, 3, 64, 96\].*got \[2, 3, 64, 96\]"):
        both.detect(images[:2], **OPTIONS)
    assert both.capture_refusal == ""


def test_a_size_that_no_profile_holds(runtime, tiny):
    engine = runtime.deserialize(plans.plan_bytes(tiny), 0)
    with pytest.raises(InvalidArgument, match="not built for images of 128x128"):
        detector(engine, tiny.spec).detect([(picture(9, 9), False)], network_size=(128, 128), **OPTIONS)


@pytest.mark.parametrize("count", [2, 3, 4, 5, 8])
def test_one_session_serves_runs_of_two_sizes(runtime, tiny, count):
    """Two runs are in flight where there are sessions for it; with one, each waits for the one before."""
    engine = runtime.deserialize(plans.plan_bytes(tiny), 0)
    images = [(picture(40 + seed, 70, seed), False) for seed in range(count)]
    free = detector(engine, tiny.spec).detect(images, **OPTIONS)
    scarce = detector(engine, tiny.spec, max_sessions=1, max_batch=3).detect(images, **OPTIONS)
    for a, b in zip(free, scarce, strict=True):
        for left, right in zip(a[:3], b[:3], strict=True):
            np.testing.assert_array_equal(left, right)
