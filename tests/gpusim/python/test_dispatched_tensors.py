"""Tensors on the GPU through the dispatcher: borrowed where they are submitted, given back once however they end."""

# ruff: noqa: F811 - a test's argument is the fixture that was imported

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import Mock

import pytest

import swiftdet
from conftest import assert_same, picture
from stand_ins import INVALID_VALUE
from swiftdet.errors import (
    BackendError,
    CudaError,
    DeadlineExceeded,
    DetectorClosed,
    DispatcherClosed,
    InvalidArgument,
    InvalidType,
    Overloaded,
)
from test_dlpack import PIXELS, OldTensor, Ready, Tensor, finished, gpu, on_gpu  # noqa: F401 - fixtures are used by name

LONG_S = 60
SEED = 5


class Held:
    """A dispatcher of one worker, which stands still from `__enter__` to `go`."""

    def __init__(self, detector, **options):
        self.dispatcher = swiftdet.BatchDispatcher(detector, workers=1, **options)
        self._gate = threading.Event()

    def __enter__(self):
        inside = threading.Event()

        def hold(_):
            inside.set()
            assert self._gate.wait(LONG_S)

        self.dispatcher.submit(PIXELS).add_done_callback(hold)
        assert inside.wait(LONG_S)
        return self

    def go(self):
        self._gate.set()

    def __exit__(self, *_):
        self._gate.set()
        self.dispatcher.close(cancel=True)


@pytest.fixture
def stalled(monkeypatch):
    """An engine that waits in each run: (a run has begun, it may go on)."""
    begun, gate = threading.Event(), threading.Event()
    detections = swiftdet.Detector._detections

    def wait(self, *arguments):
        begun.set()
        assert gate.wait(LONG_S)
        return detections(self, *arguments)

    monkeypatch.setattr(swiftdet.Detector, "_detections", wait)
    yield begun, gate
    gate.set()


def counts(tensors):
    return [(tensor.exported, tensor.deleted) for tensor in tensors]


def assert_no_stream_is_lent(cuda, detector, most):
    """As many as were ever lent at once can be lent again without a new one being made."""
    core = detector._pipeline_for(detector.spec.imgsz)._core
    before = sorted(cuda.live())
    loans = [core.lend_stream() for _ in range(most)]
    assert len({loan.handle for loan in loans}) == most
    for loan in loans:
        loan.release()
    assert sorted(cuda.live()) == before


@pytest.mark.parametrize("kind", [Tensor, OldTensor])
def test_borrowed_by_the_thread_that_submits(cuda, gpu, on_gpu, kind):
    asked = []

    class Owner(kind):
        def synchronize(self, stream):
            asked.append(threading.get_ident())
            super().synchronize(stream)

    expected, pixels = gpu(PIXELS), on_gpu()
    tensors = [Owner(cuda, pixels, PIXELS.shape) for _ in range(4)]
    at_result = []
    with swiftdet.BatchDispatcher(gpu) as dispatcher:
        future = dispatcher.submit(tensors[0])
        future.add_done_callback(lambda _: at_result.extend(counts(tensors[:1])))
        assert_same(future.result(LONG_S), expected)
        assert_same(asyncio.run(dispatcher.asubmit(tensors[1])), expected)
        for result in dispatcher.map(iter(tensors[2:])):
            assert_same(result, expected)
    assert asked == [threading.get_ident()] * 4
    assert counts(tensors) == [(1, 1)] * 4
    assert at_result == [(1, 1)], "given back before the future is resolved"
    assert_no_stream_is_lent(cuda, gpu, 1)


@pytest.mark.parametrize("fails", [False, True])
def test_a_call_that_its_thread_runs_gives_back_at_its_end(cuda, gpu, on_gpu, monkeypatch, fails):
    expected, tensor = gpu(PIXELS), Tensor(cuda, on_gpu(), PIXELS.shape)
    with swiftdet.BatchDispatcher(gpu) as dispatcher, ThreadPoolExecutor(1) as thread:
        monkeypatch.setattr(dispatcher._crew, "submit", None)  # no worker is asked
        if fails:
            monkeypatch.setattr(gpu, "_detections", Mock(side_effect=BackendError("no")))
            assert isinstance(thread.submit(dispatcher, tensor).exception(LONG_S), BackendError)
        else:
            assert_same(thread.submit(dispatcher, tensor).result(LONG_S), expected)
        assert counts([tensor]) == [(1, 1)]
    assert_no_stream_is_lent(cuda, gpu, 1)


def test_a_batch_mixes_memory_of_the_host_and_of_the_gpu(cuda, gpu, on_gpu):
    pictures = [picture(40 + 3 * i, 70, i) for i in range(8)]
    expected = gpu(pictures)
    with Held(gpu) as held:
        images = [Tensor(cuda, on_gpu(p), p.shape) if i % 2 else p for i, p in enumerate(pictures)]
        futures = [held.dispatcher.submit(image) for image in images]
        tensors = images[1::2]
        assert counts(tensors) == [(1, 0)] * 4, "borrowed before a worker is free, and kept until then"
        assert len({t.streams[0] for t in tensors}) == 4
        held.go()
        for future, wanted in zip(futures, expected, strict=True):
            assert_same(future.result(LONG_S), wanted)
    assert held.dispatcher.stats().batch_sizes == {1: 1, 8: 1}
    assert counts(tensors) == [(1, 1)] * 4
    assert_no_stream_is_lent(cuda, gpu, 4)


