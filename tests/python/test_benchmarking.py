"""The harness of `swiftdet benchmark`: what it times, where it says the time went, what it leaves unsaid."""

from __future__ import annotations

import itertools
import threading
import time

import numpy as np
import pytest

import controlled_engine
from swiftdet import image_files
from swiftdet.benchmarking import loops, notes, plan, statistics, workload
from swiftdet.benchmarking import stages as stage_module
from swiftdet.benchmarking.calls import Caller, Samples
from swiftdet.benchmarking.loops import Loop
from swiftdet.benchmarking.stages import STAGES, Stages
from swiftdet.errors import BackendError, ImageError, InvalidArgument, InvalidType
from swiftdet.results import Detections

SLEEP_MS = 40.0
FEW = Loop(None, threads=1, batch=1, duration_s=0.5, warmup_s=0.0)  # some dozen calls that sleep


class NoWatch:
    def start(self):
        """Sees nothing."""

    def look(self):
        """Sees nothing."""


class FakeDetector:
    """Takes its time in the way that a test says."""

    def __init__(self, body=lambda: None):
        self.body = body
        self.calls = []

    def __call__(self, image, **options):
        self.calls.append((image, options))
        self.body()
        count = len(image) if isinstance(image, list) else 1
        found = [Detections([], [], [], names=["a"], orig_shape=(4, 4)) for _ in range(count)]
        return found if isinstance(image, list) else found[0]


def run(detector, loop, *, stages=None, items=None, per_call=None, on_progress=lambda _: None):
    stages = stages or Stages(decoded=False, on_gpu=False, timed=False)
    batches = workload.gather(items or [np.zeros((4, 4, 3), np.uint8)]).batches(loop.batch)
    return loops.run(Caller(detector, stages, per_call or {}), batches, loop, NoWatch(), on_progress)


