"""A thread that waits for a result runs its request itself, where a worker would run it now, and alone."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import swiftdet
from controlled_engine import WAIT, make_detector, picture, until, write_model
from swiftdet import BackendError, DispatcherClosed


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def crew(model):
    """Makes dispatchers whose workers sleep through what is submitted, their engines, and where runs took place."""
    made = []

    def make(*, asleep=True, **options):
        detector, engine = make_detector(model)
        dispatcher = swiftdet.BatchDispatcher(detector, **{"workers": 1, **options})
        ran = []
        engine.fails = lambda _: ran.append(threading.current_thread())
        if asleep:
            dispatcher._crew._work_to_do.wake_one = lambda: None
        made.append((dispatcher, engine))
        return dispatcher, engine, ran

    yield make
    for dispatcher, engine in made:
        engine.let_go()
        dispatcher.close()
        stats = dispatcher.stats()
        assert (stats.submitted, stats.in_flight) == (stats.resolved, 0)
        assert dispatcher._crew._helpers == set()


@pytest.fixture
def thread():
    """One thread that is not the main one."""
    with ThreadPoolExecutor(1, thread_name_prefix="helper") as executor:
        yield executor.submit


def wake(dispatcher):
    """From now on its workers hear of what is submitted."""
    del dispatcher._crew._work_to_do.wake_one  # as the class has it


def assert_same(one, other):
    np.testing.assert_array_equal(one.xyxy, other.xyxy)
    np.testing.assert_array_equal(one.conf, other.conf)


def test_who_waits_runs_the_request(crew, thread):
    dispatcher, _, ran = crew()
    result = thread(lambda: dispatcher.submit(picture(7), conf=0.2).result()).result(WAIT)
    (where,) = ran
    assert where.name.startswith("helper")
    assert_same(result, dispatcher._target.detector(picture(7), conf=0.2))
    stats = dispatcher.stats()
    assert (stats.done, stats.batch_sizes) == (1, {1: 1})
    assert stats.request_us >= stats.compute_infer_us > 0


@pytest.mark.parametrize(
    ("submit", "wait"),
    [({}, {"timeout": 0.05}), ({"deadline_ms": 50}, {})],
    ids=["the wait has a limit", "the request has a deadline"],
)
def test_a_limit_of_time_is_kept_by_not_running_it(crew, thread, submit, wait):
    """A run cannot be left, so a thread that has to be back in time begins none."""
    dispatcher, _, ran = crew()
    outcome = thread(lambda: dispatcher.submit(picture(1), **submit).result(**wait))
    assert isinstance(outcome.exception(WAIT), TimeoutError)
    assert ran == []


def test_the_main_thread_leaves_it_to_a_worker(crew):
    """A signal's handler may raise there at any line."""
    dispatcher, _, ran = crew(asleep=False)
    dispatcher.submit(picture(1)).result()
    (where,) = ran
    assert where in dispatcher._crew._workers


def test_one_of_several_that_wait_is_left_to_the_workers(crew, thread):
    dispatcher, engine, ran = crew()
    first, second = (dispatcher.submit(picture(value)) for value in (1, 2))
    answer = thread(first.result)
    time.sleep(0.05)
    assert (ran, engine.seen) == ([], [])
    dispatcher._crew._work_to_do.wake_all()
    answer.result(WAIT)
    second.result(WAIT)
    assert dispatcher.stats().batch_sizes == {2: 1}


def test_a_helper_counts_as_a_worker(crew, thread):
    """With one worker no two batches run at once; what came meanwhile is one batch."""
    dispatcher, engine, ran = crew()
    engine.hold()
    helped = thread(dispatcher.submit(picture(1)).result)
    engine.wait_for_a_run()
    wake(dispatcher)
    others = [dispatcher.submit(picture(value)) for value in (2, 3)]
    time.sleep(0.05)
    assert engine.seen == [1]
    engine.let_go()
    for future in (helped, *others):
        future.result(WAIT)
    assert dispatcher.stats().batch_sizes == {1: 1, 2: 1}
    assert len(ran) == len(engine.seen)


def test_the_worker_goes_on_where_a_helper_ends(crew, thread):
    dispatcher, engine, _ = crew()
    engine.hold()
    helped = thread(dispatcher.submit(picture(1)).result)
    engine.wait_for_a_run()
    wake(dispatcher)
    other = dispatcher.submit(picture(2))
    until(lambda: not dispatcher._crew._work_to_do._gates or other.running())
    assert not other.running()
    engine.let_go()
    helped.result(WAIT)
    other.result(WAIT)


