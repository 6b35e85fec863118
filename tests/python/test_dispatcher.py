"""BatchDispatcher with its threads, on an engine that is held and let go: what a caller sees."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import itertools
import json
import threading
import time
import weakref
from concurrent.futures import CancelledError
from pathlib import Path

import numpy as np
import pytest

import swiftdet
from controlled_engine import WAIT, make_detector, picture, until, write_model
from swiftdet import DeadlineExceeded, DispatcherClosed, Overloaded

HELPERS = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "data")]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def held(model):
    """A dispatcher with one worker, which is busy with image 1, and its engine, which is held."""
    made = []

    def make(**options):
        detector, engine = make_detector(model)
        dispatcher = swiftdet.BatchDispatcher(detector, **{"workers": 1, **options})
        engine.hold()
        first = dispatcher.submit(picture(1))
        engine.wait_for_a_run()
        made.append((dispatcher, engine))
        return dispatcher, engine, first

    yield make
    for dispatcher, engine in made:
        engine.let_go()
        dispatcher.close()
        check_accounts(dispatcher)
    assert [t.name for t in threading.enumerate() if t.name.startswith("swiftdet-dispatch")] == []


def check_accounts(dispatcher):
    stats = dispatcher.stats()
    assert stats.submitted == stats.resolved + stats.in_flight
    assert stats.in_flight == 0
    assert sum(stats.batch_sizes.values()) == stats.exec_count
    assert sum(size * count for size, count in stats.batch_sizes.items()) == stats.inference_count


def same(a, b):
    return np.array_equal(a.xyxy, b.xyxy) and np.array_equal(a.conf, b.conf) and np.array_equal(a.cls, b.cls)


# --- results --------------------------------------------------------------------------------------------------------


def test_a_future_gets_what_the_detector_gives(model):
    detector, _ = make_detector(model)
    with swiftdet.BatchDispatcher(detector) as dispatcher:
        future = dispatcher.submit(picture(7), conf=0.2)
        assert isinstance(future, concurrent.futures.Future)
        assert same(future.result(WAIT), detector(picture(7), conf=0.2))
        assert len(future.result()) > 0


def test_a_request_that_finds_the_engine_idle_is_not_delayed(model):
    """The delay is longer than the guard: held back once, the future would not be there in time."""
    detector, _ = make_detector(model)
    with swiftdet.BatchDispatcher(detector, max_delay_ms=10 * WAIT * 1e3) as dispatcher:
        for value in range(5):
            dispatcher.submit(picture(value)).result(WAIT)


def test_an_engine_that_becomes_idle_takes_what_waits_at_once(held):
    dispatcher, engine, first = held(max_delay_ms=10 * WAIT * 1e3, workers=2)
    second = dispatcher.submit(picture(2))
    engine.let_go()
    first.result(WAIT)
    second.result(WAIT)


def test_a_spare_worker_waits_for_mates_while_the_engine_is_busy(held):
    """Two workers, one engine session: the second worker starts when its batch is full, not before."""
    dispatcher, engine, first = held(max_delay_ms=10 * WAIT * 1e3, workers=2, max_batch=3)
    futures = [dispatcher.submit(picture(value)) for value in (2, 3)]
    time.sleep(0.05)
    assert engine.seen == [1]
    futures.append(dispatcher.submit(picture(4)))
    engine.wait_for_a_run()
    engine.let_go()
    concurrent.futures.wait([first, *futures], WAIT)
    dispatcher.close()
    assert dispatcher.stats().batch_sizes == {1: 1, 3: 1}


def test_a_spare_worker_waits_no_longer_than_the_delay(held):
    dispatcher, engine, _ = held(max_delay_ms=20, workers=2)
    dispatcher.submit(picture(2))
    engine.wait_for_a_run()
    assert engine.seen == [1, 2]


def test_a_spare_worker_starts_early_for_a_deadline(held):
    """The run before took longer than this request has: it must not wait for mates."""
    dispatcher, engine, first = held(max_delay_ms=10 * WAIT * 1e3, workers=2)
    time.sleep(0.5)
    engine.let_go()
    first.result(WAIT)
    engine.hold()
    dispatcher.submit(picture(2))
    engine.wait_for_a_run()
    dispatcher.submit(picture(3), deadline_ms=450)
    engine.wait_for_a_run()
    assert engine.seen == [1, 2, 3]


def test_what_came_while_the_engine_was_busy_makes_a_batch(held):
    dispatcher, engine, first = held(max_batch=4)
    futures = [dispatcher.submit(picture(value)) for value in range(2, 8)]
    engine.let_go()
    concurrent.futures.wait([first, *futures], WAIT)
    dispatcher.close()
    stats = dispatcher.stats()
    assert stats.batch_sizes == {1: 1, 4: 1, 2: 1}
    assert engine.seen == [1, 2, 3, 4, 5, 6, 7]
    assert stats.done == 7
    for name in ("queue_us", "compute_input_us", "compute_infer_us", "compute_output_us", "request_us"):
        assert getattr(stats, name) > 0


def test_a_batch_never_mixes_options(held):
    dispatcher, engine, _ = held()
    options = [{"conf": 0.1}, {"conf": 0.2}, {"conf": 0.1, "max_det": 5}, {}]
    futures = [dispatcher.submit(picture(10 + i), **options[i % 4]) for i in range(12)]
    engine.let_go()
    concurrent.futures.wait(futures, WAIT)
    dispatcher.close()
    assert dispatcher.stats().batch_sizes == {1: 1, 3: 4}
    expected, _ = make_detector(dispatcher._target.detector._loaded.path)
    for i, future in enumerate(futures):
        assert same(future.result(), expected(picture(10 + i), **options[i % 4]))


def test_higher_priorities_overtake(held):
    dispatcher, engine, _ = held(max_batch=1)
    futures = [dispatcher.submit(picture(10 + p), priority=p) for p in (0, 3, -1, 2)]
    engine.let_go()
    concurrent.futures.wait(futures, WAIT)
    assert engine.seen == [1, 13, 12, 10, 9]


# --- options --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "error"),
    [
        ({"max_batch": 0}, ValueError),
        ({"max_batch": 2.0}, TypeError),
        ({"max_delay_ms": -1}, ValueError),
        ({"max_delay_ms": float("nan")}, ValueError),
        ({"max_delay_ms": "1"}, TypeError),
        ({"queue_size": 0}, ValueError),
        ({"overflow": "drop"}, ValueError),
        ({"workers": 0}, ValueError),
        ({"workers": True}, TypeError),
    ],
    ids=str,
)
def test_a_bad_constructor_option_is_one_clear_error(model, option, error):
    detector, _ = make_detector(model)
    before = threading.active_count()
    with pytest.raises(error, match=next(iter(option))) as caught:
        swiftdet.BatchDispatcher(detector, **option)
    assert isinstance(caught.value, swiftdet.SwiftdetError)
    assert threading.active_count() == before


def test_only_detectors_can_be_dispatched_to():
    with pytest.raises(swiftdet.InvalidType, match=r"expected a swiftdet.Detector, got list"):
        swiftdet.BatchDispatcher([])


@pytest.mark.parametrize(
    "option",
    [
        {"priority": 1.5},
        {"priority": True},
        {"deadline_ms": "soon"},
        {"deadline_ms": float("inf")},
        {"timeout": -1},
        {"timeout": float("nan")},
        {"conf": 2},
        {"imgsz": 1},
        {"threshold": 0.5},
    ],
    ids=str,
)
def test_a_bad_option_is_raised_by_submit_and_is_no_request(model, option):
    detector, _ = make_detector(model)
    with swiftdet.BatchDispatcher(detector) as dispatcher:
        with pytest.raises((swiftdet.InvalidArgument, swiftdet.InvalidType), match=next(iter(option))):
            dispatcher.submit(picture(1), **option)
        if "timeout" not in option:
            with pytest.raises((swiftdet.InvalidArgument, swiftdet.InvalidType), match=next(iter(option))):
                dispatcher.map([picture(1)], **option)
        assert dispatcher.stats().submitted == 0


# --- failures -------------------------------------------------------------------------------------------------------


def test_an_invalid_image_fails_its_own_future_only(held, tmp_path):
    dispatcher, engine, _ = held()
    bad = [None, tmp_path / "missing.jpg", b"no image", np.zeros((8, 8, 3), np.float32), [picture(2)]]
    futures = [dispatcher.submit(image) for image in (picture(2), *bad, picture(3))]
    engine.let_go()
    assert len(futures[0].result(WAIT)) > 0
    assert len(futures[-1].result(WAIT)) > 0
    for future in futures[1:-1]:
        with pytest.raises((swiftdet.ImageError, swiftdet.InvalidType)):
            future.result(WAIT)
    dispatcher.close()
    stats = dispatcher.stats()
    assert (stats.failed, stats.done, stats.retried) == (len(bad), 3, 0)


def test_an_image_that_the_engine_cannot_take_fails_alone(held):
    dispatcher, engine, _ = held()

    def fails(value):
        if value == 3:
            raise ValueError("not this one")

    engine.fails = fails
    futures = [dispatcher.submit(picture(value)) for value in (2, 3, 4)]
    engine.let_go()
    for index in (0, 2):
        assert len(futures[index].result(WAIT)) > 0
    with pytest.raises(swiftdet.BackendError, match="not this one"):
        futures[1].result(WAIT)
    dispatcher.close()
    stats = dispatcher.stats()
    assert (stats.done, stats.failed, stats.retried) == (3, 1, 3)
    assert stats.batch_sizes == {1: 4, 3: 1}


def test_an_engine_that_fails_fails_that_batch_only(held):
    dispatcher, engine, first = held()

    def fails(value):
        if value in (2, 3):
            raise RuntimeError(f"broken for {value}")

    engine.fails = fails
    futures = [dispatcher.submit(picture(value)) for value in (2, 3)]
    engine.let_go()
    first.result(WAIT)
    errors = [future.exception(WAIT) for future in futures]
    assert all(isinstance(error, swiftdet.BackendError) for error in errors)
    assert errors[0] is not errors[1]  # each thread that raises one adds to its own traceback
    assert len(dispatcher.submit(picture(4)).result(WAIT)) > 0


def test_a_worker_survives_an_engine_that_raises_systemexit(held):
    dispatcher, engine, _ = held()

    def fails(value):
        if value == 2:
            raise SystemExit

    engine.fails = fails
    future = dispatcher.submit(picture(2))
    engine.let_go()
    assert future.exception(WAIT) is not None
    assert len(dispatcher.submit(picture(3)).result(WAIT)) > 0


def test_a_worker_survives_callbacks_that_raise(held, caplog):
    dispatcher, engine, _ = held()

    def leave(_):
        raise SystemExit

    future = dispatcher.submit(picture(2))
    future.add_done_callback(leave)
    engine.let_go()
    future.result(WAIT)
    assert len(dispatcher.submit(picture(3)).result(WAIT)) > 0
    until(lambda: "a callback of a future raised" in caplog.text)


def test_a_fault_of_the_dispatcher_itself_ends_everything_aloud(held, monkeypatch, caplog):
    """A worker that dies must not leave futures behind that nobody resolves."""
    dispatcher, engine, first = held()
    queued = [dispatcher.submit(picture(2)) for _ in range(3)]
    monkeypatch.setattr(dispatcher._crew, "_settle_batch", lambda *_: 1 / 0)
    engine.let_go()
    for future in (first, *queued):
        with pytest.raises(DispatcherClosed, match="ZeroDivisionError") as caught:
            future.result(WAIT)
        assert isinstance(caught.value.__cause__, ZeroDivisionError)
    with pytest.raises(DispatcherClosed, match="failed"):
        dispatcher.submit(picture(3))
    assert "a thread of a dispatcher failed" in caplog.text


def test_a_closed_detector_fails_futures_and_not_the_dispatcher(model):
    detector, _ = make_detector(model)
    with swiftdet.BatchDispatcher(detector) as dispatcher:
        dispatcher.submit(picture(1)).result(WAIT)
        detector.close()
        for future in [dispatcher.submit(picture(1)) for _ in range(5)]:
            with pytest.raises(swiftdet.DetectorClosed):
                future.result(WAIT)


def test_failed_requests_leave_nothing_to_the_garbage_collector(model):
    """An error keeps the frames of its traceback; these must not lead back to the future."""
    detector, engine = make_detector(model)

    def fails(_):
        raise ValueError

    engine.fails = fails
    with swiftdet.BatchDispatcher(detector, workers=1) as dispatcher:
        gc.collect()
        gc.disable()
        try:
            images = [picture(1) for _ in range(4)]
            alive = [weakref.ref(dispatcher.submit(image)) for image in images]
            alive.append(weakref.ref(dispatcher.submit(b"no image")))
            dispatcher.close()
            assert [ref() for ref in alive] == [None] * 5
        finally:
            gc.enable()


# --- overload -------------------------------------------------------------------------------------------------------


def test_reject(held):
    dispatcher, _, _ = held(queue_size=2, overflow="reject")
    for value in (2, 3):
        dispatcher.submit(picture(value))
    with pytest.raises(Overloaded, match="2 requests wait"):
        dispatcher.submit(picture(4))
    assert dispatcher.stats().rejected == 1


def test_drop_oldest(held):
    dispatcher, engine, _ = held(queue_size=2, overflow="drop_oldest", max_batch=1)
    futures = [dispatcher.submit(picture(value)) for value in range(2, 7)]
    for future in futures[:3]:
        with pytest.raises(Overloaded, match="newer request"):
            future.result(WAIT)
    engine.let_go()
    concurrent.futures.wait(futures, WAIT)
    assert engine.seen == [1, 5, 6]
    assert dispatcher.stats().dropped == 3


def test_drop_oldest_refuses_who_is_below_all(held):
    dispatcher, _, _ = held(queue_size=1, overflow="drop_oldest")
    kept = dispatcher.submit(picture(2), priority=1)
    with pytest.raises(Overloaded):
        dispatcher.submit(picture(3))
    assert not kept.done()


def test_block_waits_for_a_place(held):
    dispatcher, engine, _ = held(queue_size=1)
    dispatcher.submit(picture(2))
    blocked = concurrent.futures.Future()
    thread = threading.Thread(target=lambda: blocked.set_result(dispatcher.submit(picture(3))))
    thread.start()
    until(lambda: dispatcher.stats().queued == 2)
    assert not blocked.done()
    engine.let_go()
    thread.join(WAIT)
    assert len(blocked.result(WAIT).result(WAIT)) > 0


@pytest.mark.parametrize("timeout", [0, 0.02])
def test_block_gives_up(held, timeout):
    dispatcher, engine, _ = held(queue_size=1)
    queued = dispatcher.submit(picture(2))
    with pytest.raises(Overloaded, match="queue is full"):
        dispatcher.submit(picture(3), timeout=timeout)
    stats = dispatcher.stats()
    assert (stats.rejected, stats.queued) == (1, 1)
    engine.let_go()
    queued.result(WAIT)


def test_a_request_that_found_a_place_in_time_is_not_given_up(held):
    dispatcher, engine, first = held(queue_size=1, max_batch=1)
    queued = dispatcher.submit(picture(2))

    def free_a_place():
        until(lambda: dispatcher.stats().queued == 2)
        queued.cancel()

    canceller = threading.Thread(target=free_a_place)
    canceller.start()
    admitted = dispatcher.submit(picture(3), timeout=1.0)
    canceller.join(WAIT)
    time.sleep(1.1)  # its timeout passes while it is queued
    engine.let_go()
    first.result(WAIT)
    assert len(admitted.result(WAIT)) > 0


def test_cancelling_frees_a_place(held):
    dispatcher, engine, _ = held(queue_size=1)
    queued = dispatcher.submit(picture(2))
    blocked = threading.Thread(target=dispatcher.submit, args=(picture(3),))
    blocked.start()
    until(lambda: dispatcher.stats().queued == 2)
    assert queued.cancel()
    blocked.join(WAIT)
    assert not blocked.is_alive()
    engine.let_go()
    dispatcher.close()
    assert engine.seen == [1, 3]


def test_a_deadline_passes_while_waiting_for_a_place(held):
    dispatcher, _, _ = held(queue_size=1)
    dispatcher.submit(picture(2))
    future = dispatcher.submit(picture(3), deadline_ms=20)
    with pytest.raises(DeadlineExceeded):
        future.result(WAIT)


# --- deadlines ------------------------------------------------------------------------------------------------------


def test_an_expired_request_never_reaches_the_engine(held):
    dispatcher, engine, _ = held()
    late = dispatcher.submit(picture(2), deadline_ms=10)
    in_time = dispatcher.submit(picture(3), deadline_ms=WAIT * 1e3)
    with pytest.raises(DeadlineExceeded, match=r"deadline_ms=10: .* in the queue"):
        late.result(WAIT)  # while the only worker is busy
    engine.let_go()
    in_time.result(WAIT)
    dispatcher.close()
    assert engine.seen == [1, 3]
    assert dispatcher.stats().expired == 1


@pytest.mark.parametrize("deadline_ms", [0, -5.0])
def test_no_time_left_is_an_expired_future(held, deadline_ms):
    dispatcher, engine, _ = held()
    future = dispatcher.submit(picture(2), deadline_ms=deadline_ms)
    assert isinstance(future.exception(WAIT), DeadlineExceeded)
    assert isinstance(future.exception(), TimeoutError)
    assert engine.seen == [1]


def test_a_deadline_that_passes_in_the_engine_resolves_the_future_then(held):
    dispatcher, engine, first = held()
    engine.let_go()
    first.result(WAIT)
    engine.hold()
    late = dispatcher.submit(picture(2), deadline_ms=50)
    engine.wait_for_a_run()
    with pytest.raises(DeadlineExceeded, match="after it left the queue"):
        late.result(WAIT)  # the engine is held still
    assert not late.cancel()
    engine.let_go()
    dispatcher.close()
    assert dispatcher.stats().expired == 1


# --- cancelling -----------------------------------------------------------------------------------------------------


def test_a_queued_future_can_be_cancelled_and_a_running_one_cannot(held):
    dispatcher, engine, first = held()
    queued = dispatcher.submit(picture(2))
    assert not first.cancel()
    assert queued.cancel()
    assert queued.cancel()  # still
    done, _ = concurrent.futures.wait([queued], WAIT)  # knows cancelled futures only once they were notified
    assert done == {queued}
    with pytest.raises(CancelledError):
        queued.result()
    engine.let_go()
    dispatcher.close()
    assert engine.seen == [1]
    assert dispatcher.stats().cancelled == 1


def test_ctrl_c_while_waiting_for_a_place_withdraws_the_request(model, run_python):
    code = f"""
