"""How long to time each of many models, so that all of it ends in time: estimates that get better on the way.

What a model costs is its start, which grows with its parameters, and its calls, which grow with its arithmetic. Both
are estimated from the models before it, so the cheap ones come first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

FEWEST_CALLS = 10
"""Below these there is no median."""

SLOW_CALL_S = 0.5
"""From here on there is no warm-up but the first call."""

_WARM_CALLS = 3
_MARGIN = 1.25  # on estimates: the machine may be busy
_START_S = 3.0  # of a process with any model
_SHORTEST_S = 3.0  # of calls for a model, if there is time

# First guesses, as if a model of this size had been measured already: little networks take longer than their arithmetic
# tells, and must not decide alone what is thought of large ones.
_GUESSED_MILLIONS, _GUESSED_START_S = 20.0, 2.4
_GUESSED_GFLOPS, _GUESSED_CALL_S = 20.0, 0.16


@dataclass(frozen=True)
class Cost:
    """What is known of a model before it runs: None where nothing is."""

    parameters_m: float | None
    gflops: float | None


@dataclass(frozen=True)
class Slot:
    """Seconds of calls and of warm-up for one model, and what all of it may take."""

    duration_s: float
    warmup_s: float
    expected_s: float


class Schedule:
    """Shares a budget between models that come one after the other.

    Args:
        budget_s: for all of them; None: as long as they take.
        longest_s: of calls for one model.
        costs: of the models, in their order.
    """

    def __init__(self, budget_s: float | None, longest_s: float, costs: Sequence[Cost]) -> None:
        self.left_s = budget_s
        self._longest_s = longest_s
        self._costs = list(costs)
        self._millions, self._start_s = _GUESSED_MILLIONS, _GUESSED_START_S
        self._gflops, self._call_s = _GUESSED_GFLOPS, _GUESSED_CALL_S
        self._known_call_s: dict[int, float] = {}

    def spend(self, seconds: float) -> None:
        """So much of the budget is gone."""
        if self.left_s is not None:
            self.left_s -= seconds

    def learn(self, number: int, *, start_s: float, call_s: float) -> None:
        """What model `number` really took."""
        self._known_call_s[number] = call_s
        cost = self._costs[number]
        if cost.parameters_m is not None:
            self._millions += cost.parameters_m
            self._start_s += max(0.0, start_s - _START_S)
        if cost.gflops is not None:
            self._gflops += cost.gflops
            self._call_s += call_s

    def call_s(self, number: int) -> float | None:
        """What one call of model `number` takes, or is estimated to take; None where nothing tells."""
        if number in self._known_call_s:
            return self._known_call_s[number]
        gflops = self._costs[number].gflops
        return None if gflops is None else gflops * self._call_s / self._gflops

    def slot(self, number: int) -> Slot | None:
        """Of model `number`, when it is its turn; None: not even the fewest calls fit into what is left.

        Asked again after `learn`, it goes by what was measured.
        """
        call_s = self.call_s(number) or 0.0
        warmup_s = 0.0 if call_s > SLOW_CALL_S else 1.0
        fewest_s = FEWEST_CALLS * call_s * _MARGIN
        if self.left_s is None:
            return Slot(max(self._longest_s, fewest_s), warmup_s, 0.0)
        least_s = self._least_s(number)
        if least_s > self.left_s:
            return None
        others = [self._least_s(i) for i in range(number + 1, len(self._costs))]
        spare_s = max(0.0, self.left_s - least_s - sum(others)) / (len(others) + 1)
        duration_s = max(min(self._longest_s, max(spare_s, _SHORTEST_S)), fewest_s)
        return Slot(duration_s, warmup_s, least_s - fewest_s + duration_s)

    def _least_s(self, number: int) -> float:
        """Start, first call, warm-up and the fewest calls."""
        cost, call_s = self._costs[number], self.call_s(number) or 0.0
        start_s = _START_S + (cost.parameters_m or 0.0) * self._start_s / self._millions
        warm_s = call_s if call_s > SLOW_CALL_S else max(1.0, _WARM_CALLS * call_s) + call_s
        return (start_s + warm_s + FEWEST_CALLS * call_s) * _MARGIN
