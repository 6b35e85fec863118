"""What the dispatcher hands out equals, bit for bit, what the detector gives for the image alone."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import threading
from collections import deque

import make_models
import numpy as np
import onnx
import pytest

import soak
import swiftdet

THREADS = 16
DAILY, AT_LENGTH = 4_000, 100_000  # calls
SOAK = 10_000  # requests
SIZES = [(64, 96), (70, 130), (33, 200), (1, 1), (97, 41), (120, 160), (3, 300), (200, 31)]
OPTIONS = [
    {},
    {"conf": 0.02},
    {"conf": 0.4, "iou": 0.3},
    {"max_det": 3},
    {"conf": 0.1, "multi_label": True},
    {"class_agnostic": True},
    {"classes": [1]},
    {"color": "rgb"},
    {"imgsz": (96, 64)},
    {"imgsz": 64, "conf": 0.02},
]


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "dynamic.onnx"
    onnx.save(make_models.build("yolov7-zoo", size=(64, 96), classes=3, seed=3, dynamic_size=True), path)
    with swiftdet.Detector(path, imgsz=(64, 96), conf=0.2, iou=0.9, device="cpu") as made:
        yield made


def serial_twins(detector, options):
    """Images, and what each of the options gives for each, one call after the other."""
    rng = np.random.default_rng(3)
    images = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in SIZES]
    return images, {(i, o): detector(image, **one) for i, image in enumerate(images) for o, one in enumerate(options)}


@pytest.fixture(scope="module")
def twins(detector):
    return serial_twins(detector, OPTIONS)


def same(a, b):
    return (
        np.array_equal(a.xyxy, b.xyxy)
        and np.array_equal(a.conf, b.conf)
        and np.array_equal(a.cls, b.cls)
        and a.truncated == b.truncated
        and a.orig_shape == b.orig_shape
    )


def crossings(detector, twins, calls, per_call=OPTIONS, **options):
    """How many of so many calls, from many threads at once, did not give what their serial twin gave."""
    images, expected = twins
    wrong, answered = [], []
    barrier = threading.Barrier(THREADS)

    def work(seed):
        rng = random.Random(seed)  # noqa: S311 - chance, not secrets
        window = deque()

        def check_one():
            key, future = window.popleft()
            answered.append(1)
            if not same(future.result(120), expected[key]):
                wrong.append(key)

        barrier.wait()
        for _ in range(calls // THREADS):
            key = rng.randrange(len(images)), rng.randrange(len(per_call))
            priority = rng.randrange(3)
            if rng.random() < 0.1:
                answered.append(1)
                if not same(dispatcher(images[key[0]], priority=priority, **per_call[key[1]]), expected[key]):
                    wrong.append(key)
                continue
            window.append((key, dispatcher.submit(images[key[0]], priority=priority, **per_call[key[1]])))
            if len(window) > 8:
                check_one()
        while window:
            check_one()

    with swiftdet.BatchDispatcher(detector, **options) as dispatcher:
        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    stats = dispatcher.stats()
    assert stats.done == stats.submitted == len(answered) == calls // THREADS * THREADS
    assert max(stats.batch_sizes) > 1, "there was nothing to mix up"
    return len(wrong)


def test_the_twins_differ(twins):
    """Else a crossing would not be seen."""
    _, expected = twins
    kinds = {(r.xyxy.tobytes(), r.conf.tobytes()) for r in expected.values()}
    assert len(kinds) > 0.5 * len(expected)


@pytest.mark.parametrize("options", [{}, {"workers": 4, "max_batch": 3, "max_delay_ms": 0.5, "queue_size": 8}], ids=str)
def test_no_call_gets_anothers_result(detector, twins, options):
    assert crossings(detector, twins, DAILY // 2, **options) == 0


@pytest.mark.slow
@pytest.mark.timeout(1200)  # a guard: three minutes where others keep the machine busy
def test_no_call_gets_anothers_result_at_length(tmp_path):
    """On the smallest network, so that most of the time is spent between the threads; it has one size."""
    path = tmp_path / "tiny.onnx"
    onnx.save(make_models.build("ultralytics-columns", size=(64, 96), classes=3, seed=3), path)
    options = [one for one in OPTIONS if "imgsz" not in one]
    with swiftdet.Detector(path, conf=0.2, iou=0.9, device="cpu") as detector:
        assert crossings(detector, serial_twins(detector, options), AT_LENGTH, per_call=options) == 0


def test_event_loops_and_map_get_the_same(detector, twins):
    images, expected = twins

    async def main(dispatcher):
        keys = [(i, o) for i in range(len(images)) for o in range(len(OPTIONS))] * 2
        results = await asyncio.gather(*(dispatcher.asubmit(images[i], **OPTIONS[o]) for i, o in keys))
        return [key for key, result in zip(keys, results, strict=True) if not same(result, expected[key])]

    with swiftdet.BatchDispatcher(detector, queue_size=16) as dispatcher:
        assert asyncio.run(main(dispatcher)) == []
        for o, options in enumerate(OPTIONS):
            for i, result in enumerate(dispatcher.map(iter(images), **options)):
                assert same(result, expected[i, o])


def test_a_short_soak():
    """Random deadlines, cancellations, bad images, engine failures and closings; see tools/soak.py."""
    result = soak.soak(SOAK, seed=2, per_epoch=1000)
    assert result["submitted"] == SOAK
    assert min(result[name] for name in ("done", "failed", "expired", "rejected", "dropped", "cancelled")) > 0
    assert max(result["batch_sizes"]) == 8


@pytest.mark.slow
@pytest.mark.timeout(1200)  # a guard: a minute where nothing else runs
def test_memory_does_not_grow():
    """In a process of its own: what other tests left in this one's arenas would be refilled, and look like growth.

    A run of a third of a million still fills caches, hence the wider bound.
    """
    command = [sys.executable, soak.__file__, "--requests", "300000", "--seed", "3", "--most", "20"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def readings(slope_mb, *, steps=0, noise_mb=0.3, epochs=200):
    """Memory after each epoch of a process that grows so much a million requests, 5000 an epoch."""
    rng = np.random.default_rng(4)
    grown = np.arange(epochs) * 5000 * slope_mb / 1e6
    arena = 4.0 * (np.arange(epochs) >= epochs * 0.6) * steps
    return (80 + grown + arena + rng.normal(0, noise_mb, epochs)).tolist()


@pytest.mark.parametrize(
    ("slope_mb", "steps", "status"), [(0.0, 0, 0), (-3.0, 0, 0), (0.0, 1, 0), (8.0, 0, 1), (8.0, 1, 1)]
)
def test_the_soak_judges_growth_and_not_a_step(monkeypatch, capsys, slope_mb, steps, status):
    """An allocator that takes one more arena on the way does not leak; eight bytes a request do."""
    result = {"submitted": 1_000_000, "epochs": 200, "batch_sizes": {}, "memory_mb": readings(slope_mb, steps=steps)}
    monkeypatch.setattr(soak, "soak", lambda *_, **__: result)
    monkeypatch.setattr("sys.argv", ["soak.py"])
    assert soak.main() == status
    assert ("ABOVE" in capsys.readouterr().out) == bool(status)


def test_the_soak_says_when_it_cannot_judge():
    grown, verdict = soak.growth(readings(50.0, epochs=20), 100_000)
    assert grown is None
    assert "not judged" in verdict