# --- numbers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 2, 9, 10, 99, 100, 199, 200, 999, 1000, 5000])
def test_no_percentile_is_given_for_too_few_samples(count):
    samples = np.random.default_rng(count).permutation(np.arange(1.0, count + 1.0))
    stats = statistics.describe(samples)
    assert stats["count"] == count
    for percent, fewest in ((50, 10), (90, 100), (95, 200), (99, 1000)):
        # The value that so many percent do not exceed: of 1..1000 the 990th is the p99.
        expected = None if count < fewest else float(-(-count * percent // 100))
        assert stats[f"p{percent}"] == expected
    assert (stats["min"], stats["max"]) == ((1.0, float(count)) if count else (None, None))
    assert (stats["std"] is None) == (count < 2)


def test_no_sample_is_left_out():
    samples = np.array([1.0] * 99 + [10_000.0])
    stats = statistics.describe(samples)
    assert stats["max"] == 10_000.0
    assert stats["mean"] == pytest.approx(100.99)
    assert stats["std"] == pytest.approx(samples.std(ddof=1))


@pytest.mark.parametrize("count", [0, 1, 4095, 4096, 4097, 10_000])
def test_samples_keep_every_row(count):
    samples = Samples(["a", "b"])
    for i in range(count):
        samples.add([i, -i])
    np.testing.assert_array_equal(samples.table(), np.array([[i, -i] for i in range(count)]).reshape(-1, 2))


# --- where the time went --------------------------------------------------------------------------------------------


def speeds(**milliseconds):
    return [milliseconds]


def test_the_stages_of_a_call_and_what_is_left_of_it():
    stages = Stages(decoded=True, on_gpu=False, timed=True)
    assert stages.names == ("decode", "preprocess", "inference", "postprocess", "python")
    parts = stages.split(7.0, 10.0, speeds(preprocess=1.0, inference=5.0, postprocess=2.0))
    assert dict(zip(stages.names, parts, strict=True)) == {
        "decode": 7.0,
        "preprocess": 1.0,
        "inference": 5.0,
        "postprocess": 2.0,
        "python": 2.0,
    }


def test_what_overlaps_in_a_batch_is_counted_once():
    stages = Stages(decoded=False, on_gpu=False, timed=False)
    image = {"preprocess": 1.0, "inference": 8.0, "postprocess": 1.0}
    parts = dict(zip(stages.names, stages.split(0.0, 12.0, [image, image]), strict=True))
    assert parts == {"preprocess": 2.0, "inference": 8.0, "postprocess": 2.0, "python": 0.0}


def test_the_host_s_part_of_a_gpu_s_copies_belongs_to_them():
    stages = Stages(decoded=False, on_gpu=True, timed=True)
    one = {"pack": 1.0, "copy_in": 2.0, "preprocess": 4.0, "inference": 8.0, "postprocess": 16.0, "copy_out": 32.0}
    parts = dict(zip(stages.names, stages.split(0.0, 200.0, speeds(**one, unpack=64.0)), strict=True))
    assert list(parts) == ["preprocess", "copy_in", "inference", "postprocess", "copy_out", "python"]
    assert (parts["copy_in"], parts["copy_out"], parts["python"]) == (3.0, 96.0, 73.0)


def test_without_events_a_gpu_is_one_stage():
    stages = Stages(decoded=True, on_gpu=True, timed=False)
    parts = stages.split(1.0, 10.0, speeds(preprocess=1.0, inference=5.0, postprocess=2.0))
    assert dict(zip(stages.names, parts, strict=True)) == {"decode": 1.0, "device": 8.0, "python": 2.0}


class SlowPipeline:
    """The compiled pipeline of a detector, with stages that take longer; on request with those of a GPU."""

    def __init__(self, pipeline, *, gpu, slow):
        self._pipeline = pipeline
        self._gpu = gpu
        self._slow = slow

    def detect(self, images, **options):
        found = []
        for *arrays, times in self._pipeline.detect(images, **options):
            named = dict(zip(("preprocess", "inference", "postprocess"), times, strict=True))
            if self._gpu:
                named = {"pack": 0.0, "copy_in": 0.0, **named, "copy_out": 0.0, "unpack": 0.0}
            if self._slow in named:
                time.sleep(SLEEP_MS / 1000)
                named[self._slow] += SLEEP_MS
            found.append((*arrays, tuple(named.values())))
        return found

    def close(self):
        self._pipeline.close()


def slowed(function):
    def slow(*args, **options):
        time.sleep(SLEEP_MS / 1000)
        return function(*args, **options)

    return slow


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return controlled_engine.write_model(tmp_path_factory.mktemp("model"))


@pytest.mark.parametrize(
    ("slow", "stage", "gpu"),
    [
        (None, None, False),
        ("decoder", "decode", False),
        ("preprocess", "preprocess", False),
        ("engine", "inference", False),
        ("postprocess", "postprocess", False),
        ("result", "python", False),
        ("pack", "copy_in", True),
        ("copy_in", "copy_in", True),
        ("preprocess", "preprocess", True),
        ("inference", "inference", True),
        ("postprocess", "postprocess", True),
        ("copy_out", "copy_out", True),
        ("unpack", "copy_out", True),
        ("result", "python", True),
    ],
)
def test_a_sleep_in_one_stage_shows_there_and_nowhere_else(slow, stage, gpu, model, monkeypatch, tmp_path):
    """The median, so that a busy machine may hold up a few calls; the detector and its parts are the real ones."""
    picture = tmp_path / "picture.png"
    from PIL import Image as PilImage

    PilImage.fromarray(controlled_engine.picture(9)).save(picture)
    detector, engine = controlled_engine.make_detector(model, color="rgb")
    detector._pipelines = {"fixed": SlowPipeline(detector._pipelines["fixed"], gpu=gpu, slow=slow)}
    if slow == "decoder":
        monkeypatch.setattr(image_files, "decode", slowed(image_files.decode))
    if slow == "engine":
        engine.run = slowed(engine.run)
    if slow == "result":
        monkeypatch.setattr(Detections, "from_core", slowed(Detections.from_core))
    stages = Stages(decoded=True, on_gpu=gpu, timed=gpu)
    with detector:
        outcome = run(detector, FEW, stages=stages, items=[picture], per_call={"timed": True} if gpu else {})
    medians = {name: float(np.median(column)) for name, column in outcome.stages.items()}
    assert len(outcome.total) >= 5
    assert {name for name, ms in medians.items() if ms >= SLEEP_MS} == ({stage} if stage else set())
    assert all(ms < SLEEP_MS / 2 for name, ms in medians.items() if name != stage), medians
    together = sum(column.mean() for column in outcome.stages.values())
    assert together == pytest.approx(outcome.total.mean(), rel=0.02)


# --- loops ----------------------------------------------------------------------------------------------------------


def test_threads_call_one_detector_at_the_same_time():
    inside, most, lock = 0, 0, threading.Lock()

    def body():
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        time.sleep(0.02)
        with lock:
            inside -= 1

    outcome = run(FakeDetector(body), Loop(None, threads=4, batch=1, duration_s=0.5, warmup_s=0.0))
    assert most == 4
    assert len(outcome.total) > 4 * 3
    assert not [t for t in threading.enumerate() if t.name.startswith("swiftdet-benchmark")]


def test_warm_up_is_not_counted_and_makes_three_calls_a_thread():
    detector = FakeDetector(lambda: time.sleep(0.05))
    outcome = run(detector, Loop(None, threads=2, batch=1, duration_s=0.2, warmup_s=0.001))
    assert len(detector.calls) - len(outcome.total) == 2 * 3
    assert outcome.warmup_s >= 3 * 0.05


def test_a_run_has_at_least_one_call():
    outcome = run(FakeDetector(lambda: time.sleep(0.05)), Loop(None, threads=1, batch=1, duration_s=0.001, warmup_s=0))
    assert len(outcome.total) == 1
    assert outcome.total[0] >= 50.0


def test_batches_are_lists_and_take_the_images_in_turn():
    detector = FakeDetector()
    images = [np.full((2, 2, 3), i, np.uint8) for i in range(5)]
    run(detector, Loop(None, threads=1, batch=3, duration_s=0.01, warmup_s=0), items=images)
    seen = [tuple(int(image[0, 0, 0]) for image in batch) for batch, _ in detector.calls[:5]]
    assert seen == [(0, 1, 2), (3, 4, 0), (1, 2, 3), (4, 0, 1), (2, 3, 4)]
    run(detector := FakeDetector(), Loop(None, 1, 1, 0.01, 0), items=images, per_call={"timed": True})
    assert isinstance(detector.calls[0][0], np.ndarray)
    assert detector.calls[0][1] == {"timed": True}


def test_the_harness_s_own_time_is_told():
    outcome = run(FakeDetector(lambda: time.sleep(0.002)), Loop(None, 1, 1, 0.3, 0))
    looping = outcome.duration_s * 1e3 / len(outcome.total)
    assert outcome.harness_ms == pytest.approx(looping - outcome.total.mean())
    assert outcome.harness_ms > 0


def test_a_paced_loop_keeps_its_timetable():
    outcome = run(FakeDetector(), Loop(50.0, threads=2, batch=1, duration_s=0.5, warmup_s=0))
    assert len(outcome.total) == 25
    assert outcome.not_begun == 0
    assert outcome.duration_s >= 0.4  # a closed loop would be through in no time
    assert (outcome.late >= 0).all()


def test_time_counts_from_when_a_call_was_due():
    """One stall of 400 ms at 100 calls/s: 40 calls are due in it. A closed loop would show one slow call."""
    numbers = itertools.count()
    detector = FakeDetector(lambda: time.sleep(0.4) if next(numbers) == 10 else None)
    outcome = run(detector, Loop(100.0, threads=1, batch=1, duration_s=1.0, warmup_s=0))
    assert len(outcome.total) == 100
    assert (outcome.total > 100.0).sum() >= 25
    assert outcome.late.max() >= 350.0
    own = sum(outcome.stages.values())
    np.testing.assert_allclose(own + outcome.late, outcome.total, rtol=1e-9)


def test_a_rate_above_capacity_is_told(monkeypatch):
    monkeypatch.setattr(loops, "GRACE_S", 0.2)
    outcome = run(FakeDetector(lambda: time.sleep(0.02)), Loop(500.0, threads=1, batch=1, duration_s=0.5, warmup_s=0))
    assert len(outcome.total) + outcome.not_begun == 250
    assert outcome.not_begun >= 250 - 0.7 / 0.02 - 1
    assert outcome.late.max() >= 400.0
    np.testing.assert_array_less(-1e-9, np.diff(outcome.late))  # ever later


@pytest.mark.parametrize("rate", [None, 100.0])
@pytest.mark.parametrize("failing", [0, 7])
def test_a_call_that_fails_ends_the_run_with_its_error(rate, failing):
    numbers = itertools.count()

    def body():
        time.sleep(0.001)
        if next(numbers) == failing:
            raise BackendError("the engine gave up")

    with pytest.raises(BackendError, match="gave up"):
        run(FakeDetector(body), Loop(rate, threads=3, batch=1, duration_s=60.0, warmup_s=0.005))
    assert not [t for t in threading.enumerate() if t.name.startswith("swiftdet-benchmark")]


def test_an_interrupted_run_leaves_no_thread():
    def interrupt(_):
        raise KeyboardInterrupt

    detector = FakeDetector(lambda: time.sleep(0.01))
    with pytest.raises(KeyboardInterrupt):
        run(detector, Loop(0.5, threads=2, batch=1, duration_s=600.0, warmup_s=0), on_progress=interrupt)
    assert not [t for t in threading.enumerate() if t.name.startswith("swiftdet-benchmark")]


# --- what is fed ----------------------------------------------------------------------------------------------------


def test_the_demos_sample_is_the_default():
    work = workload.gather()
    assert (work.kind, len(work.items), work.names[0]) == ("files", 100, "val_00000.jpg")
    assert len(work.names) == 10
    assert all(isinstance(item, bytes) for item in work.items)
    assert (306, 323) in work.sizes


def test_arrays_are_not_decoded():
    arrays = [np.zeros((4, 6, 3), np.uint8), np.ones((4, 6, 3), np.uint8), np.zeros((5, 6, 3), np.uint8)]
    work = workload.gather(arrays)
    assert (work.kind, work.sizes, work.names) == ("arrays", ((4, 6), (5, 6)), ("4x6x3", "4x6x3", "5x6x3"))
    assert workload.gather(arrays).sha256 == work.sha256
    assert workload.gather(arrays[::-1]).sha256 != work.sha256
    assert workload.gather(arrays[0]).describe()["images"] == 1
    # The same bytes in another shape are another image.
    assert workload.gather(np.zeros((6, 4, 3), np.uint8)).sha256 != workload.gather(arrays[0]).sha256


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_every_image_is_used_equally_often(size):
    work = workload.gather([np.full((2, 2, 3), i, np.uint8) for i in range(4)])
    used = [int(item[0, 0, 0]) for batch in work.batches(size) for item in batch]
    assert sorted(used) == sorted(list(range(4)) * size)


def test_what_does_not_fit_in_memory_is_told(tmp_path, monkeypatch):
    from PIL import Image as PilImage

    for i in range(5):
        PilImage.new("RGB", (8, 8), (i, 0, 0)).save(tmp_path / f"{i}.png")
    one = (tmp_path / "0.png").stat().st_size
    monkeypatch.setattr(workload, "LARGEST", int(2.5 * one))
    work = workload.gather(tmp_path)
    assert (len(work.items), work.left_out, work.names) == (2, 3, ("0.png", "1.png"))
    monkeypatch.setattr(workload, "LARGEST", 1)
    assert len(workload.gather(tmp_path).items) == 1


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ([], InvalidArgument, "at least one image"),
        (["a.png", np.zeros((2, 2, 3), np.uint8)], InvalidArgument, "all of one kind, got ndarray, str"),
        (3, InvalidType, "expected files"),
        ([b"content"], InvalidType, "expected files"),
        ("no/such.png", ImageError, "no such file"),
        ([np.zeros((2, 2, 3), np.float32)], InvalidType, "expected uint8"),
    ],
)
def test_images_that_are_none_are_refused(given, error, words):
    with pytest.raises(error, match=words):
        workload.gather(given)