def test_an_error_is_its_future_s(crew, thread):
    dispatcher, engine, _ = crew()

    def fail(value):
        raise RuntimeError(f"no {value}")

    engine.fails = fail
    error = thread(lambda: dispatcher.submit(picture(3)).result()).exception(WAIT)
    assert isinstance(error, BackendError)
    assert "no 3" in str(error)
    engine.fails = None
    assert len(thread(lambda: dispatcher.submit(picture(4)).result()).result(WAIT)) > 0
    assert (dispatcher.stats().failed, dispatcher.stats().done) == (1, 1)


def test_failed_requests_leave_nothing_to_the_garbage_collector(crew, thread):
    dispatcher, engine, _ = crew()

    def fail(_):
        raise RuntimeError("no")

    def ask():
        request = dispatcher.submit(picture(1))
        try:
            request.result()
        except BackendError:
            return weakref.ref(request)
        finally:
            del request  # the error keeps this frame as well

    engine.fails = fail
    gc.collect()
    gc.disable()
    try:
        kept = [thread(ask).result(WAIT) for _ in range(5)]
        assert [reference() for reference in kept] == [None] * 5
    finally:
        gc.enable()


def test_a_cancelled_request_is_not_run(crew, thread):
    dispatcher, _, ran = crew()
    request = dispatcher.submit(picture(1))
    assert request.cancel()
    assert thread(request.exception).exception(WAIT) is not None
    assert thread(request.result).exception(WAIT) is not None
    assert ran == []


@pytest.mark.parametrize("workers", [1, 2])
def test_close_waits_for_helpers(crew, thread, workers):
    dispatcher, engine, _ = crew(workers=workers)
    engine.hold()
    helped = dispatcher.submit(picture(1))
    asked = thread(helped.result)
    engine.wait_for_a_run()
    wake(dispatcher)
    closer = threading.Thread(target=dispatcher.close)
    closer.start()
    time.sleep(0.05)
    assert closer.is_alive()
    with pytest.raises(DispatcherClosed):
        dispatcher.submit(picture(2))
    engine.let_go()
    closer.join(WAIT)
    assert not closer.is_alive()
    assert helped.done()
    asked.result(WAIT)


def test_closing_from_a_callback_in_a_helper_does_not_wait_for_itself(crew, thread):
    dispatcher, _, _ = crew()
    request = dispatcher.submit(picture(1))
    request.add_done_callback(lambda _: dispatcher.close())
    assert len(thread(request.result).result(WAIT)) > 0


def test_submitting_from_a_callback_in_a_helper_never_blocks_it(crew, thread):
    """There is one place, and the workers sleep: a caller who waited for another would wait for ever."""
    dispatcher, _, _ = crew(queue_size=1)
    more = []
    request = dispatcher.submit(picture(1))
    request.add_done_callback(lambda _: more.extend(dispatcher.submit(picture(value)) for value in (2, 3)))
    thread(request.result).result(WAIT)
    assert len(more) == 2
    wake(dispatcher)
    dispatcher._crew._work_to_do.wake_all()
    for future in more:
        assert len(future.result(WAIT)) > 0


def test_a_fault_of_the_dispatcher_itself_is_heard_of(crew, thread, monkeypatch, caplog):
    dispatcher, _, _ = crew()
    monkeypatch.setattr(dispatcher._crew, "_settle_batch", None)
    error = thread(lambda: dispatcher.submit(picture(1)).result()).exception(WAIT)
    assert isinstance(error, DispatcherClosed)
    assert "failed" in caplog.text


# -- calls: the thread is known to wait before there is a request ------------------------------------------------------


def test_a_call_runs_where_it_is_made_and_wakes_nobody(crew, thread, monkeypatch):
    dispatcher, _, ran = crew(asleep=False)
    monkeypatch.setattr(dispatcher._crew, "submit", None)
    result = thread(lambda: dispatcher(picture(7), conf=0.2)).result(WAIT)
    (where,) = ran
    assert where.name.startswith("helper")
    assert_same(result, dispatcher._target.detector(picture(7), conf=0.2))
    stats = dispatcher.stats()
    assert (stats.submitted, stats.done, stats.running, stats.batch_sizes) == (1, 1, 0, {1: 1})
    assert stats.request_us >= stats.compute_input_us + stats.compute_infer_us + stats.compute_output_us > 0
    assert stats.queue_us == 0


