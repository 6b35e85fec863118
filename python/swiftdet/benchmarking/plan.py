"""Which runs a benchmark makes, from options that are checked before anything is measured."""

from __future__ import annotations

import itertools
import math
import numbers
import os
from collections.abc import Callable
from typing import Any

from swiftdet import checks, zoo
from swiftdet.benchmarking.loops import Loop
from swiftdet.errors import InvalidArgument, InvalidType
from swiftdet.zoo import weights as zoo_weights

_MOST_RUNS = 1000
_LONGEST_S = 7 * 86400
_FASTEST_HZ = 1e6


def runs(*, batch: Any, threads: Any, rate_hz: Any, duration_s: Any, warmup_s: Any) -> list[Loop]:
    """A closed loop for each batch size and number of threads, each followed by its paced loops.

    Raises:
        InvalidArgument, InvalidType: an option outside its contract.
    """
    duration = _number("duration_s", duration_s, lowest=0.001, highest=_LONGEST_S)
    warmup = _number("warmup_s", warmup_s, lowest=0.0, highest=_LONGEST_S)
    batches = _each("batch", batch, lambda one: checks.whole("batch", one, highest=1024))
    crews = _each("threads", threads, lambda one: checks.whole("threads", one, highest=1024))
    rates = _each("rate_hz", () if rate_hz is None else rate_hz, _rate, empty=True)
    if len(batches) * len(crews) * (1 + len(rates)) > _MOST_RUNS:
        raise InvalidArgument(f"expected at most {_MOST_RUNS} combinations of batch, threads and rate_hz")
    return [
        Loop(rate, crew, size, duration, warmup)
        for crew, size, rate in itertools.product(crews, batches, (None, *rates))
    ]


def implied_weights(model: Any, given: Any) -> Any:
    """The weights to use: made-up ones for a name of the zoo that was given none and brings none."""
    if given is None and isinstance(model, str | os.PathLike) and os.fspath(model) not in zoo.demo_names():
        suffix = os.path.splitext(os.fspath(model))[1].lower()  # noqa: PTH122 - of text that may be no path
        if zoo_weights.is_zoo_model(model) and suffix not in zoo_weights.CHECKPOINT_SUFFIXES:
            return zoo_weights.SYNTHETIC
    return given


def _each(name: str, given: Any, check: Callable[[Any], Any], *, empty: bool = False) -> list[Any]:
    """One value or several, each checked, none twice."""
    several = given if isinstance(given, list | tuple) else [given]
    if not several and not empty:
        raise InvalidArgument(f"{name}: expected at least one, got none")
    return list(dict.fromkeys(check(one) for one in several))


def _rate(value: Any) -> float:
    return _number("rate_hz", value, lowest=1e-3, highest=_FASTEST_HZ)


def _number(name: str, value: Any, *, lowest: float, highest: float) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise InvalidType(f"{name}: expected a number, got {checks.shown(value)}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not lowest <= number <= highest:
        raise InvalidArgument(f"{name}: expected {lowest:g} to {highest:g}, got {checks.shown(value)}")
    return number
