"""One timed call of a detector, and the rows in which the times of many are kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from time import perf_counter_ns
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from swiftdet import images
from swiftdet.benchmarking.stages import Stages

MilliArray: TypeAlias = npt.NDArray[np.float64]

_ROWS = 4096


class Caller:
    """Calls a detector and tells where the time went. Safe from any number of threads.

    Attributes:
        stages: names of those that it tells.
    """

    def __init__(
        self,
        detector: Callable[..., Any],
        stages: Stages,
        per_call: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        """Calls of `detector` with the options `per_call`.

        Images are decoded before the call, by what the detector itself would decode them with, where `stages` has the
        stage; so its `color` must be "rgb" then.
        """
        self._detector = detector
        self.stages = stages.names
        self._split = stages.split
        self._decodes = "decode" in stages.names
        self._per_call = dict(per_call)

    def call(self, sources: Sequence[Any]) -> tuple[int, int, list[float], int]:
        """One call: (began, ended, milliseconds of each stage, objects found). Times by `perf_counter_ns`.

        One image is passed by itself, several as a list. What the harness does beside it lies outside of both.
        """
        pixels = sources
        began = decoded = perf_counter_ns()
        if self._decodes:
            pixels = [images.load(source).pixels for source in sources]
            decoded = perf_counter_ns()
        found = self._detector(pixels[0] if len(pixels) == 1 else pixels, **self._per_call)
        ended = perf_counter_ns()
        results = found if isinstance(found, list) else [found]
        parts = self._split((decoded - began) / 1e6, (ended - decoded) / 1e6, [result.speed for result in results])
        return began, ended, parts, sum(map(len, results))


class Samples:
    """Rows of milliseconds, for one thread. Memory is taken 4096 rows at a time, between calls."""

    def __init__(self, columns: Sequence[str]) -> None:
        """No rows yet, of the columns `columns`."""
        self._columns = tuple(columns)
        self._full: list[MilliArray] = []
        self._rows = self._new_rows()
        self._used = 0

    def add(self, row: Sequence[float]) -> None:
        """Keeps one row."""
        if self._used == _ROWS:
            self._full.append(self._rows)
            self._rows, self._used = self._new_rows(), 0
        self._rows[self._used] = row
        self._used += 1

    def table(self) -> MilliArray:
        """All rows, float64 [N, columns]."""
        return np.concatenate([*self._full, self._rows[: self._used]])

    def _new_rows(self) -> MilliArray:
        # Filled, not only reserved: a page that is touched for the first time costs time.
        return np.full((_ROWS, len(self._columns)), np.nan)