@pytest.mark.parametrize("options", [{"deadline_ms": 60_000}, {"priority": 1, "deadline_ms": 60_000}])
def test_a_call_with_a_deadline_is_left_to_a_worker(crew, thread, options):
    dispatcher, _, ran = crew(asleep=False)
    assert len(thread(lambda: dispatcher(picture(7), **options)).result(WAIT)) > 0
    assert ran[0] in dispatcher._crew._workers


@pytest.mark.parametrize(("options", "submitted"), [({"timeout": 60}, 1), ({"priority": -3}, 0)])
def test_a_call_with_a_timeout_is_queued_first(crew, thread, monkeypatch, options, submitted):
    dispatcher, _, _ = crew()  # the workers sleep: it is run where it waits, all the same
    offered, offer = [], dispatcher._crew._queue.offer
    monkeypatch.setattr(dispatcher._crew._queue, "offer", lambda *a, **k: offered.append(1) or offer(*a, **k))
    assert len(thread(lambda: dispatcher(picture(7), **options)).result(WAIT)) > 0
    assert len(offered) == submitted


def test_a_call_in_the_main_thread_is_left_to_a_worker(crew):
    dispatcher, _, ran = crew(asleep=False)
    assert len(dispatcher(picture(7))) > 0
    assert ran[0] in dispatcher._crew._workers


@pytest.mark.parametrize(
    "options",
    [{"priority": 0.5}, {"priority": None}, {"timeout": -1}, {"deadline_ms": "soon"}, {"conf": 2}, {"cnof": 1}],
)
def test_a_call_with_an_option_outside_its_contract_makes_no_request(crew, thread, options):
    dispatcher, _, ran = crew(asleep=False)
    error = thread(lambda: dispatcher(picture(7), **options)).exception(WAIT)
    assert isinstance(error, swiftdet.InvalidArgument | swiftdet.InvalidType)
    assert (ran, dispatcher.stats().submitted) == ([], 0)


def test_a_call_of_a_busy_engine_shares_a_batch(crew, thread):
    dispatcher, engine, _ = crew(asleep=False)
    engine.hold()
    first = dispatcher.submit(picture(1))
    engine.wait_for_a_run()
    second = dispatcher.submit(picture(2))
    third = thread(lambda: dispatcher(picture(3)))
    until(lambda: dispatcher.stats().submitted == 3)
    engine.let_go()
    for future in (first, second, third):
        assert len(future.result(WAIT)) > 0
    assert dispatcher.stats().batch_sizes == {1: 1, 2: 1}


def test_what_comes_during_a_call_is_the_next_batch(crew, thread):
    dispatcher, engine, _ = crew(asleep=False)
    engine.hold()
    called = thread(lambda: dispatcher(picture(1)))
    engine.wait_for_a_run()
    others = [dispatcher.submit(picture(value)) for value in (2, 3)]
    time.sleep(0.05)
    assert engine.seen == [1], "with one worker no two batches run at once"
    engine.let_go()
    for future in (called, *others):
        future.result(WAIT)
    assert dispatcher.stats().batch_sizes == {1: 1, 2: 1}


@pytest.mark.parametrize(
    ("image", "error", "runs"),
    [
        (b"no image", swiftdet.ImageError, 0),
        (7, swiftdet.InvalidType, 0),
        ([picture(1)], swiftdet.InvalidType, 0),
        (picture(9), BackendError, 1),
    ],
    ids=["bytes", "number", "list", "engine"],
)
def test_a_call_raises_what_its_future_would_fail_with(crew, thread, image, error, runs):
    dispatcher, engine, _ = crew(asleep=False)

    def fail(value):
        raise RuntimeError(f"no {value}")

    engine.fails = fail
    raised = thread(lambda: dispatcher(image)).exception(WAIT)
    submitted = dispatcher.submit(image).exception(WAIT)
    assert type(raised) is type(submitted) is error
    assert str(raised) == str(submitted)
    engine.fails = None
    assert len(thread(lambda: dispatcher(picture(4))).result(WAIT)) > 0
    stats = dispatcher.stats()
    assert (stats.failed, stats.done, stats.exec_count) == (2, 1, 2 * runs + 1)