def test_a_damaged_image_is_found_before_anything_is_measured(tmp_path):
    (tmp_path / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(20))
    with pytest.raises(ImageError, match=r"cut\.png"):
        workload.gather(tmp_path)


# --- which runs -----------------------------------------------------------------------------------------------------

OPTIONS = {"batch": 1, "threads": 1, "rate_hz": None, "duration_s": 1, "warmup_s": 0}


def test_runs_are_the_combinations_closed_loops_first():
    runs = plan.runs(**{**OPTIONS, "batch": [1, 4, 1], "threads": (1, 2), "rate_hz": 30})
    assert [(r.threads, r.batch, r.rate_hz) for r in runs] == [
        (threads, batch, rate) for threads in (1, 2) for batch in (1, 4) for rate in (None, 30.0)
    ]


@pytest.mark.parametrize(
    ("option", "value", "error"),
    [
        ("batch", 0, InvalidArgument),
        ("batch", [], InvalidArgument),
        ("batch", [1, 1.5], InvalidType),
        ("threads", 5000, InvalidArgument),
        ("threads", "2", InvalidType),
        ("threads", True, InvalidType),
        ("rate_hz", 0, InvalidArgument),
        ("rate_hz", [10, -1], InvalidArgument),
        ("rate_hz", float("nan"), InvalidArgument),
        ("rate_hz", "30", InvalidType),
        ("duration_s", 0, InvalidArgument),
        ("duration_s", float("inf"), InvalidArgument),
        ("duration_s", 10**400, InvalidArgument),
        ("duration_s", None, InvalidType),
        ("warmup_s", -1, InvalidArgument),
        ("batch", list(range(1, 1002)), InvalidArgument),
    ],
)
def test_options_outside_their_contract_are_refused(option, value, error):
    with pytest.raises(error, match=option):
        plan.runs(**{**OPTIONS, option: value})


