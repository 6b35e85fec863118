"""A detector shared by many threads: no call gets what is another's, and an image gives the same in any company."""

from __future__ import annotations

import threading
from pathlib import Path

import make_models
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sharing
import swiftdet

SIZE = (64, 96)
CLASSES = 3
EVERY_DAY, PROOF = 3000, 100_000


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("sharing") / "tiny.onnx"
    onnx.save(make_models.build("ultralytics-columns", size=SIZE, classes=CLASSES, seed=3), path)
    return path


@pytest.fixture(scope="module")
def dynamic_model(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("sharing") / "dynamic.onnx"
    onnx.save(make_models.build("yolov7-zoo", size=SIZE, classes=CLASSES, seed=3, dynamic_size=True), path)
    return path


def prove(detector, default, **more):
    """Calls from all threads, compared; prints the figures for docs/reliability.md."""
    pictures, kinds = sharing.images(), [{**kind, **more} for kind in sharing.options(CLASSES)]
    twins = sharing.serial_twins(detector, pictures, kinds)
    assert len({twin for row in twins for twin in row}) > len(pictures) * len(kinds) // 3  # a crossing would show
    calls = sharing.wanted_calls(default)
    outcome = sharing.hammer(detector, pictures, kinds, twins, calls)
    print(f"\n{sharing.THREADS} threads: {outcome}")  # noqa: T201 - a proof's figures, for `pytest -s`
    assert outcome.calls == calls
    assert outcome.crossings == 0
    for pipeline in detector._pipelines.values():
        limit, made, idle, waiting = pipeline.sessions
        assert (idle, waiting) == (made, 0)
        assert made <= limit


@pytest.mark.parametrize(("performance", "sessions"), [("latency", None), ("throughput", 3)])
def test_sixteen_threads_with_mixed_calls(model, performance, sessions):
    with swiftdet.Detector(model, device="cpu", performance=performance, sessions=sessions) as detector:
        prove(detector, EVERY_DAY)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_sixteen_threads_with_mixed_calls_at_length(model):
    with swiftdet.Detector(model, device="cpu", sessions=5) as detector:
        prove(detector, PROOF)


def test_sixteen_threads_through_an_engine_in_python(model):
    with swiftdet.Detector(model, device="cpu", engine="onnxruntime", sessions=5) as detector:
        prove(detector, EVERY_DAY // 3)


def test_a_mixture_of_sizes_is_no_mixture_of_results(dynamic_model):
    """Calls of different network sizes share the sessions of one pool, which are made anew for another size.

    Made while another session runs: 20000 calls met OpenVINO's use after free (`Requests`) once in four runs.
    """
    pictures = sharing.images()
    kinds = [{**kind, "imgsz": size} for kind in sharing.options(CLASSES, 6) for size in (SIZE, (96, 96), (32, 160))]
    with swiftdet.Detector(dynamic_model, device="cpu", imgsz=SIZE, sessions=4) as detector:
        twins = sharing.serial_twins(detector, pictures, kinds)
        outcome = sharing.hammer(detector, pictures, kinds, twins, sharing.wanted_calls(20_000))
        assert outcome.crossings == 0
        assert all(pipeline.sessions[1] <= 4 for pipeline in detector._pipelines.values())


def test_a_crossing_would_be_seen(model):
    """The proof itself: a detector that now and then gives one thread another's threshold is caught."""
    with swiftdet.Detector(model, device="cpu") as detector:
        pictures, kinds = sharing.images(), sharing.options(CLASSES)
        twins = sharing.serial_twins(detector, pictures, kinds)
        calls = iter(range(10**9))

        def mixes(image, **kind):
            return detector(image, **({**kind, "conf": 0.6} if next(calls) % 50 == 0 else kind))

        assert sharing.hammer(mixes, pictures, kinds, twins, 500).crossings > 0


# --- batch invariance -----------------------------------------------------------------------------------------------

PICTURES = sharing.images(9, seed=21)
KINDS = sharing.options(CLASSES, 8, seed=22)


@pytest.fixture(scope="module", params=["openvino", "openvino-throughput", "onnxruntime", "python object"])
def invariant(request, model):
    """A detector, a dispatcher before it, and what each image gives alone."""
    engine = request.param.removesuffix("-throughput")
    if engine == "python object":
        engine = swiftdet.engines.onnxruntime.OnnxRuntimeEngine(model.read_bytes())
    performance = "throughput" if request.param.endswith("throughput") else "latency"
    with swiftdet.Detector(model, device="cpu", engine=engine, performance=performance) as detector:
        twins = sharing.serial_twins(detector, PICTURES, KINDS)
        with swiftdet.BatchDispatcher(detector, max_delay_ms=1.0) as dispatcher:
            yield detector, dispatcher, twins
        assert max(dispatcher.stats().batch_sizes) > 1


@given(
    batch=st.lists(st.integers(0, len(PICTURES) - 1), min_size=1, max_size=20),
    kind=st.integers(0, len(KINDS) - 1),
    strangers=st.lists(st.integers(0, len(KINDS) - 1), max_size=4),
    dispatched=st.booleans(),
    other_thread=st.booleans(),
    as_tuple=st.booleans(),
)
@settings(max_examples=120)
def test_an_image_gives_the_same_in_any_company(invariant, batch, kind, strangers, dispatched, other_thread, as_tuple):
    """Alone, in a batch of any mates, at any position, from any thread, through the dispatcher: bit for bit.

    The dispatcher has requests with other options before it.
    """
    detector, dispatcher, twins = invariant
    images = [PICTURES[i] for i in batch]
    results = []

    def call():
        if not dispatched:
            results.extend(detector(tuple(images) if as_tuple else images, **KINDS[kind]))
            return
        others = [dispatcher.submit(PICTURES[0], **KINDS[other]) for other in strangers]
        results.extend(sharing.through(dispatcher)(images, **KINDS[kind]))
        for other, future in zip(strangers, others, strict=True):
            assert sharing.key(future.result(sharing.GUARD_S)) == twins[other][0]

    if other_thread:
        thread = threading.Thread(target=call)
        thread.start()
        thread.join()
    else:
        call()
    assert [sharing.key(result) for result in results] == [twins[kind][i] for i in batch]


@pytest.mark.parametrize("performance", ["latency", "throughput"])
def test_another_detector_of_the_same_kind_gives_the_same_bits(model, performance):
    made = []
    for sessions in (1, 4):
        with swiftdet.Detector(model, device="cpu", performance=performance, sessions=sessions) as detector:
            made.append(sharing.serial_twins(detector, PICTURES, KINDS))
    assert made[0] == made[1]


def test_compiled_for_latency_or_throughput_the_boxes_agree(model):
    """Two compilations may sum in another order, so the promise between them is closeness, not equality of bits."""
    found = []
    for performance in ("latency", "throughput"):
        with swiftdet.Detector(model, device="cpu", performance=performance, conf=0.3, max_det=3000) as detector:
            found.append([detector(picture) for picture in PICTURES])
    assert sum(len(result) for result in found[0]) > 10
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a.xyxy, b.xyxy, atol=1e-2)
        np.testing.assert_allclose(a.conf, b.conf, atol=1e-5)


# --- memory ---------------------------------------------------------------------------------------------------------


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_many_network_sizes_leave_no_sessions_behind(dynamic_model):
    """More sizes than sessions, many times over: as many sessions as allowed, and memory that does not grow."""
    image = np.full((80, 90, 3), 77, np.uint8)
    sizes = [(32 * h, 32 * w) for h in range(1, 5) for w in range(1, 5)]
    with swiftdet.Detector(dynamic_model, device="cpu", imgsz=SIZE, sessions=3, conf=0.0, max_det=5) as detector:

        def every_size(rounds):
            for _ in range(rounds):
                for size in sizes:
                    detector([image] * 2, imgsz=size)

        every_size(10)
        before = resident_bytes()
        every_size(40)
        grown = resident_bytes() - before
        limit, made, idle, waiting = detector._pipelines["flexible"].sessions
    assert (limit, made, idle, waiting) == (3, 3, 3, 0)
    assert grown < 8e6, f"{grown / 1e6:.1f} MB more after 640 calls"
