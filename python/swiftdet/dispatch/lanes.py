"""Entries in the order of their priority, and within one priority in the order of their arrival."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Hashable, Iterator
from typing import Generic, Protocol, TypeVar


class Prioritised(Hashable, Protocol):
    """Anything hashable by identity that has a priority."""

    @property
    def priority(self) -> int:
        """The higher, the sooner."""
        ...


T = TypeVar("T", bound=Prioritised)


class Lanes(Generic[T]):
    """One first-in-first-out lane for each priority that is in use. Adding and removing take constant time.

    Not safe from several threads: its owner has a lock.
    """

    def __init__(self) -> None:
        self._lanes: dict[int, dict[T, None]] = {}
        self._falling: list[int] = []  # the negated priorities in use, ascending
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[T]:
        """All entries, first the one whose turn is first. Nothing may be added or removed meanwhile."""
        for negated in self._falling:
            yield from self._lanes[-negated]

    def __contains__(self, entry: T) -> bool:
        return entry in self._lanes.get(entry.priority, ())

    def add(self, entry: T) -> None:
        """Appends an entry to the lane of its priority."""
        lane = self._lanes.get(entry.priority)
        if lane is None:
            lane = self._lanes[entry.priority] = {}
            insort(self._falling, -entry.priority)
        lane[entry] = None
        self._count += 1

    def remove(self, entry: T) -> bool:
        """Takes an entry out; False if it was not there."""
        lane = self._lanes.get(entry.priority)
        if lane is None or entry not in lane:
            return False
        del lane[entry]
        self._count -= 1
        if not lane:
            del self._lanes[entry.priority]
            del self._falling[bisect_left(self._falling, -entry.priority)]
        return True

    def first(self) -> T:
        """The entry whose turn is first; there must be one."""
        return next(iter(self._lanes[-self._falling[0]]))

    def oldest_of_the_lowest(self) -> T:
        """The oldest entry of the lowest priority; there must be one."""
        return next(iter(self._lanes[-self._falling[-1]]))
