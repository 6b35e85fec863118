"""What the plots show: accuracy against latency, a panel for each set of images and each way of timing; and latencies.

A panel has one axis of latency, whose points share a `SpeedColumn`, and one of AP on one data set; series differ in
split, protocol or weights, and say so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from swiftdet import zoo
from swiftdet.comparison import published_tables
from swiftdet.comparison.columns import AccuracyColumn, Column, SpeedColumn, brief, shared_and_own
from swiftdet.comparison.notes import Notes
from swiftdet.comparison.published_tables import PublishedAccuracy, PublishedLatency
from swiftdet.comparison.rows import Row, is_resized_as_timed
from swiftdet.comparison.tables import details

_LONGEST = 32  # characters of a name in a plot; tables have all of it


@dataclass(frozen=True, kw_only=True)
class Point:
    """A detector: AP in percent (None where only its time is shown), and milliseconds.

    Attributes:
        label: its name.
        family: decides its colour.
        ap: in percent.
        ms: the median, or the mean of too few calls, or what was published.
        low, high: the whiskers: fastest call, and the highest percentile up to p95 that there are calls for, else the
            slowest; equal to `ms` where nothing is known.
        hollow: drawn without filling: published, or of made-up weights.
        ap_low, ap_high: the interval of AP, in percent; None where nothing is known.
    """

    label: str
    family: str
    ap: float | None
    ms: float
    low: float
    high: float
    hollow: bool
    ap_low: float | None = None
    ap_high: float | None = None


@dataclass(frozen=True, kw_only=True)
class Series:
    """Points that may be compared with one another."""

    label: str
    points: list[Point]


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One plot.

    Attributes:
        title: of the plot.
        facts: what holds for all its points.
        notes: numbers of footnotes.
        series: groups of points, each with a mark of its own.
        published: none of it was measured here.
    """

    title: str
    facts: list[str]
    notes: tuple[int, ...]
    series: list[Series]
    published: bool


def latencies(rows: Sequence[Row]) -> list[Panel]:
    """The measured latencies, a panel for each way of timing one call at a time."""
    columns = _single_columns(rows)
    shared, own = shared_and_own(columns)
    detail = details(rows)
    panels = []
    for column, lines in zip(columns, own, strict=True):
        points = [_point(row, column, None, detail[id(row)]) for row in rows if column in row.speeds]
        points.sort(key=lambda point: point.ms)
        panels.append(
            Panel(
                title="Latency of one call",
                facts=lines or shared,
                notes=(),
                series=[Series(label="", points=points)],
                published=False,
            )
        )
    return panels


def _single_columns(rows: Sequence[Row]) -> list[SpeedColumn]:
    return list(dict.fromkeys(column for row in rows for column in row.speeds if column.is_single))


def measured(rows: Sequence[Row]) -> Iterator[Panel]:
    """AP against latency of what went through one pipeline, a panel for each data set and way of timing.

    An accuracy by a protocol that resizes otherwise than the timed pipeline is left to the tables.
    """
    paired = [row for row in rows if row.pairing == "paired"]
    detail = details(paired)
    accuracies = list(
        dict.fromkeys(
            column
            for row in paired
            for column, scored in row.accuracies.items()
            if is_resized_as_timed(scored.source.document)
        )
    )
    data = list(dict.fromkeys((c.dataset, c.split, c.data) for c in accuracies))
    for speed in _single_columns(paired):
        for on in data:
            of_data = [c for c in accuracies if (c.dataset, c.split, c.data) == on]
            found = [
                (
                    column,
                    [
                        _point(row, speed, row.accuracies[column].figures, detail[id(row)])
                        for row in paired
                        if column in row.accuracies and speed in row.speeds
                    ],
                )
                for column in of_data
            ]
            series = [(column, [p for p in points if p.ap is not None]) for column, points in found]
            panel = _panel("Measured here", speed, [(c, p) for c, p in series if p], ())
            if panel is not None:
                yield panel


def _point(row: Row, column: SpeedColumn, scored: Mapping[str, Any] | None, detail: str) -> Point:
    fraction = None if scored is None else scored["scores"]["AP"]
    interval = (scored or {}).get("ap_interval")
    total = row.speeds[column].figures["total"]
    middle = total["mean"] if total["p50"] is None else total["p50"]
    high = next(total[key] for key in ("p95", "p90", "max") if total[key] is not None)
    few = f" (mean of {total['count']})" if total["p50"] is None else ""
    name = " ".join(f"{row.title} {detail}".split())
    return Point(
        label=f"{name if len(name) <= _LONGEST else f'{name[: _LONGEST - 1]}…'}{few}",
        family=row.subject["family"],
        ap=None if fraction is None else 100.0 * fraction,
        ms=middle,
        low=total["min"],
        high=max(high, middle),
        hollow=row.subject["synthetic"],
        ap_low=None if interval is None else 100.0 * interval["low"],
        ap_high=None if interval is None else 100.0 * interval["high"],
    )


def published(footnotes: Notes) -> Iterator[Panel]:
    """AP against latency as others published it, a panel for each way of timing."""
    tables = published_tables.load()
    drawn = [figure for figure in tables.latencies if figure.plot]
    for column in dict.fromkeys(figure.column for figure in drawn):
        figures = [figure for figure in drawn if figure.column == column]
        pairs = [(latency, ap) for latency in figures for ap in _accuracies_beside(latency, tables.accuracies)]
        series: dict[AccuracyColumn, list[Point]] = {}
        for latency, accuracy in pairs:
            series.setdefault(accuracy.column, []).append(_published_point(latency, accuracy.percent["AP"]))
        caveats = [caveat for latency, accuracy in pairs for caveat in (*latency.caveats, *accuracy.caveats)]
        marks = footnotes.numbers(*caveats)
        panel = _panel(figures[0].table, column, list(series.items()), marks, published=True)
        if panel is not None:
            yield panel


def _accuracies_beside(latency: PublishedLatency, accuracies: Sequence[PublishedAccuracy]) -> list[PublishedAccuracy]:
    """What its own table says of the variant's accuracy; where that says nothing, what the authors publish."""
    fitting = [a for a in accuracies if a.variant == latency.variant and a.column.weights in latency.weights]
    own = [accuracy for accuracy in fitting if accuracy.table == latency.table]
    return own or [accuracy for accuracy in fitting if not accuracy.table]


def _published_point(latency: PublishedLatency, ap: float) -> Point:
    info = zoo.info(latency.variant)
    return Point(
        label=info.title.replace("DAMO-YOLO-", "DAMO-"),
        family=info.family,
        ap=ap,
        ms=latency.ms,
        low=latency.ms,
        high=latency.ms,
        hollow=True,
    )


def _panel(
    title: str,
    speed: SpeedColumn,
    series: Sequence[tuple[AccuracyColumn, list[Point]]],
    marks: tuple[int, ...],
    *,
    published: bool = False,
) -> Panel | None:
    if not series:
        return None
    columns: list[Column] = [column for column, _ in series]
    shared, own = shared_and_own(columns)
    return Panel(
        title=title,
        facts=[*brief(speed), *(text for text in brief(columns[0]) if text in shared)],
        notes=marks,
        series=[Series(label=", ".join(lines), points=points) for lines, (_, points) in zip(own, series, strict=True)],
        published=published,
    )