def test_a_stream_named_by_its_number_may_go_before_the_run(cuda, gpu, on_gpu):
    """`__cuda_array_interface__` names a stream that nobody keeps, and 2 would be another one in another thread."""
    expected, array = gpu(PIXELS), on_gpu()
    with Held(gpu) as held:
        cuda.clear_log()
        future = held.dispatcher.submit(array)
        calls = [line.split()[0] for line in cuda.log()]
        assert [c for c in calls if c in {"cudaEventRecordWithFlags", "cudaEventRecord", "cudaStreamWaitEvent"}]
        assert cuda.library.cudaStreamDestroy(array._stream) == 0
        assert cuda.library.cudaStreamCreateWithFlags(ctypes.byref(array._stream), 1) == 0
        held.go()
        assert_same(future.result(LONG_S), expected)
    assert_no_stream_is_lent(cuda, gpu, 1)


def test_after_a_failed_batch_each_is_still_there_for_its_run_alone(cuda, gpu, on_gpu):
    expected = gpu([PIXELS] * 4)[0]
    gpu(PIXELS)
    arrays = [on_gpu() for _ in range(4)]
    with Held(gpu) as held:
        tensors = [Tensor(cuda, array, PIXELS.shape) for array in arrays]
        futures = [held.dispatcher.submit(tensor) for tensor in tensors]
        cuda.fail(1, INVALID_VALUE, name="cudaGraphLaunch")
        held.go()
        for future in futures:
            assert_same(future.result(LONG_S), expected)
    assert cuda.failed()
    assert held.dispatcher.stats().retried == 4
    assert counts(tensors) == [(1, 1)] * 4
    assert_no_stream_is_lent(cuda, gpu, 4)


def test_who_fails_again_is_given_back_too(cuda, gpu, finished):
    gpu([PIXELS] * 2)
    with Held(gpu) as held:
        tensors = [Ready(finished, PIXELS.shape) for _ in range(2)]
        futures = [held.dispatcher.submit(tensor) for tensor in tensors]
        cuda.fail(1, INVALID_VALUE, name="cudaMemcpyAsync", sticky=True)
        held.go()
        errors = [future.exception(LONG_S) for future in futures]
        cuda.heal()
        cuda.fail(0, 0)
    assert all(isinstance(error, BackendError | CudaError) for error in errors), errors
    assert counts(tensors) == [(1, 1)] * 2


def test_every_end_in_the_queue(cuda, gpu, finished):
    """Cancelled, expired, dropped, closed; the worker stands still all the time."""
    tensors = {how: Ready(finished, PIXELS.shape) for how in ("cancelled", "expired", "dropped", "closed", "next")}
    with Held(gpu, queue_size=2, overflow="drop_oldest") as held:
        future = held.dispatcher.submit(tensors["cancelled"])
        assert future.cancel()
        assert counts([tensors["cancelled"]]) == [(1, 1)]
        with pytest.raises(DeadlineExceeded):
            held.dispatcher.submit(tensors["expired"], deadline_ms=1).result(LONG_S)
        assert counts([tensors["expired"]]) == [(1, 1)]
        futures = [held.dispatcher.submit(tensors[how]) for how in ("dropped", "closed", "next")]
        assert isinstance(futures[0].exception(LONG_S), Overloaded)
        assert counts([tensors["dropped"]]) == [(1, 1)]
        assert counts([tensors["closed"], tensors["next"]]) == [(1, 0)] * 2
        held.dispatcher.close(wait=False, cancel=True)
        assert [type(future.exception(LONG_S)) for future in futures[1:]] == [DispatcherClosed] * 2
        assert counts(tensors.values()) == [(1, 1)] * 5
        late = Ready(finished, PIXELS.shape)
        with pytest.raises(DispatcherClosed):
            held.dispatcher.submit(late)
        assert late.exported == late.deleted
    assert_no_stream_is_lent(cuda, gpu, 2)


def test_no_place(cuda, gpu, finished):
    refused, waited, gone = (Ready(finished, PIXELS.shape) for _ in range(3))
    with Held(gpu, queue_size=1, overflow="reject") as held:
        held.dispatcher.submit(PIXELS)
        with pytest.raises(Overloaded):
            held.dispatcher.submit(refused)
        assert counts([refused]) == [(1, 1)]
    with Held(gpu, queue_size=1) as held:
        held.dispatcher.submit(PIXELS)
        with pytest.raises(Overloaded):
            held.dispatcher.submit(waited, timeout=0.01)
        assert counts([waited]) == [(1, 1)]

        async def give_up():
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(held.dispatcher.asubmit(gone), 0.01)

        asyncio.run(give_up())
        assert counts([gone]) == [(1, 1)]
    assert_no_stream_is_lent(cuda, gpu, 1)