@pytest.mark.parametrize(
    ("model", "given", "implied"),
    [
        ("yolov7", None, "synthetic"),
        ("yolov7l", None, "synthetic"),
        ("yolov7", "w.pt", "w.pt"),
        ("demo-yolov7", None, None),
        ("yolov7.pt", None, None),
        ("model.onnx", None, None),
        (7, None, None),
    ],
)
def test_made_up_weights_are_implied_for_names_that_bring_none(model, given, implied):
    assert plan.implied_weights(model, given) == implied


# --- notes ----------------------------------------------------------------------------------------------------------

QUIET = {
    "throughput_images_per_s": 100.0,
    "calls": 1000,
    "not_begun": 0,
    "rate_hz": None,
    "batch": 1,
    "late": None,
    "threads": 1,
    "sessions": 2,
    "duration_s": 10.0,
}


def test_a_run_without_faults_has_no_note():
    assert notes.of_run(QUIET) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"not_begun": 500, "rate_hz": 150.0, "late": {"max": 900.0}}, "500 of 1500 calls never began"),
        ({"rate_hz": 50.0, "late": {"max": 21.0}}, "up to 21 ms after they were due, more than the 20 ms"),
        ({"threads": 3}, "3 threads share 2 sessions"),
        ({"calls": 100}, "too few calls (100) for p95, p99; --duration 110 would"),
    ],
)
def test_what_a_reader_should_know_is_noted(change, words):
    (note,) = notes.of_run({**QUIET, **change})
    assert words in note


def test_the_stages_of_all_kinds_are_those_that_are_documented():
    kinds = itertools.product([True, False], repeat=3)
    names = {n for decoded, gpu, timed in kinds for n in Stages(decoded=decoded, on_gpu=gpu, timed=timed).names}
    assert names == set(STAGES) == set(stage_module.STAGES)
