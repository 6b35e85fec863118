"""The dispatcher on the GPU path: batches that are batches to the engine, and the same bits."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import sharing
import swiftdet
from conftest import assert_same, picture

CLASSES = 3
SIZES = [(64, 96), (97, 41), (33, 200), (3, 300), (120, 160)]


@pytest.mark.parametrize("sessions", [None, 1])
def test_threads_get_what_the_cpu_gives(read_model, columns_plan, capsys, sessions):
    pictures, kinds = sharing.images(), sharing.options(CLASSES)
    with swiftdet.Detector(read_model("ultralytics-columns").path, device="cpu") as cpu:
        twins = sharing.serial_twins(cpu, pictures, kinds)
    calls = sharing.wanted_calls(480)
    with (
        swiftdet.Detector(columns_plan, device="cuda", sessions=sessions) as gpu,
        swiftdet.BatchDispatcher(gpu) as dispatcher,
    ):
        outcome = sharing.hammer(sharing.through(dispatcher), pictures, kinds, twins, calls)
    stats = dispatcher.stats()
    with capsys.disabled():
        print(f"\n{sharing.THREADS} threads, dispatched: {outcome}, batches {stats.batch_sizes}")  # noqa: T201 - a proof
    assert (outcome.calls, outcome.crossings) == (calls, 0)
    assert stats.done == outcome.images
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
