"""Rounds in which every side of a case has one turn, so that the machine's other work meets all of them alike.

pytest-benchmark times one test after the other, and on a busy machine that is minutes apart. Here the first side that
is to report lets all sides run; the times of each are then replayed to pytest-benchmark by a clock that stands still
otherwise. A test that reports is marked `replayed`.

    ROUNDS = Rounds({"swiftdet": timed(ours), "opencv": timed(theirs)}, rounds=60, warmup=5)

    @replayed
    @pytest.mark.parametrize("side", ["swiftdet", "opencv"])
    def test_something(benchmark, side):
        benchmark.extra_info.update(case=..., side=side, bound=...)
        ROUNDS.report(benchmark, side)
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest


class Clock:
    """Stands still until it is told how much time has passed."""

    def __init__(self):
        self._now = 0.0

    def __call__(self):
        return self._now

    def advance(self, seconds):
        self._now += seconds


CLOCK = Clock()
replayed = pytest.mark.benchmark(timer=CLOCK)


def timed(call: Callable[[], object], timer: Callable[[], float] = time.perf_counter) -> Callable[[], float]:
    """`call` as a turn: makes it once and returns the seconds that it took."""

    def turn():
        begin = timer()
        call()
        return timer() - begin

    return turn


class Rounds:
    """Times of the sides of one case.

    Attributes:
        seconds: of each turn, by side; empty until the first side reports.
    """

    def __init__(self, turns: dict[str, Callable[[], float]], *, rounds: int, warmup: int) -> None:
        """Takes for each side what has one turn and returns its seconds."""
        self.seconds: dict[str, list[float]] = {}
        self._turns, self._rounds, self._warmup = turns, rounds, warmup

    def measure(self, *, once: bool = False) -> None:
        """Lets all sides have their turns, unless they had; `once`: one round without warming up."""
        if self.seconds:
            return
        rounds, warmup = (1, 0) if once else (self._rounds, self._warmup)
        self.seconds = {side: [] for side in self._turns}
        for i in range(-warmup, rounds):
            # Every other round backwards, so that nobody always follows the same side.
            for side, turn in list(self._turns.items())[:: -1 if i % 2 else 1]:
                seconds = turn()
                if i >= 0:
                    self.seconds[side].append(seconds)

    def report(self, benchmark, side: str) -> None:
        """Hands the times of `side` to pytest-benchmark; where that only checks, there is one round."""
        self.measure(once=not benchmark.enabled)
        times = iter(self.seconds[side])
        benchmark.pedantic(lambda: CLOCK.advance(next(times)), rounds=len(self.seconds[side]))
