"""Who waits, who runs next and with whom, who has to go. No threads, no clock, no lock: times are arguments."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from enum import Enum
from typing import Generic, Protocol, TypeVar

from swiftdet.dispatch.lanes import Lanes


class Entry(Hashable, Protocol):
    """What the policy asks of a request; hashed by identity."""

    @property
    def priority(self) -> int:
        """The higher, the sooner."""
        ...

    @property
    def key(self) -> Hashable:
        """Requests of equal keys may share a batch."""
        ...

    @property
    def deadline(self) -> float | None:
        """Seconds of the clock when it expires."""
        ...

    @property
    def arrival(self) -> float:
        """Seconds of the clock when it was submitted."""
        ...


T = TypeVar("T", bound=Entry)


class Place(Enum):
    """What became of an offered request."""

    QUEUED = "queued"
    WAITING = "waiting"
    """There is no place in the queue; it gets one when one is free."""
    REFUSED = "refused"


@dataclass(slots=True)
class Turn(Generic[T]):
    """What a worker that asked for work is to do.

    Attributes:
        batch: to run now, of one key; empty: nothing yet.
        expired: to be told that their deadline has passed; they left the queue.
        again_at: when to ask again if nothing else happens; None: no need.
    """

    batch: list[T] = field(default_factory=list)
    expired: list[T] = field(default_factory=list)
    again_at: float | None = None


class QueuePolicy(Generic[T]):
    """A bounded queue that forms batches.

    - The queue holds `capacity` requests, higher priorities first, equal ones in order of arrival.
    - In front of a full queue requests wait for a place in the same order ("block"), are refused ("reject"), or push
      out the oldest of the lowest priority, unless that is above their own ("drop_oldest").
    - A batch is the request whose turn it is and those behind it with the same key. It never reaches past a request
      that was left out to one of lower priority. It stops growing where its tightest deadline would be missed.
    - An idle engine gets a batch at once. While the engine is busy with others, a batch that has room waits for mates,
      at most `max_delay` after the arrival of its oldest request, and not beyond the moment when its tightest deadline
      asks for it to start.

    Not safe from several threads: its owner has a lock.
    """

    def __init__(
        self,
        *,
        capacity: int,
        overflow: str,
        max_batch: int,
        max_delay: float,
        sizes: tuple[int, ...] = (),
        estimate: Callable[[int], float] = lambda _: 0.0,
    ) -> None:
        """An empty queue.

        Args:
            capacity: most requests in it, at least 1.
            overflow: "block", "reject" or "drop_oldest".
            max_batch: most requests of a batch, at least 1.
            max_delay: seconds.
            sizes: sizes that the engine is prepared for, ascending from 1: batches are cut to one of these. Empty: any.
            estimate: seconds that a batch of n will take.
        """
        self._capacity = capacity
        self._overflow = overflow
        self._max_batch = max_batch
        self._max_delay = max_delay
        self._sizes = sizes
        self._estimate = estimate
        self._queue: Lanes[T] = Lanes()
        self._room: Lanes[T] = Lanes()

    def __len__(self) -> int:
        """Requests that are here, queued or waiting for a place."""
        return len(self._queue) + len(self._room)

    @property
    def queued(self) -> int:
        """Requests in the queue."""
        return len(self._queue)

    def offer(self, entry: T, *, may_wait: bool) -> tuple[Place, T | None]:
        """Takes a request in.

        Args:
            entry: is not here yet.
            may_wait: it waits for a place where the queue is full, whatever the policy for others.

        Returns:
            Its place, and the request that it pushed out, if any.
        """
        if len(self._queue) < self._capacity:  # nobody waits then
            self._queue.add(entry)
            return Place.QUEUED, None
        if may_wait:
            self._room.add(entry)
            return Place.WAITING, None
        if self._overflow == "drop_oldest":
            victim = self._queue.oldest_of_the_lowest()
            if victim.priority <= entry.priority:
                self._queue.remove(victim)
                self._queue.add(entry)
                return Place.QUEUED, victim
        return Place.REFUSED, None

    def discard(self, entry: T) -> bool:
        """Takes a request out, wherever it is; False if it is not here. Call `admit` then."""
        return self._queue.remove(entry) or self._room.remove(entry)

    def take_only(self, entry: T) -> bool:
        """Takes a request out that is alone here, the next to run therefore; False if it is not."""
        return len(self._queue) == 1 and not self._room and self._queue.remove(entry)

    def admit(self) -> list[T]:
        """Gives free places to those who wait; who got one."""
        admitted = []
        while self._room and len(self._queue) < self._capacity:
            entry = self._room.first()
            self._room.remove(entry)
            self._queue.add(entry)
            admitted.append(entry)
        return admitted

    def clear(self) -> list[T]:
        """Takes everything out."""
        everything = [*self._queue, *self._room]
        for entry in everything:
            self.discard(entry)
        return everything

    def take(self, now: float, *, engine_idle: bool) -> Turn[T]:
        """What a worker does that has nothing to do. Call `admit` then.

        Args:
            now: seconds of the clock.
            engine_idle: a batch would not find the engine busy with others, or is not to be held for another reason.
        """
        if not self._queue:
            return Turn()
        if engine_idle and len(self._queue) == 1:  # nothing to decide, and nobody to hide the time behind
            only = self._queue.first()
            self._queue.remove(only)
            expired = only.deadline is not None and only.deadline <= now
            return Turn(expired=[only]) if expired else Turn([only])
        turn, closed, tightest = self._plan(now)
        if turn.batch and not (engine_idle or closed):
            start_at = self._start_at(turn.batch, tightest)
            if start_at > now:
                turn.batch.clear()
                turn.again_at = start_at
        if self._sizes:
            del turn.batch[self._prepared(len(turn.batch)) :]
        for gone in (*turn.batch, *turn.expired):
            self._queue.remove(gone)
        return turn

    def _plan(self, now: float) -> tuple[Turn[T], bool, float | None]:
        """The batch that could run now, whether it cannot grow any more, and its tightest deadline."""
        turn: Turn[T] = Turn()
        batch = turn.batch
        tightest: float | None = None
        passed_over: int | None = None  # priority of a request that was left out
        closed = False
        for entry in self._queue:
            if entry.deadline is not None and entry.deadline <= now:
                turn.expired.append(entry)
                continue
            if batch:
                if passed_over is not None and entry.priority < passed_over:
                    break
                if entry.key != batch[0].key:
                    passed_over = entry.priority
                    continue
                sooner = _sooner(tightest, entry.deadline)
                if sooner is not None and now + self._estimate(len(batch) + 1) > sooner:
                    closed = True
                    break
                tightest = sooner
            else:
                tightest = entry.deadline
            batch.append(entry)
            if len(batch) == self._max_batch:
                closed = True
                break
        return turn, closed, tightest

    def _start_at(self, batch: list[T], tightest: float | None) -> float:
        """When a batch with room has to start at the latest."""
        waited = min(entry.arrival for entry in batch) + self._max_delay
        return waited if tightest is None else min(waited, tightest - self._estimate(len(batch)))

    def _prepared(self, size: int) -> int:
        """The largest size of batches that the engine is prepared for, at most `size`."""
        fitting = [prepared for prepared in self._sizes if prepared <= size]
        return fitting[-1] if fitting else size


def _sooner(a: float | None, b: float | None) -> float | None:
    if a is None or b is None:
        return b if a is None else a
    return min(a, b)