@pytest.mark.parametrize("workers", [1, 2])
def test_close_waits_for_calls(crew, thread, workers):
    dispatcher, engine, _ = crew(asleep=False, workers=workers)
    engine.hold()
    called = thread(lambda: dispatcher(picture(1)))
    engine.wait_for_a_run()
    closer = threading.Thread(target=dispatcher.close)
    closer.start()
    time.sleep(0.05)
    assert closer.is_alive()
    engine.let_go()
    closer.join(WAIT)
    assert not closer.is_alive()
    assert len(called.result(WAIT)) > 0
    with pytest.raises(DispatcherClosed):
        dispatcher(picture(2))
    assert isinstance(thread(lambda: dispatcher(picture(2))).exception(WAIT), DispatcherClosed)


def test_a_call_from_a_callback_on_a_worker_runs_there(crew):
    """Its batch is over by then."""
    dispatcher, engine, ran = crew(asleep=False)
    again = []
    engine.hold()
    request = dispatcher.submit(picture(1))
    request.add_done_callback(lambda _: again.append(dispatcher(picture(2))))
    engine.let_go()
    until(lambda: len(again) == 1)
    assert len(again[0]) > 0
    assert [where in dispatcher._crew._workers for where in ran] == [True, True]


def test_a_call_from_a_callback_on_a_helper_is_a_worker_s(crew, thread):
    """It is one of the dispatcher's threads until its first batch is resolved, and no longer."""
    dispatcher, _, ran = crew()
    seen = []

    def call_again(_):
        wake(dispatcher)
        seen.append(dispatcher(picture(2)))
        seen.append(dispatcher._crew._is_one_of_us())

    request = dispatcher.submit(picture(1))
    request.add_done_callback(call_again)
    thread(request.result).result(WAIT)
    assert len(seen[0]) > 0
    assert seen[1] is True
    assert [where in dispatcher._crew._workers for where in ran] == [False, True]


def test_a_worker_that_waits_for_a_helper_is_told_that_its_work_is_gone(crew, thread):
    """The request behind a call expires while the dispatcher closes, so the call wakes nobody at its end."""
    dispatcher, engine, _ = crew(asleep=False)
    engine.hold()
    called = thread(lambda: dispatcher(picture(1)))
    engine.wait_for_a_run()
    behind = dispatcher.submit(picture(2), deadline_ms=500)
    closer = threading.Thread(target=dispatcher.close, daemon=True)  # once: another would wake the worker
    closer.start()
    assert isinstance(behind.exception(WAIT), swiftdet.DeadlineExceeded)
    engine.let_go()
    called.result(WAIT)
    closer.join(WAIT)
    assert not closer.is_alive()


def test_ctrl_c_takes_a_call_out_of_the_queue(crew, monkeypatch):
    dispatcher, engine, _ = crew(asleep=False)
    engine.hold()
    first = dispatcher.submit(picture(1))
    engine.wait_for_a_run()

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(type(first), "result", interrupted)
    with pytest.raises(KeyboardInterrupt):
        dispatcher(picture(2))
    monkeypatch.undo()
    engine.let_go()
    first.result(WAIT)
    assert (dispatcher.stats().cancelled, engine.seen) == (1, [1])


def test_calls_leave_nothing_behind(crew, thread):
    """No worker wakes to put in order what they noted."""
    dispatcher, _, _ = crew(asleep=False)

    def ask():
        return weakref.ref(dispatcher(picture(1)).xyxy)

    gc.collect()
    gc.disable()
    try:
        assert [thread(ask).result(WAIT)() for _ in range(200)] == [None] * 200
    finally:
        gc.enable()
    assert len(dispatcher._crew._runs) < 100


def test_many_callers_of_a_few_sessions(model):
    """Helpers and workers in turns, at random: each gets its own result, and never more run at once than allowed."""
    detector, engine = make_detector(model, sessions=4)
    lock, at_once = threading.Lock(), [0, 0]

    def count(_):
        with lock:
            at_once[0] += 1
            at_once[1] = max(at_once)
        time.sleep(0.0005)
        with lock:
            at_once[0] -= 1

    engine.fails = count
    alone = {value: detector(picture(value)) for value in range(8)}
    at_once[1] = 0
    with swiftdet.BatchDispatcher(detector, workers=2, max_batch=3) as dispatcher, ThreadPoolExecutor(8) as callers:

        def ask(i):
            result = dispatcher(picture(i % 8)) if i % 3 == 0 else dispatcher.submit(picture(i % 8)).result()
            return np.array_equal(result.xyxy, alone[i % 8].xyxy) and np.array_equal(result.conf, alone[i % 8].conf)

        assert all(callers.map(ask, range(2000)))
        stats = dispatcher.stats()
    assert (stats.done, stats.failed) == (2000, 0)
    assert 1 <= at_once[1] <= 2
