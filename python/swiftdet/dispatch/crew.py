"""The threads of a dispatcher: workers that run batches, and a timekeeper for deadlines."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Sequence
from typing import Any, TypeAlias

from swiftdet.dispatch.alarms import Alarms
from swiftdet.dispatch.idle_threads import IdleThreads
from swiftdet.dispatch.queue_policy import Place, QueuePolicy
from swiftdet.dispatch.request import Request, State
from swiftdet.dispatch.run import Run
from swiftdet.dispatch.service_time import ServiceTime
from swiftdet.dispatch.statistics import DispatcherStats, Tally
from swiftdet.dispatch.target import Target
from swiftdet.errors import DeadlineExceeded, DispatcherClosed, Overloaded, SwiftdetError, UsedAfterFork
from swiftdet.results import Detections

_LOG = logging.getLogger("swiftdet.dispatch")
_LOG.addHandler(logging.NullHandler())

_now = time.monotonic
Outcome: TypeAlias = tuple[Request, Detections | BaseException]


class Crew:
    """Queue, threads and counts behind a `BatchDispatcher`.

    One lock guards everything that changes. While it is held, images are neither loaded, detected in nor given back,
    and no future is resolved, as that runs the code of strangers: who settles a request under the lock, and nobody
    else, resolves its future after it. A request that leaves the queue goes through
    `Future.set_running_or_notify_cancel` under the lock, after which its future cannot be cancelled any more.

    An image that was borrowed is given back once by whoever took it from its request under the lock: the worker that
    runs it, after its last use and before its future is resolved, or for a request that no worker gets any more the
    thread that settles it.

    A thread that waits for a request which a worker would run now, and alone, runs it itself: it is a helper for that
    time, and counts as one of the workers. Where it is known beforehand to wait, there is neither a request nor a
    future, and no worker is woken.

    The threads know the crew and not the dispatcher, so a dispatcher that nobody refers to can end them.
    """

    def __init__(
        self, target: Target, *, workers: int, queue_size: int, overflow: str, max_batch: int, max_delay: float
    ) -> None:
        self._target = target
        self._queue_size = queue_size
        self._engine_sessions = min(workers, target.engine_sessions)
        self._service = ServiceTime()
        # Sizes and seconds that it has not observed yet; the latest will do, as nobody may come to take them for long.
        self._runs: deque[tuple[int, float]] = deque(maxlen=32)
        self._queue: QueuePolicy[Request] = QueuePolicy(
            capacity=queue_size,
            overflow=overflow,
            max_batch=max_batch,
            max_delay=max_delay,
            sizes=target.batch_sizes,
            estimate=self._service.estimate,
        )
        self._pid = os.getpid()
        # Reentrant, because the garbage collector may end a forgotten dispatcher at any line of ours.
        self._lock = threading.RLock()
        self._work_to_do = IdleThreads(self._lock)
        self._time_to_look = threading.Condition(self._lock)
        self._alarms = Alarms()
        self._unused: deque[Any] = deque()  # loans of settled requests, to be given back without the lock
        self._tally = Tally()
        self._busy = 0  # workers and helpers with a batch
        self._helpers: set[int] = set()  # their threads
        self._helper_left = threading.Condition(self._lock)
        self._closing = False
        self._broken: BaseException | None = None
        self._timekeeper: threading.Thread | None = None
        self._workers = [
            threading.Thread(target=self._work, name=f"swiftdet-dispatch-{i}", daemon=True) for i in range(workers)
        ]
        self._working = len(self._workers)
        for worker in self._workers:
            worker.start()
        _CREWS.add(self)

    # -- for the dispatcher -------------------------------------------------------------------------------------

    @property
    def workers(self) -> int:
        """Number of worker threads."""
        return len(self._workers)

    def submit(self, request: Request, *, may_wait: bool, block: bool) -> None:
        """Takes a request in.

        Args:
            request: is new.
            may_wait: it waits for a place where the queue is full.
            block: the caller waits with it. A thread of ours never does: nobody might be left to make a place.

        Raises:
            Overloaded: no place, at once or until the request gave up.
            DispatcherClosed: closed, or about to.
            UsedAfterFork: of another process.
        """
        self.check_process()
        try:
            gate = self._take_in(request, may_wait=may_wait, block=block)
            if gate is not None:
                self._wait(gate, request)
        except BaseException:
            with self._lock:
                self._let_go(request)  # nobody has its future
            self._give_back()
            raise

    def run_alone(self, image: Any, options: Any) -> Detections | None:
        """Runs an image in the thread that calls, if a worker would run it at once, and alone; else None.

        Raises:
            what a call of the detector raises.
            DispatcherClosed: closed, or about to.
            UsedAfterFork: of another process.
        """
        self.check_process()
        me = threading.get_ident()
        tally = self._tally
        arrival = _now()
        with self._lock:
            if self._closing:
                raise self._closed_error()
            if self._queue or not self._may_help(me):
                return None
            tally.submitted += 1
            tally.running += 1
            self._busy += 1
            self._helpers.add(me)
        result = None
        loaded_at = 0.0
        try:
            borrowed = self._target.borrow(image, options)
            try:
                loaded = self._target.load(borrowed, options)
                loaded_at = _now()
                (result,) = self._target.detect([loaded], options)
            finally:
                self._target.give_back(borrowed)
            return result
        finally:
            end = _now()
            with self._lock:
                self._end_run()
                self._end_help(me)
                tally.running -= 1
                if loaded_at:
                    tally.add_execution(1)
                    self._runs.append((1, end - arrival))
                if result is None:
                    tally.failed += 1
                else:
                    tally.done += 1
                    tally.add_times(result.speed, loaded_at - arrival, end - arrival)

    def _take_in(self, request: Request, *, may_wait: bool, block: bool) -> threading.Event | None:
        """Queues a request; what its caller has to wait for, if it has to."""
        gate = None
        with self._lock:
            if self._closing:
                raise self._closed_error()
            self._tally.submitted += 1
            place, victim = self._queue.offer(request, may_wait=may_wait)
            if place is Place.REFUSED:
                request.state = State.SETTLED
                self._tally.rejected += 1
                raise self._full_error()
            request.owner = self
            request.state = State.QUEUED if place is Place.QUEUED else State.WAITING
            if request.deadline is not None:
                self._set_alarm(request.deadline, request)
            if place is Place.QUEUED:
                self._work_to_do.wake_one()
            else:
                if request.give_up_at is not None:
                    self._set_alarm(request.give_up_at, request)
                if block and not self._is_one_of_us():
                    gate = threading.Event()
                    request.moved = gate.set
            to_drop = victim is not None and self._settle(victim, "dropped")
        if victim is not None:
            self._give_back()
            if to_drop:
                self._resolve(victim, Overloaded("dropped from the full queue: a newer request needed its place"))
        return gate

    def stats(self) -> DispatcherStats:
        """The counts by now."""
        self.check_process()
        with self._lock:
            return self._tally.snapshot(len(self._queue))

    @property
    def closing(self) -> bool:
        """Whether no more requests are taken."""
        return self._closing

    def close(self, *, wait: bool, cancel: bool) -> None:
        """Takes no more requests; finishes those that are here, or ends those that no worker has yet."""
        if os.getpid() != self._pid:
            return  # the threads are in the process that this one was forked from
        ended = []
        with self._lock:
            self._closing = True
            if cancel:
                ended = self._clear()
            self._work_to_do.wake_all()
            self._time_to_look.notify()
        self._give_back()
        for request in ended:
            self._resolve(request, self._closed_error())
        if not wait or self._is_one_of_us():
            return
        for thread in self._workers:
            thread.join()
        if self._timekeeper is not None:
            self._timekeeper.join()
        with self._lock:
            while self._helpers:
                self._helper_left.wait()

    def _is_one_of_us(self) -> bool:
        """Whether this thread resolves futures now, so that what waits in it may wait for itself."""
        current = threading.current_thread()
        return current in (*self._workers, self._timekeeper) or current.ident in self._helpers

    def check_process(self) -> None:
        """Refuses to work in a child of fork().

        Raises:
            UsedAfterFork: this process has none of the threads.
        """
        if os.getpid() != self._pid:
            raise UsedAfterFork(
                f"this dispatcher belongs to process {self._pid}, and fork() copied none of its threads into this one; "
                "make detector and dispatcher after the fork, or start processes by 'spawn'"
            )

    # -- the state of requests; with the lock held ---------------------------------------------------------------

    def _settle(self, request: Request, count: str) -> bool:
        """Counts how a request ended that left the queue or its worker; True if the caller has to resolve it."""
        if request.state is State.SETTLED:
            return False
        if request.state is State.RUNNING:
            self._tally.running -= 1
            resolve = True
        else:
            resolve = request.set_running_or_notify_cancel()
        request.state = State.SETTLED
        self._let_go(request)
        counted = count if resolve else "cancelled"  # its caller was quicker, and is resolving it
        setattr(self._tally, counted, getattr(self._tally, counted) + 1)
        return resolve

    def _start(self, request: Request) -> bool:
        """Marks a request that left the queue as running; False if its caller has cancelled it."""
        if not request.set_running_or_notify_cancel():
            request.state = State.SETTLED
            self._let_go(request)
            self._tally.cancelled += 1
            return False
        request.state = State.RUNNING
        self._tally.running += 1
        return True

    def _let_go(self, request: Request) -> None:
        image = request.take_image()
        if self._target.is_loan(image):
            self._unused.append(image)
        if request.moved is not None:
            request.moved()
            request.moved = None

    def _admit(self) -> None:
        """Gives free places to those who wait for one."""
        for request in self._queue.admit():
            request.state = State.QUEUED
            if request.moved is not None:
                request.moved()
                request.moved = None
            self._work_to_do.wake_one()

    def _clear(self) -> list[Request]:
        """Ends everything that no worker has; what is to be resolved."""
        return [request for request in self._queue.clear() if self._settle(request, "cancelled")]

    def withdraw(self, request: Request) -> None:
        """Frees the place of a request whose future was cancelled."""
        if os.getpid() != self._pid:
            return
        with self._lock:
            if self._queue.discard(request):
                self._settle(request, "cancelled")
                self._admit()
                if self._closing:
                    self._work_to_do.wake_all()
        self._give_back()

    def _full_error(self) -> Overloaded:
        return Overloaded(
            f"the queue is full: {self._queue_size} requests wait; submit fewer, wait (overflow='block'), or raise"
            " queue_size"
        )

    def _closed_error(self) -> DispatcherClosed:
        if self._broken is None:
            return DispatcherClosed("this dispatcher is closed; make a new one")
        error = DispatcherClosed(f"this dispatcher failed and is closed: {self._broken!r}; make a new one")
        error.__cause__ = self._broken
        return error

    def _set_alarm(self, when: float, request: Request) -> None:
        if self._timekeeper is None:
            self._timekeeper = threading.Thread(target=self._keep_time, name="swiftdet-dispatch-time", daemon=True)
            self._timekeeper.start()
        if self._alarms.add(when, request):
            self._time_to_look.notify()

    # -- resolving; without the lock -----------------------------------------------------------------------------

    def _give_back(self) -> None:
        """Gives back what settled requests had borrowed."""
        while self._unused:
            try:
                image = self._unused.popleft()
            except IndexError:  # another thread was quicker
                return
            self._target.give_back(image)

    def _resolve(self, request: Request, outcome: Detections | BaseException) -> None:
        """Resolves the future of a request that the caller settled, and survives the callbacks."""
        try:
            if isinstance(outcome, BaseException):
                request.set_exception(outcome)
            else:
                request.set_result(outcome)
        except BaseException:  # noqa: BLE001 - Future lets what is no Exception through; a thread must not end by it
            _LOG.exception("a callback of a future raised")

    def _resolve_all(self, settled: Sequence[Outcome]) -> None:
        for request, outcome in settled:
            self._resolve(request, outcome)

    def _wait(self, gate: threading.Event, request: Request) -> None:
        """Waits until a request has a place, or will not get one."""
        try:
            gate.wait()
        except BaseException:  # Ctrl-C: nobody will ask for the result
            request.cancel()
            raise
        if request.state is State.SETTLED:  # who settled it is about to resolve it
            error = request.exception()
            if isinstance(error, Overloaded | DispatcherClosed):
                raise error

    # -- the timekeeper ------------------------------------------------------------------------------------------

    def _keep_time(self) -> None:
        try:
            while True:
                due = self._next_due()
                self._give_back()
                if due is None:
                    return
                self._resolve_all(due)
                due = None
        except BaseException as e:  # noqa: BLE001 - a thread of ours never ends in silence
            self._break(e)

    def _next_due(self) -> list[tuple[Request, BaseException]] | None:
        """Waits for the next requests whose time is over; None when there will be no more."""
        with self._lock:
            while True:
                now = _now()
                due: list[tuple[Request, BaseException]] = []
                for request in self._alarms.ring(now):
                    error: SwiftdetError
                    if request.deadline is not None and request.deadline <= now:
                        count, error = "expired", _late(request, now)
                    elif request.state is State.WAITING:
                        count, error = "rejected", self._full_error()
                    else:
                        continue  # it found a place before it gave up
                    self._queue.discard(request)
                    if self._settle(request, count):
                        due.append((request, error))
                if due:
                    self._admit()
                    if self._closing:  # a worker that waits for a helper may wait for what is gone
                        self._work_to_do.wake_all()
                    return due
                if self._closing and not self._working:
                    return None
                next_at = self._alarms.next_at()
                self._time_to_look.wait(None if next_at is None else max(0.0, next_at - now))

    # -- the workers ---------------------------------------------------------------------------------------------

    def _work(self) -> None:
        batch: list[Request] = []
        try:
            while True:
                batch, images = self._next_batch()
                if not batch:
                    break
                self._resolve_all(self._run(batch, images))
                batch = []  # an idle thread keeps no result alive
        except BaseException as e:  # noqa: BLE001 - a thread of ours never ends in silence
            self._break(e, batch)
        with self._lock:
            self._working -= 1
            self._time_to_look.notify()

    def _next_batch(self) -> tuple[list[Request], list[Any]]:
        """Waits for work: requests and their images; empty when there will be none any more."""
        images: list[Any] = []
        while True:
            expired: list[Request] = []
            with self._lock:
                while True:
                    while self._runs:  # before anything is decided by them, and after their results were handed out
                        self._service.observe(*self._runs.popleft())
                    now = _now()
                    if self._queue and self._busy >= len(self._workers):  # a helper does this one's work
                        self._work_to_do.wait(None)  # until that has settled its batch
                        continue
                    idle = self._busy < self._engine_sessions or self._closing
                    turn = self._queue.take(now, engine_idle=idle)
                    batch = [request for request in turn.batch if self._start(request)]
                    expired = [request for request in turn.expired if self._settle(request, "expired")]
                    if turn.batch or turn.expired:
                        self._admit()
                    if batch:
                        images = self._begin(batch, now)
                    if batch or expired or self._unused:
                        break
                    if self._closing and not self._queue:
                        self._work_to_do.wake_all()
                        return [], []
                    if not (turn.batch or turn.expired):
                        self._work_to_do.wait(None if turn.again_at is None else max(0.0, turn.again_at - now))
            self._give_back()
            for request in expired:
                self._resolve(request, _late(request, now))
            if batch:
                return batch, images

    def _may_help(self, thread: int) -> bool:
        """Whether a thread may run a batch now, with the lock held: once at a time, and where the engine is idle.

        Not the main thread: a signal's handler may raise there at any line.
        """
        return (
            self._busy < self._engine_sessions
            and thread not in self._helpers
            and thread != threading.main_thread().ident
        )

    def _end_run(self) -> None:
        """Counts a batch as over, with the lock held."""
        self._busy -= 1
        if self._queue:
            self._work_to_do.wake_one()

    def _end_help(self, helper: int) -> None:
        """Lets a thread go that helped, with the lock held."""
        self._helpers.discard(helper)
        if self._closing:
            self._helper_left.notify_all()

    def _begin(self, batch: list[Request], now: float) -> list[Any]:
        """Counts a batch as begun, with the lock held; its images, which are the caller's from now on."""
        self._busy += 1
        for request in batch:
            request.taken_at = now
            self._tally.queue_s += now - request.arrival
        return [request.take_image() for request in batch]

    def help(self, request: Request) -> None:
        """Runs a request in the thread that calls, which waits for it, if a worker would run it now, and alone.

        That saves two changes of threads.
        """
        if os.getpid() != self._pid:
            return
        me = threading.get_ident()
        with self._lock:
            if self._closing or not self._may_help(me) or not self._queue.take_only(request):
                return
            if not self._start(request):
                return
            images = self._begin([request], _now())
            self._helpers.add(me)
        try:
            self._resolve_all(self._run([request], images))
        except BaseException as e:  # noqa: BLE001 - as for a worker
            self._break(e, [request])
        finally:  # an error keeps this frame too
            del request, images
        with self._lock:
            self._end_help(me)

    def _run(self, batch: list[Request], submitted: list[Any]) -> list[Outcome]:
        """Runs a batch and settles its requests; what is to be resolved. Empties `submitted`: all is given back."""
        run = Run(self._target, batch[0].key)
        begin = _now()
        images = run.load(submitted)
        now = _now()
        outcomes: list[Outcome] = []
        able = []
        for request, image in zip(batch, images, strict=True):
            if isinstance(image, BaseException):
                outcomes.append((request, image))
            elif request.deadline is not None and request.deadline <= now:
                outcomes.append((request, _late(request, now)))
            else:
                able.append((request, image))
        try:
            answers = run.detect([image for _, image in able])
        finally:
            run.give_back(submitted)
        outcomes += zip((request for request, _ in able), answers, strict=True)
        try:
            return self._settle_batch(outcomes, begin, now - begin, run.executions)
        finally:  # an error keeps this frame, which must not lead back to the futures that hold the error
            del batch, images, outcomes, able, answers, request, image

    def _settle_batch(
        self,
        outcomes: list[Outcome],
        begin: float,
        load_s: float,
        executions: list[int],
    ) -> list[Outcome]:
        end = _now()
        tally = self._tally
        resolve = []
        with self._lock:
            for size in executions:
                tally.add_execution(size)
            tally.retried += len(executions) - 1 if executions else 0
            if len(executions) == 1:
                self._runs.append((executions[0], end - begin))
            for request, outcome in outcomes:
                late = request.deadline is not None and request.deadline <= end
                if late and not isinstance(outcome, DeadlineExceeded):
                    outcome = _late(request, end)  # noqa: PLW2901 - too late is no result
                if not self._settle(request, _count_of(outcome)):
                    continue  # the timekeeper was quicker
                resolve.append((request, outcome))
                if isinstance(outcome, Detections):
                    tally.add_times(outcome.speed, load_s / len(outcomes), end - request.arrival)
            self._end_run()  # another may begin while this one resolves
        return resolve

    def _break(self, error: BaseException, batch: list[Request] | None = None) -> None:
        """Ends everything with an error that no request caused: a fault of this module."""
        _LOG.error("a thread of a dispatcher failed", exc_info=error)
        with self._lock:
            self._closing = True
            self._broken = error
            ended = [r for r in batch or [] if self._settle(r, "failed") or not r.done()] + self._clear()
            self._work_to_do.wake_all()
            self._time_to_look.notify()
        for request in ended:
            self._resolve(request, self._closed_error())


def _late(request: Request, now: float) -> DeadlineExceeded:
    allowed = 0.0 if request.deadline is None else (request.deadline - request.arrival) * 1e3
    where = "in the queue" if request.taken_at == 0.0 else "after it left the queue"
    return DeadlineExceeded(
        f"no result within deadline_ms={allowed:.6g}: {(now - request.arrival) * 1e3:.1f} ms after submission the "
        f"request was {where}; allow more time, submit less, or raise its priority"
    )


def _count_of(outcome: Detections | BaseException) -> str:
    if isinstance(outcome, Detections):
        return "done"
    return "expired" if isinstance(outcome, DeadlineExceeded) else "failed"


_CREWS: weakref.WeakSet[Crew] = weakref.WeakSet()


def _close_all() -> None:
    """Before the interpreter ends: nothing of ours may run while it is taken apart."""
    for crew in list(_CREWS):
        crew.close(wait=True, cancel=True)


atexit.register(_close_all)
