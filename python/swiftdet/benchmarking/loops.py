"""Loops of calls: closed, each thread's next call when its last one has ended, or paced, by a timetable."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter_ns
from typing import Any, Protocol

import numpy as np

from swiftdet.benchmarking.calls import Caller, MilliArray, Samples

LOOK_S = 0.5
"""How often the machine is looked at, and the caller told of progress, while calls run."""

GRACE_S = 1.0
"""How long after the end of a paced loop calls that were due earlier may still begin."""

_WARM_CALLS = 3  # of each thread, however long they take: sessions, and graphs on a GPU, are made by the first ones


class Watch(Protocol):
    """What observes the machine during a loop; `interference.Watch` is one."""

    def start(self) -> None:
        """The loop begins."""

    def look(self) -> None:
        """Some time has passed."""


@dataclass(frozen=True)
class Loop:
    """How calls are made.

    Attributes:
        rate_hz: calls a second of all threads together, by a timetable; None: a closed loop.
        threads: that call the one detector.
        batch: images a call.
        duration_s: how long calls begin.
        warmup_s: how long calls are made before, in a closed loop; at least three a thread, unless it is 0.
    """

    rate_hz: float | None
    threads: int
    batch: int
    duration_s: float
    warmup_s: float


@dataclass(frozen=True)
class Outcome:
    """What a loop measured. Row by row the calls, in no order.

    Attributes:
        stages: ms [calls] of each stage, by its name.
        late: ms [calls] from when a call was due to when it began; of a closed loop 0.
        total: ms [calls] from when a call was due to its end.
        objects: that were found, in all.
        warmup_s, duration_s: from the first beginning to the last end of a call.
        not_begun: calls that were due and had not begun when the loop ended.
        harness_ms: mean time between two calls of a thread, which is spent on measuring; None for a paced loop.
    """

    stages: dict[str, MilliArray]
    late: MilliArray
    total: MilliArray
    objects: int
    warmup_s: float
    duration_s: float
    not_begun: int
    harness_ms: float | None


def run(
    caller: Caller,
    batches: Sequence[Sequence[Any]],
    loop: Loop,
    watch: Watch,
    on_progress: Callable[[float], None] = lambda _: None,
) -> Outcome:
    """Makes the calls of a loop in threads of their own, and waits.

    Args:
        caller: makes one call; safe from several threads.
        batches: what to call it with, one after the other, over and over.
        loop: how.
        watch: is told of the beginning and, twice a second, of the time that passes, in the calling thread.
        on_progress: called as often, with the seconds that are over, warm-up included.

    Raises:
        Whatever a call raises; all threads have ended then.
    """
    crew = _Crew(caller, batches, loop)
    threads = [
        threading.Thread(target=crew.work, args=(i,), name=f"swiftdet-benchmark-{i}") for i in range(loop.threads)
    ]
    started = time.perf_counter()

    def wait_for(event: threading.Event) -> None:
        while not event.wait(LOOK_S):
            watch.look()
            on_progress(time.perf_counter() - started)

    try:
        for thread in threads:
            thread.start()
        wait_for(crew.warm)
        watch.start()
        crew.go()
        wait_for(crew.done)
    finally:
        crew.stop()
        for thread in threads:
            if thread.ident is not None:
                thread.join()
    return crew.outcome()


class _Crew:
    """The threads of a loop and what they share."""

    def __init__(self, caller: Caller, batches: Sequence[Sequence[Any]], loop: Loop) -> None:
        self.warm, self.done = threading.Event(), threading.Event()
        self._caller = caller
        self._columns = [*caller.stages, "late", "total", "objects"]
        self._batches = batches
        self._loop = loop
        self._go = threading.Event()
        self._stopped = False
        self._numbers: Iterator[int] = itertools.count()  # its next() is atomic
        self._samples = [Samples(self._columns) for _ in range(loop.threads)]
        self._spans = [(0, 0)] * loop.threads
        self._lock = threading.Lock()  # guards the three below
        self._warming = self._working = loop.threads
        self._error: BaseException | None = None
        self._created = perf_counter_ns()
        self._warmed = self._start = self._created

    def go(self) -> None:
        """Warm-up is over; the loop begins now."""
        self._numbers = itertools.count()
        self._start = perf_counter_ns()
        self._go.set()

    def stop(self) -> None:
        """No further call begins."""
        self._stopped = True
        self._go.set()

    def work(self, number: int) -> None:
        """What one thread does."""
        try:
            self._warm_up()
            with self._lock:
                self._warming -= 1
                if self._warming == 0:
                    self._warmed = perf_counter_ns()
                    self.warm.set()
            self._go.wait()
            if self._loop.rate_hz is None:
                self._closed(number)
            else:
                self._paced(number, self._loop.rate_hz)
        except BaseException as e:  # noqa: BLE001 - raised again in the thread that waits
            with self._lock:
                self._error = self._error or e
            self.stop()
            self.warm.set()
        finally:
            with self._lock:
                self._working -= 1
                if self._working == 0:
                    self.done.set()

    def outcome(self) -> Outcome:
        """What all threads measured, after their end."""
        if self._error is not None:
            raise self._error
        table = np.concatenate([samples.table() for samples in self._samples])
        column = dict(zip(self._columns, table.T, strict=True))
        late, total, objects = (column.pop(name) for name in ("late", "total", "objects"))
        begin, end = min(span[0] for span in self._spans), max(span[1] for span in self._spans)
        paced = self._loop.rate_hz is not None
        looping_ms = sum(end - begin for begin, end in self._spans) / 1e6
        calls = len(total)
        return Outcome(
            stages=column,
            late=late,
            total=total,
            objects=int(objects.sum()),
            warmup_s=(self._warmed - self._created) / 1e9,
            duration_s=(end - begin) / 1e9,
            not_begun=0 if self._loop.rate_hz is None else _due(self._loop.rate_hz, self._loop.duration_s) - calls,
            harness_ms=None if paced or calls == 0 else (looping_ms - float(total.sum())) / calls,
        )

    def _warm_up(self) -> None:
        end = self._created + int(self._loop.warmup_s * 1e9)
        fewest = _WARM_CALLS if self._loop.warmup_s > 0 else 0
        calls = 0
        while not self._stopped and (calls < fewest or perf_counter_ns() < end):
            self._caller.call(self._next_batch())
            calls += 1

    def _closed(self, number: int) -> None:
        samples = self._samples[number]
        stop_at = self._start + int(self._loop.duration_s * 1e9)
        first = last = perf_counter_ns()
        while not self._stopped:
            began, last, parts, objects = self._caller.call(self._next_batch())
            samples.add([*parts, 0.0, (last - began) / 1e6, objects])
            if perf_counter_ns() >= stop_at:
                break
        self._spans[number] = (first, last)

    def _paced(self, number: int, rate_hz: float) -> None:
        samples = self._samples[number]
        calls = _due(rate_hz, self._loop.duration_s)
        give_up = self._start + int((self._loop.duration_s + GRACE_S) * 1e9)
        first = last = perf_counter_ns()
        while (k := next(self._numbers)) < calls:
            due = self._start + int(k / rate_hz * 1e9)
            while (wait_s := (due - perf_counter_ns()) / 1e9) > 0 and not self._stopped:
                time.sleep(min(wait_s, LOOK_S))
            if self._stopped or perf_counter_ns() > give_up:
                break
            began, last, parts, objects = self._caller.call(self._batches[k % len(self._batches)])
            samples.add([*parts, (began - due) / 1e6, (last - due) / 1e6, objects])
        self._spans[number] = (first, last)

    def _next_batch(self) -> Sequence[Any]:
        return self._batches[next(self._numbers) % len(self._batches)]


def _due(rate_hz: float, duration_s: float) -> int:
    """Calls whose time lies in the loop; the first is at its beginning."""
    return max(1, int(np.ceil(rate_hz * duration_s)))