import sys, signal, threading, time, os
sys.path[:0] = {HELPERS!r}
import pathlib, swiftdet
from controlled_engine import make_detector, picture
detector, engine = make_detector(pathlib.Path({str(model)!r}))
dispatcher = swiftdet.BatchDispatcher(detector, workers=1, queue_size=1)
engine.hold()
dispatcher.submit(picture(1))
engine.wait_for_a_run()
dispatcher.submit(picture(2))
def interrupt():
    while dispatcher.stats().queued < 2:
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=interrupt).start()
try:
    dispatcher.submit(picture(3))
except KeyboardInterrupt:
    print(dispatcher.stats().cancelled, dispatcher.stats().queued)
engine.let_go()
"""
    assert run_python(code).split() == ["1", "1"]


# --- callbacks ------------------------------------------------------------------------------------------------------


def test_submitting_from_a_callback_never_blocks_the_worker(held):
    """The only worker runs the callback while the queue is full: if it waited for a place, nobody would make one."""
    dispatcher, engine, first = held(queue_size=1)
    chained = []
    first.add_done_callback(lambda _: chained.extend(dispatcher.submit(picture(v)) for v in (3, 4, 5)))
    dispatcher.submit(picture(2))
    engine.let_go()
    until(lambda: len(chained) == 3)
    for future in chained:
        assert len(future.result(WAIT)) > 0


def test_a_callback_that_waits_for_a_place_hears_of_its_timeout_by_the_future(held):
    dispatcher, engine, first = held(queue_size=1, workers=1)
    chained = []

    def callback(_):
        engine.hold()
        chained.append(dispatcher.submit(picture(3), timeout=0.01))
        assert isinstance(chained[0].exception(WAIT), Overloaded)
        engine.let_go()

    first.add_done_callback(callback)
    dispatcher.submit(picture(2))
    engine.let_go()
    until(lambda: chained and chained[0].done())


def test_closing_from_a_callback_does_not_wait_for_itself(held):
    dispatcher, engine, first = held()
    first.add_done_callback(lambda _: dispatcher.close())
    queued = dispatcher.submit(picture(2))
    engine.let_go()
    assert len(queued.result(WAIT)) > 0
    with pytest.raises(DispatcherClosed):
        dispatcher.submit(picture(3))


# --- map ------------------------------------------------------------------------------------------------------------


def test_map_keeps_the_order(model):
    detector, _ = make_detector(model)
    with swiftdet.BatchDispatcher(detector, workers=3, max_batch=2) as dispatcher:
        results = list(dispatcher.map(picture(v) for v in range(60)))
        assert len(results) == 60
        assert all(same(result, detector(picture(v))) for v, result in enumerate(results))


def test_map_takes_a_bounded_number_ahead(model):
    """Of an iterable without an end."""
    detector, _ = make_detector(model)
    taken = []

    def endless():
        for v in itertools.count():
            taken.append(v)
            yield picture(v % 200)

    with swiftdet.BatchDispatcher(detector) as dispatcher:
        results = dispatcher.map(endless(), ahead=5)
        assert taken == []  # nothing before the first step
        for step in range(1, 20):
            next(results)
            assert len(taken) <= step + 5
        results.close()
        assert len(taken) <= 19 + 5
    check_accounts(dispatcher)


def test_map_waits_for_places_whatever_the_policy(model):
    detector, _ = make_detector(model)
    with swiftdet.BatchDispatcher(detector, queue_size=1, overflow="reject") as dispatcher:
        assert len(list(dispatcher.map([picture(1)] * 40, ahead=20))) == 40


def test_map_raises_in_the_place_of_the_bad_image_or_returns_the_error(held):
    dispatcher, engine, _ = held()
    engine.let_go()
    images = [picture(1), b"no image", picture(2)]
    results = dispatcher.map(images)
    assert len(next(results)) > 0
    with pytest.raises(swiftdet.ImageError):
        next(results)
    with pytest.raises(StopIteration):
        next(results)
    kinds = [type(result) for result in dispatcher.map(images, return_exceptions=True)]
    assert kinds == [swiftdet.Detections, swiftdet.ImageError, swiftdet.Detections]


def test_closing_a_map_cancels_what_is_queued(held):
    dispatcher, engine, _ = held(max_batch=1)
    results = dispatcher.map((picture(v) for v in range(2, 10)), ahead=6)
    engine.let_go()
    next(results)
    engine.hold()
    results.close()
    engine.let_go()
    dispatcher.close()
    stats = dispatcher.stats()
    assert stats.done + stats.cancelled == stats.submitted


# --- asyncio --------------------------------------------------------------------------------------------------------


def test_asubmit(model):
    detector, _ = make_detector(model)

    async def main(dispatcher):
        return await asyncio.gather(*(dispatcher.asubmit(picture(v), conf=0.3) for v in range(20)))

    with swiftdet.BatchDispatcher(detector) as dispatcher:
        for v, result in enumerate(asyncio.run(main(dispatcher))):
            assert same(result, detector(picture(v), conf=0.3))


def test_many_event_loops_share_a_dispatcher(model):
    detector, _ = make_detector(model)
    expected = [detector(picture(v)) for v in range(30)]
    wrong = []

    async def main(dispatcher):
        results = await asyncio.gather(*(dispatcher.asubmit(picture(v)) for v in range(30)))
        wrong.extend(v for v, result in enumerate(results) if not same(result, expected[v]))

    with swiftdet.BatchDispatcher(detector, queue_size=8) as dispatcher:
        threads = [threading.Thread(target=lambda: asyncio.run(main(dispatcher))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert dispatcher.stats().done == 120


def test_a_full_queue_does_not_block_the_event_loop(held):
    dispatcher, engine, _ = held(queue_size=1)

    async def main():
        tasks = [asyncio.create_task(dispatcher.asubmit(picture(v))) for v in (2, 3, 4)]
        await asyncio.sleep(0.02)
        assert dispatcher.stats().queued == 3  # one in the queue, two waiting for a place, and the loop is here
        with pytest.raises(Overloaded):
            await dispatcher.asubmit(picture(5), timeout=0.01)
        with pytest.raises(Overloaded):
            await dispatcher.asubmit(picture(5), timeout=0)
        engine.let_go()
        return await asyncio.gather(*tasks)

    assert len(asyncio.run(main())) == 3


def test_cancelling_a_task_cancels_its_request(held):
    dispatcher, engine, _ = held(queue_size=1)

    async def main():
        tasks = [asyncio.create_task(dispatcher.asubmit(picture(v))) for v in (2, 3)]
        await asyncio.sleep(0.01)
        for task in tasks:  # one queued, one waiting for a place
            task.cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    assert all(isinstance(e, asyncio.CancelledError) for e in asyncio.run(main()))
    assert dispatcher.stats().cancelled == 2
    assert dispatcher.stats().queued == 0
    engine.let_go()
    dispatcher.close()
    assert engine.seen == [1]


def test_errors_reach_those_who_await(held):
    dispatcher, engine, _ = held()

    async def main():
        with pytest.raises(DeadlineExceeded):
            await dispatcher.asubmit(picture(2), deadline_ms=10)
        with pytest.raises(swiftdet.InvalidArgument):
            await dispatcher.asubmit(picture(2), conf=3)
        waiting = asyncio.create_task(dispatcher.asubmit(picture(2)))
        await asyncio.sleep(0.01)
        dispatcher.close(wait=False, cancel=True)
        with pytest.raises(DispatcherClosed):
            await waiting
        with pytest.raises(DispatcherClosed):
            await dispatcher.asubmit(picture(2))
        engine.let_go()

    asyncio.run(main())


# --- closing --------------------------------------------------------------------------------------------------------


def test_a_graceful_close_finishes_what_was_submitted(held):
    dispatcher, engine, first = held(queue_size=2)
    futures = [dispatcher.submit(picture(v)) for v in (2, 3)]
    blocked = threading.Thread(target=dispatcher.submit, args=(picture(4),))
    blocked.start()
    until(lambda: dispatcher.stats().queued == 3)
    closing = threading.Thread(target=dispatcher.close)
    closing.start()
    until(lambda: dispatcher._crew.closing)
    with pytest.raises(DispatcherClosed, match="closed"):
        dispatcher.submit(picture(5))
    engine.let_go()
    closing.join(WAIT)
    blocked.join(WAIT)
    assert all(future.done() for future in (first, *futures))
    assert engine.seen == [1, 2, 3, 4]
    assert dispatcher.stats().done == 4


def test_an_immediate_close_ends_what_waits(held):
    dispatcher, engine, first = held(queue_size=2)
    futures = [dispatcher.submit(picture(v)) for v in (2, 3)]
    refused = []

    def submit():
        try:
            dispatcher.submit(picture(4))
        except DispatcherClosed as e:
            refused.append(e)

    blocked = threading.Thread(target=submit)
    blocked.start()
    until(lambda: dispatcher.stats().queued == 3)
    dispatcher.close(wait=False, cancel=True)
    for future in futures:
        with pytest.raises(DispatcherClosed):
            future.result(WAIT)
    blocked.join(WAIT)
    assert len(refused) == 1
    engine.let_go()
    assert len(first.result(WAIT)) > 0
    dispatcher.close()
    assert engine.seen == [1]
    assert dispatcher.stats().cancelled == 3


def test_leaving_by_an_error_cancels(model):
    detector, engine = make_detector(model)
    engine.hold()
    with pytest.raises(ZeroDivisionError), swiftdet.BatchDispatcher(detector, workers=1) as dispatcher:  # noqa: PT012
        dispatcher.submit(picture(1))
        engine.wait_for_a_run()
        queued = dispatcher.submit(picture(2))
        threading.Timer(0.05, engine.let_go).start()
        raise ZeroDivisionError
    assert isinstance(queued.exception(), DispatcherClosed)
    assert "closed" in repr(dispatcher)


def test_a_forgotten_dispatcher_finishes_and_ends_its_threads(model):
    detector, engine = make_detector(model)
    engine.hold()
    futures = [swiftdet.BatchDispatcher(detector, workers=2).submit(picture(v), deadline_ms=1e6) for v in (1, 2)]
    gc.collect()
    engine.let_go()
    for future in futures:
        assert len(future.result(WAIT)) > 0
    until(lambda: not any(t.name.startswith("swiftdet-dispatch") for t in threading.enumerate()))


def test_the_interpreter_ends_with_requests_in_flight(model, run_python):
    code = f"""