def test_a_deadline_during_the_run_leaves_the_memory_to_the_run(cuda, gpu, finished, stalled):
    begun, gate = stalled
    tensor = Ready(finished, PIXELS.shape)
    with swiftdet.BatchDispatcher(gpu, workers=1) as dispatcher:
        future = dispatcher.submit(tensor, deadline_ms=200)
        if not begun.wait(0.15):
            pytest.skip("the machine was too busy to begin in time")
        assert isinstance(future.exception(LONG_S), DeadlineExceeded)
        assert counts([tensor]) == [(1, 0)], "the engine may still read it"
        gate.set()
    assert counts([tensor]) == [(1, 1)]
    assert_no_stream_is_lent(cuda, gpu, 1)


def test_what_cannot_be_borrowed_is_its_own_futures_error(cuda, gpu, finished, on_gpu):
    with Held(gpu) as held:
        good = Ready(finished, PIXELS.shape)
        wrong = Ready(finished, PIXELS.shape, dtype=(2, 32, 1))
        elsewhere = Ready(on_gpu(device=1), PIXELS.shape, device=(2, 1))
        futures = [held.dispatcher.submit(image) for image in (wrong, good, elsewhere)]
        assert (wrong.exported, wrong.deleted) == (1, 1)
        held.go()
        with pytest.raises(InvalidType, match="expected uint8, got float32"):
            futures[0].result(LONG_S)
        with pytest.raises(InvalidArgument, match="memory of cuda:1"):
            futures[2].result(LONG_S)
        assert_same(futures[1].result(LONG_S), gpu(PIXELS))
    stats = held.dispatcher.stats()
    assert (stats.done, stats.failed) == (2, 2)
    assert counts([good, elsewhere]) == [(1, 1), (0, 0)]


def test_an_error_of_borrowing_keeps_no_frames_and_leaves_others_alone(cuda, gpu, finished):
    class Refuses(Ready):
        def synchronize(self, _):
            raise BufferError("it is being written")

    handled = []
    with swiftdet.BatchDispatcher(gpu) as dispatcher:
        try:
            {}["no such key"]
        except KeyError as e:
            handled.append((e, e.__traceback__))
            error = dispatcher.submit(Refuses(finished, PIXELS.shape)).exception(LONG_S)
    assert handled[0][1] is not None
    assert handled[0][0].__traceback__ is handled[0][1]
    handled.clear()
    assert isinstance(error, InvalidArgument)
    assert isinstance(error.__cause__, BufferError)
    assert (error.__cause__.__traceback__, error.__cause__.__context__) == (None, None)


def test_a_closed_detector(columns_plan, finished):
    tensor = Ready(finished, PIXELS.shape)
    with swiftdet.Detector(columns_plan, device="cuda") as detector, Held(detector) as held:
        future = held.dispatcher.submit(tensor)
        detector.close()
        after = held.dispatcher.submit(tensor)
        held.go()
        assert isinstance(future.exception(LONG_S), DetectorClosed)
        assert isinstance(after.exception(LONG_S), DetectorClosed)
    assert counts([tensor]) == [(1, 1)]


def test_random_ends_from_many_threads(cuda, gpu, finished):
    """Deadlines, cancellations, a short queue and an engine that fails now and then, until the dispatcher is closed."""
    owners, wrong = [], []
    expected = gpu(PIXELS)
    dispatcher = swiftdet.BatchDispatcher(gpu, queue_size=8, overflow="drop_oldest", max_batch=4)

    def work(seed):
        rng = random.Random(seed)  # noqa: S311 - chance, not secrets
        try:
            for _ in range(60):
                tensor = Ready(finished, PIXELS.shape)
                owners.append(tensor)
                deadline = rng.choice([None, 0.5, 3.0, 50.0])
                with contextlib.suppress(Overloaded, DispatcherClosed):
                    future = dispatcher.submit(tensor, priority=rng.randrange(2), deadline_ms=deadline)
                    if rng.random() < 0.3:
                        future.cancel()
                    elif rng.random() < 0.5:
                        with contextlib.suppress(DeadlineExceeded, BackendError, CudaError):
                            assert_same(future.result(LONG_S), expected)
                if rng.random() < 0.1:
                    cuda.fail(rng.randrange(1, 4), INVALID_VALUE, name="cudaGraphLaunch")
        except BaseException as e:  # noqa: BLE001 - asserted on below
            wrong.append(e)

    threads = [threading.Thread(target=work, args=(SEED + i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads[:4]:
        thread.join()
    dispatcher.close(cancel=True)
    for thread in threads[4:]:
        thread.join()
    assert wrong == []
    assert len(owners) == 6 * 60
    assert [(t.exported, t.deleted) for t in owners if t.exported != t.deleted or t.exported > 1] == []
    cuda.heal()
    gc.collect()
    streams = sum(line.startswith("stream") for line in cuda.live())
    assert streams < 40, "lent again, not made anew"
