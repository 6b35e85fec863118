"""One image on its way through a dispatcher, and the future of its detections."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from concurrent.futures import Future
from enum import Enum
from typing import Any, Protocol

from swiftdet.results import Detections


class State(Enum):
    """Where a request is. Changes under the dispatcher's lock only."""

    NEW = "new"
    WAITING = "waiting for a place in the queue"
    QUEUED = "queued"
    RUNNING = "with a worker"
    SETTLED = "its future is resolved, or somebody is about to resolve it"


class Owner(Protocol):
    """Who took a request in."""

    def withdraw(self, request: Request) -> None:
        """To be called after the future was cancelled."""

    def help(self, request: Request) -> None:
        """To be called by a thread that has nothing to do until the future is resolved, however long that takes."""


class Request(Future[Detections]):
    """The future that `submit` returns, with what the dispatcher keeps about it.

    Attributes:
        image: as `Target.borrow` gave it. Whoever takes it, under the dispatcher's lock, leaves None, and has to give
            it back: a worker, or who settles a request that none has taken.
        key: the checked options of the call; requests with equal ones may share a batch.
        priority: the higher, the sooner.
        arrival: seconds of the monotonic clock.
        deadline: likewise, or None.
        give_up_at: when it stops waiting for a place, likewise.
        taken_at: when a worker took it, likewise.
        state: see `State`.
        moved: called, under the dispatcher's lock, when a request that waited for a place waits no more.
        owner: who took it in.
    """

    # Set by few requests, or late: making one is on the way of each call.
    image: Any = None
    taken_at = 0.0
    state = State.NEW
    moved: Callable[[], None] | None = None
    owner: Owner | None = None

    def __init__(
        self, key: Hashable, priority: int, arrival: float, deadline: float | None, give_up_at: float | None
    ) -> None:
        super().__init__()
        self.key = key
        self.priority = priority
        self.arrival = arrival
        self.deadline = deadline
        self.give_up_at = give_up_at

    def take_image(self) -> Any:
        """The image, which is the caller's from now on."""
        image, self.image = self.image, None
        return image

    def result(self, timeout: float | None = None) -> Detections:
        """As of any future. Who waits without a limit of time may have to run the request itself: see `Crew`."""
        if timeout is None and self.deadline is None and self.owner is not None and self.state is State.QUEUED:
            self.owner.help(self)
        try:
            return super().result(timeout)
        finally:
            del self  # an error keeps this frame, which must not lead back to the future that holds the error

    def cancel(self) -> bool:
        """Cancels the request if no worker has taken it yet, and frees its place in the queue."""
        if not super().cancel():
            return False
        if self.owner is not None:
            self.owner.withdraw(self)
        return True