import sys, time, os
sys.path[:0] = {HELPERS!r}
import pathlib, swiftdet
from controlled_engine import make_detector, picture
detector, engine = make_detector(pathlib.Path({str(model)!r}))
engine.fails = lambda value: time.sleep(0.02)
dispatcher = swiftdet.BatchDispatcher(detector)
futures = [dispatcher.submit(picture(v % 200), deadline_ms=1e5) for v in range(250)]
futures[-1].add_done_callback(lambda future: print(type(future.exception()).__name__))
"""
    assert run_python(code).strip() == "DispatcherClosed"


def test_a_forked_child_is_told_and_neither_hangs_nor_crashes(model, run_python):
    code = f"""
import sys, os, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # fork with threads is what is tested
sys.path[:0] = {HELPERS!r}
import pathlib, swiftdet
from controlled_engine import make_detector, picture
detector, _ = make_detector(pathlib.Path({str(model)!r}))
dispatcher = swiftdet.BatchDispatcher(detector)
dispatcher.submit(picture(1)).result()
child = os.fork()
if child == 0:
    said = []
    for call in (lambda: dispatcher.submit(picture(1)), dispatcher.stats, lambda: next(dispatcher.map([picture(1)]))):
        try:
            call()
        except swiftdet.UsedAfterFork as e:
            said.append("after the fork" in str(e))
    dispatcher.close()
    os._exit(0 if said == [True] * 3 else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), len(dispatcher.submit(picture(1)).result()) > 0)
