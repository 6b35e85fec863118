"""Where the time of a call goes: the mean of each stage, as parts of the mean call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from swiftdet.comparison.columns import SpeedColumn, shared_and_own
from swiftdet.comparison.rows import Row
from swiftdet.comparison.tables import details

STAGES = {
    "late": "late",
    "decode": "decode",
    "preprocess": "pre-process",
    "copy_in": "copy in",
    "inference": "network",
    "postprocess": "post-process",
    "copy_out": "copy out",
    "device": "device",
    "python": "Python",
}
"""Names for people, in the order of a call; `late` is the wait of a paced loop's call for its beginning."""


@dataclass(frozen=True)
class Part:
    """A stage's mean time, and its share of all of them."""

    name: str
    ms: float
    share: float


@dataclass(frozen=True)
class Bar:
    """One row's mean call, in parts."""

    title: str
    detail: str
    ms: float
    parts: list[Part]


@dataclass(frozen=True)
class StageBars:
    """Bars of one column of times.

    Attributes:
        facts: what the column is.
        names: of the stages that occur, in order.
        bars: of its rows.
    """

    facts: list[str]
    names: list[str]
    bars: list[Bar]


def stage_bars(rows: Sequence[Row]) -> list[StageBars]:
    """Bars for each column of times, in the order of the columns."""
    timed = [row for row in rows if row.speeds]
    columns = list(dict.fromkeys(column for row in timed for column in row.speeds))
    shared, own = shared_and_own(columns)
    return [_of_column(timed, column, lines or shared) for column, lines in zip(columns, own, strict=True)]


def _of_column(rows: Sequence[Row], column: SpeedColumn, facts: list[str]) -> StageBars:
    detail = details(rows)
    bars = []
    for row in rows:
        if column in row.speeds:
            run = row.speeds[column].figures
            means = {key: run["stages"][key]["mean"] for key in STAGES if key in run["stages"]}
            if run.get("late") is not None:
                means = {"late": run["late"]["mean"], **means}
            whole = sum(means.values()) or 1.0
            parts = [Part(STAGES[key], mean, mean / whole) for key, mean in means.items()]
            bars.append(Bar(row.title, detail[id(row)], run["total"]["mean"], parts))
    used = {part.name for bar in bars for part in bar.parts}
    return StageBars(facts, [name for name in STAGES.values() if name in used], bars)
