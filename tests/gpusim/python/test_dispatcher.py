"""The dispatcher on the GPU path: batches that are batches to the engine, and the same bits."""

from __future__ import annotations

import random
import threading

import numpy as np
import pytest

import swiftdet
from conftest import assert_same, picture

THREADS, CALLS = 16, 30
SIZES = [(64, 96), (97, 41), (33, 200), (3, 300), (120, 160)]
OPTIONS = [{}, {"conf": 0.3}, {"conf": 0.02, "max_det": 4}, {"classes": [1], "color": "rgb"}]


@pytest.mark.parametrize("sessions", [None, 1])
def test_threads_get_what_the_cpu_gives(read_model, columns_plan, sessions):
    loaded = read_model("ultralytics-columns")
    images = [picture(*size, seed) for seed, size in enumerate(SIZES)]
    with swiftdet.Detector(loaded.path, device="cpu", conf=0.05) as cpu:
        expected = {(i, o): cpu(image, **OPTIONS[o]) for i, image in enumerate(images) for o in range(len(OPTIONS))}
    wrong: list[BaseException] = []

    def work(seed):
        rng = random.Random(seed)  # noqa: S311 - chance, not secrets
        keys = [(rng.randrange(len(images)), rng.randrange(len(OPTIONS))) for _ in range(CALLS)]
        try:
            futures = [dispatcher.submit(images[i], **OPTIONS[o]) for i, o in keys]
            for key, future in zip(keys, futures, strict=True):
                assert_same(future.result(240), expected[key])
        except BaseException as e:  # noqa: BLE001 - asserted on below
            wrong.append(e)

    with (
        swiftdet.Detector(columns_plan, device="cuda", conf=0.05, sessions=sessions) as gpu,
        swiftdet.BatchDispatcher(gpu) as dispatcher,
    ):
        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []
    stats = dispatcher.stats()
    assert stats.done == THREADS * CALLS
    assert set(stats.batch_sizes) <= {1, 2, 4, 8}, "each size is a graph of its own: only a few are prepared"
    assert max(stats.batch_sizes) > 1


def test_a_batch_is_one_run_of_the_engine(columns_plan, tensorrt):
    """Eight requests that came while the only worker was busy."""
    with (
        swiftdet.Detector(columns_plan, device="cuda", conf=0.05) as gpu,
        swiftdet.BatchDispatcher(gpu, workers=1) as dispatcher,
    ):
        images = [picture(*SIZES[i % len(SIZES)], i) for i in range(8)]
        expected = gpu(images)  # prepares the graph of eight
        gate, inside = threading.Event(), threading.Event()

        def hold(_):
            inside.set()
            gate.wait(60)

        dispatcher.submit(images[0]).add_done_callback(hold)
        assert inside.wait(60)
        futures = [dispatcher.submit(image) for image in images]
        before = tensorrt.enqueues()
        gate.set()
        for future, wanted in zip(futures, expected, strict=True):
            assert_same(future.result(60), wanted)
        assert tensorrt.enqueues() - before <= 1  # none where the captured graph is replayed
    assert dispatcher.stats().batch_sizes == {1: 1, 8: 1}


def test_a_lost_device_fails_futures_and_no_thread(columns_plan, cuda):
    from stand_ins import ILLEGAL_ADDRESS

    with swiftdet.Detector(columns_plan, device="cuda") as gpu, swiftdet.BatchDispatcher(gpu) as dispatcher:
        assert isinstance(dispatcher.submit(picture(*SIZES[0])).result(60), swiftdet.Detections)
        cuda.fail_work(1, ILLEGAL_ADDRESS, sticky=True)
        errors = [dispatcher.submit(np.zeros((8, 8, 3), np.uint8)).exception(60) for _ in range(6)]
    assert all(isinstance(error, swiftdet.CudaError) for error in errors)
    assert dispatcher.stats().failed == 6