"""
    assert run_python(code).split() == ["0", "True"]


# --- statistics -----------------------------------------------------------------------------------------------------


def test_stats_are_frozen_and_json(held):
    dispatcher, engine, first = held()
    engine.let_go()
    first.result(WAIT)
    stats = dispatcher.stats()
    with pytest.raises(AttributeError):
        stats.done = 5
    values = json.loads(json.dumps(stats.to_dict()))
    assert values["submitted"] == 1
    assert values["batch_sizes"] == {"1": 1}


def test_prometheus_metrics(held):
    prometheus = pytest.importorskip("prometheus_client")
    from prometheus_client.parser import text_string_to_metric_families

    from swiftdet.dispatch.metrics import DispatcherCollector

    dispatcher, engine, _ = held(max_batch=4, queue_size=5, overflow="reject")
    for v in range(2, 7):
        dispatcher.submit(picture(v))
    with pytest.raises(Overloaded):
        dispatcher.submit(picture(9))
    registry = prometheus.CollectorRegistry()
    registry.register(DispatcherCollector({"street": dispatcher}))
    assert registry.get_sample_value("swiftdet_pending_requests", {"dispatcher": "street"}) == 5
    engine.let_go()
    dispatcher.close()
    text = prometheus.generate_latest(registry).decode()
    samples = {
        (s.name, s.labels.get("le")): s.value for f in text_string_to_metric_families(text) for s in f.samples
    }  # fmt: skip
    assert samples["swiftdet_request_success_total", None] == 6
    assert samples["swiftdet_request_rejected_total", None] == 1
    assert samples["swiftdet_batch_size_bucket", "1.0"] == 2
    assert samples["swiftdet_batch_size_bucket", "4.0"] == samples["swiftdet_batch_size_bucket", "+Inf"] == 3
    assert samples["swiftdet_batch_size_sum", None] == 6
    assert samples["swiftdet_queue_duration_seconds_total", None] == pytest.approx(dispatcher.stats().queue_us * 1e-6)
    with pytest.raises(ValueError, match="Duplicated"):
        registry.register(DispatcherCollector({"yard": dispatcher}))
    with pytest.raises(swiftdet.InvalidType):
        DispatcherCollector([dispatcher])
