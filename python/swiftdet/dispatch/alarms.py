"""Moments at which something is due."""

from __future__ import annotations

import heapq
import itertools

from swiftdet.dispatch.request import Request, State

_FEW = 64
"""Below so many entries nothing is swept: it would cost more than it frees."""


class Alarms:
    """Requests by the moment at which they expire or stop waiting. Their owner has a lock.

    A request that was settled before its moment stays until the sweep, so that settling costs nothing; settled ones are
    never more than the others plus a few, so results are not kept alive.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Request]] = []
        self._order = itertools.count()  # so that requests are never compared
        self._sweep_at = _FEW

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, when: float, request: Request) -> bool:
        """Sets an alarm; True if it is the next one to ring."""
        if len(self._heap) >= self._sweep_at:
            self._heap = [alarm for alarm in self._heap if alarm[2].state is not State.SETTLED]
            heapq.heapify(self._heap)
            self._sweep_at = max(_FEW, 2 * len(self._heap))
        alarm = (when, next(self._order), request)
        heapq.heappush(self._heap, alarm)
        return self._heap[0] is alarm

    def ring(self, now: float) -> list[Request]:
        """Requests whose moment has come, settled ones left out; they are forgotten."""
        due = []
        while self._heap and (self._heap[0][0] <= now or self._heap[0][2].state is State.SETTLED):
            request = heapq.heappop(self._heap)[2]
            if request.state is not State.SETTLED:
                due.append(request)
        return due

    def next_at(self) -> float | None:
        """When the next alarm rings."""
        return self._heap[0][0] if self._heap else None
