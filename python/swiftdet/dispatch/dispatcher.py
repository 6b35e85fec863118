"""`BatchDispatcher`: requests from any number of threads and event loops, run in batches over one detector."""

from __future__ import annotations

import math
import numbers
import time
import weakref
from collections import deque
from collections.abc import Hashable, Iterable, Iterator
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Literal, overload

from swiftdet import checks
from swiftdet.detector import Detector
from swiftdet.dispatch.crew import Crew
from swiftdet.dispatch.request import Request
from swiftdet.dispatch.statistics import DispatcherStats
from swiftdet.dispatch.target import Target
from swiftdet.errors import InvalidArgument, InvalidType
from swiftdet.results import Detections

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

Overflow = Literal["block", "reject", "drop_oldest"]


class BatchDispatcher:
    """Collects requests into batches, runs them on worker threads, and gives each its own result or error.

    Work-conserving: a request that finds the engine idle starts at once, alone if need be. Batches form of what came
    while the engine was busy. Only then may `max_delay_ms` hold a batch back, and never longer than the engine is busy.

    A batch has requests of equal options only, and results are those that the detector gives for each image alone.
    Images are read and decoded on the worker threads; those in a GPU's memory are borrowed in the thread that submits.
    A thread that calls the dispatcher, or waits in `result()`, for a request that finds the engine idle is such a
    worker for that time, unless it is the main thread, or the wait or the request has a limit of time.
    Safe from any number of threads and event loops.

    Args:
        detector: stays yours: close it after the dispatcher.
        max_batch: most images of a batch.
        max_delay_ms: milliseconds that a batch with room may wait for mates after the arrival of its oldest request,
            while all sessions that keep the engine busy are busy and another worker is free. 0: it never waits.
        queue_size: most requests that wait in the queue; those with a worker do not count.
        overflow: what happens to a request that finds the queue full. "block": it waits, up to its `timeout`;
            "reject": `Overloaded`; "drop_oldest": it takes the place of the oldest request of the lowest priority,
            whose future gets `Overloaded`, unless all that wait have higher priorities than itself.
        workers: threads that run batches. None: as many as keep the engine busy, and one more to load and pre-process
            meanwhile; never more than the detector has sessions.

    Raises:
        InvalidArgument, InvalidType: an option outside its range or of the wrong type.

    Example:
        >>> with swiftdet.BatchDispatcher(detector) as dispatcher:  # doctest: +SKIP
        ...     futures = [dispatcher.submit(image, deadline_ms=200) for image in images]
        ...     results = [future.result() for future in futures]
    """

    def __init__(
        self,
        detector: Detector,
        *,
        max_batch: int = 8,
        max_delay_ms: float = 0.0,
        queue_size: int = 256,
        overflow: Overflow = "block",
        workers: int | None = None,
    ) -> None:
        checks.whole("max_batch", max_batch)
        max_delay = _duration("max_delay_ms", max_delay_ms)
        if max_delay < 0:
            raise InvalidArgument(f"max_delay_ms: expected at least 0, got {max_delay_ms!r}")
        checks.whole("queue_size", queue_size)
        self._overflow = checks.choice("overflow", overflow, ("block", "reject", "drop_oldest"))
        self._target = Target(detector, max_batch=max_batch)
        if workers is None:
            workers = min(self._target.engine_sessions + 1, self._target.session_limit)
        self._crew = Crew(
            self._target,
            workers=checks.whole("workers", workers, highest=1024),
            queue_size=queue_size,
            overflow=self._overflow,
            max_batch=max_batch,
            max_delay=max_delay / 1e3,
        )
        self._look_ahead = (self._crew.workers + 1) * max_batch
        # A dispatcher that nobody refers to finishes what it has and ends its threads.
        self._finalizer = weakref.finalize(self, self._crew.close, wait=False, cancel=False)
        self._finalizer.atexit = False  # the crew looks after that itself

    def __call__(
        self,
        image: Any,
        *,
        priority: int = 0,
        deadline_ms: float | None = None,
        timeout: float | None = None,
        **per_call: Any,
    ) -> Detections:
        """Detects in one image and waits for it: what `submit(...).result()` gives, and cheaper.

        Where a worker would run the request at once, and alone, this thread runs it instead, without a future and
        without waking anybody; unless it is the main thread, or the request has a limit of time, which a run could not
        keep. Else it is submitted like any other, and shares batches with what others submit.

        Args:
            image: as for `submit`.
            priority: as for `submit`.
            deadline_ms: as for `submit`; what has one is left to a worker.
            timeout: as for `submit`; what has one is queued first.
            **per_call: as for `submit`.

        Raises:
            as `submit`, and what its future fails with.

        Thread-safe. An array is borrowed until the call ends; one that Ctrl-C ended while a worker ran its image, until
        that run ends. Not for callbacks of futures where all workers are busy:
        as with `submit(...).result()`, they would wait for themselves.
        """
        options = self._target.options(per_call)
        if deadline_ms is None and timeout is None and type(priority) is int:  # others are checked on their way
            result = self._crew.run_alone(image, options)
            if result is not None:
                return result
        request = self._send(image, options, priority, deadline_ms, timeout, block=True)
        try:
            return request.result()
        except BaseException:  # Ctrl-C among them: nobody else has the future
            request.cancel()
            raise
        finally:
            del request  # an error keeps this frame, which must not lead back to the future that holds the error

    def submit(
        self,
        image: Any,
        *,
        priority: int = 0,
        deadline_ms: float | None = None,
        timeout: float | None = None,
        **per_call: Any,
    ) -> Future[Detections]:
        """Queues one image.

        Args:
            image: what a call of the detector takes, no list. An array is borrowed until the future is resolved. One in
                the GPU's memory is read after the work that this thread queued to make it, and given back before the
                future has its result; where a deadline passes during its run, soon after.
            priority: requests of higher numbers go first, equal ones in order of arrival.
            deadline_ms: milliseconds from now in which the result must be there; else the future gets
                `DeadlineExceeded`, then and not later. A request that has expired never reaches the engine.
            timeout: seconds to wait for a place in the queue; None: as long as it takes. Without effect with another
                `overflow` than "block". From a callback of a future, which runs on a worker thread or on the one that
                ran the request, it never waits: the request waits for its place alone, and the future says if it got
                none.
            **per_call: conf, iou, max_det, ...: as for a call of the detector.

        Returns:
            The future of the image's `Detections`. `cancel()` succeeds until a worker takes the request. It fails with
            what a call of the detector raises (`ImageError`, `BackendError`, `DetectorClosed`, ...), with
            `DeadlineExceeded`, with `Overloaded` where a newer request took its place, and with `DispatcherClosed`
            after `close(cancel=True)`.

        Raises:
            Overloaded: the queue is full.
            DispatcherClosed: after `close()`.
            UsedAfterFork: in a process that was forked from the dispatcher's.
            InvalidArgument, InvalidType: an option outside its contract.
        """
        options = self._target.options(per_call)
        return self._send(image, options, priority, deadline_ms, timeout, block=True)

    async def asubmit(
        self,
        image: Any,
        *,
        priority: int = 0,
        deadline_ms: float | None = None,
        timeout: float | None = None,
        **per_call: Any,
    ) -> Detections:
        """As `submit`, and waits for the result without blocking the event loop, also for a place in the queue.

        Cancelling the task that waits here cancels the request, if no worker has taken it yet. Any event loop will do.

        Raises:
            as `submit`, and what its future fails with.
        """
        import asyncio  # noqa: PLC0415 - slow to import, and who awaits has it already

        options = self._target.options(per_call)
        return await asyncio.wrap_future(self._send(image, options, priority, deadline_ms, timeout, block=False))

    @overload
    def map(
        self, images: Iterable[Any], *, return_exceptions: Literal[False] = False, **options: Any
    ) -> Iterator[Detections]: ...
    @overload
    def map(
        self, images: Iterable[Any], *, return_exceptions: bool, **options: Any
    ) -> Iterator[Detections | Exception]: ...
    def map(
        self,
        images: Iterable[Any],
        *,
        ahead: int | None = None,
        return_exceptions: bool = False,
        priority: int = 0,
        deadline_ms: float | None = None,
        **per_call: Any,
    ) -> Iterator[Detections | Exception]:
        """Detects in each of `images`, in their order, and takes from them only a bounded number ahead.

        Args:
            images: any iterable, also one without an end; it is advanced by the thread that iterates over the result,
                which also borrows images in a GPU's memory.
            ahead: most images that were taken and whose results were not; None: enough to keep every worker busy.
            return_exceptions: an image that fails yields its error in its place. Else the error is raised there, and
                the iteration ends.
            priority: as for `submit`.
            deadline_ms: for each image, from the moment in which it is taken.
            **per_call: as for `submit`.

        Returns:
            An iterator. It waits for places in the queue whatever `overflow` says. Closing it, or dropping it, cancels
            what is queued.

        Raises:
            InvalidArgument, InvalidType: an option outside its contract, at once.
            DispatcherClosed: while iterating, when an image is to be taken after `close()`.
        """
        options = self._target.options(per_call)
        self._request(options, priority, deadline_ms, None)  # checks them now, not at the first step
        limit = self._look_ahead if ahead is None else checks.whole("ahead", ahead)
        errors = (Exception,) if checks.switch("return_exceptions", return_exceptions) else ()
        return self._map(images, options, limit, errors, priority, deadline_ms)

    def _map(
        self,
        images: Iterable[Any],
        options: Hashable,
        limit: int,
        errors: tuple[type[Exception], ...],
        priority: int,
        deadline_ms: float | None,
    ) -> Iterator[Detections | Exception]:
        taken: deque[Request] = deque()

        def next_result() -> Detections | Exception:
            try:
                return taken.popleft().result()
            except errors as e:
                return e

        try:
            for image in images:
                taken.append(self._send(image, options, priority, deadline_ms, None, block=True, patient=True))
                del image
                if len(taken) >= limit:
                    yield next_result()
            while taken:
                yield next_result()
        finally:
            for request in taken:
                request.cancel()

    def stats(self) -> DispatcherStats:
        """What was done so far. Cheap; consistent at one moment.

        Raises:
            UsedAfterFork: in a process that was forked from the dispatcher's.
        """
        return self._crew.stats()

    def close(self, *, wait: bool = True, cancel: bool = False) -> None:
        """Takes no more requests. May be called again, also to cancel what an earlier call left.

        Args:
            wait: returns when every future is resolved and every thread has ended. On a worker thread, that is in a
                callback of a future, it does not wait.
            cancel: requests that no worker has taken fail with `DispatcherClosed`; else they are finished first, those
                that wait for a place in the queue included.
        """
        self._crew.close(wait=wait, cancel=cancel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finishes what was submitted; after an error, cancels it."""
        self.close(cancel=kind is not None)

    def __repr__(self) -> str:
        state = "closed" if self._crew.closing else f"{self._crew.workers} workers"
        return f"BatchDispatcher({self._target.detector!r}, {state})"

    def _send(
        self,
        image: Any,
        options: Hashable,
        priority: int,
        deadline_ms: float | None,
        timeout: float | None,
        *,
        block: bool,
        patient: bool = False,
    ) -> Request:
        """Makes a request and hands it to the crew; a `patient` one waits for a place whatever `overflow` says."""
        request = self._request(options, priority, deadline_ms, timeout)
        try:
            request.image = self._target.borrow(image, options)
            may_wait = patient or (self._overflow == "block" and timeout != 0)
            self._crew.submit(request, may_wait=may_wait, block=block)
            return request
        finally:  # an error may keep this frame, which must not lead back to the future that holds the error
            del request

    @staticmethod
    def _request(options: Hashable, priority: int, deadline_ms: float | None, timeout: float | None) -> Request:
        """A request that begins now, its options checked; it has no image yet."""
        if type(priority) is not int:  # by far the most common one needs no call
            priority = checks.whole("priority", priority, lowest=-(2**31))
        now = time.monotonic()
        deadline = None if deadline_ms is None else now + _duration("deadline_ms", deadline_ms) / 1e3
        give_up_at = None
        if timeout is not None:
            seconds = _duration("timeout", timeout)
            if seconds < 0:
                raise InvalidArgument(f"timeout: expected at least 0 s or None, got {timeout!r}")
            give_up_at = now + seconds
        return Request(options, priority, now, deadline, give_up_at)


def _duration(name: str, value: Any) -> float:
    """A finite number, of the unit in the name."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise InvalidType(f"{name}: expected a number, got {value!r:.60}")
    number = float(value)
    if not math.isfinite(number):
        raise InvalidArgument(f"{name}: expected a finite number, got {value!r}")
    return number
