"""Threads that wait for work."""

from __future__ import annotations

import threading
from typing import Protocol


class Lock(Protocol):
    """What guards the work; held once by who waits."""

    def acquire(self) -> bool:
        """Takes it."""

    def release(self) -> None:
        """Gives it back."""


class IdleThreads:
    """A condition on the lock of its owner that wakes who came last: its stack and data are still in the caches.

    With `threading.Condition`, which wakes who waits longest, each request of a slow stream goes to the thread that has
    slept the longest, and passes more Python on the way.
    """

    def __init__(self, lock: Lock) -> None:
        self._lock = lock
        self._gates: list[threading.Lock] = []

    def wait(self, timeout: float | None) -> None:
        """Waits, without the lock, until it is woken or `timeout` seconds have passed; None: as long as it takes."""
        gate = threading.Lock()
        gate.acquire()
        self._gates.append(gate)
        self._lock.release()
        try:
            gate.acquire(timeout=-1 if timeout is None else min(timeout, threading.TIMEOUT_MAX))
        finally:
            self._lock.acquire()
            if gate in self._gates:  # nobody woke it
                self._gates.remove(gate)

    def wake_one(self) -> None:
        """Wakes a thread, if one waits; with the lock held."""
        if self._gates:
            self._gates.pop().release()

    def wake_all(self) -> None:
        """Wakes all threads that wait; with the lock held."""
        while self._gates:
            self._gates.pop().release()
