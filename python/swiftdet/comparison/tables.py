"""Tables of a comparison, before anybody decides what they look like: heads, rows, cells, footnotes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from swiftdet import zoo
from swiftdet.comparison import notes, published_tables
from swiftdet.comparison.columns import AccuracyColumn, Column, SpeedColumn, shared_and_own
from swiftdet.comparison.notes import Notes
from swiftdet.comparison.published_tables import Caveat, PublishedAccuracy, PublishedLatency
from swiftdet.comparison.rows import Row, is_resized_as_timed
from swiftdet.model_files.names import printable

_SUMMARY = ("AP", "AP50", "AP75", "APs", "APm", "APl")
_PERCENTILES = ("p50", "p90", "p99")


@dataclass(frozen=True)
class Cell:
    """Text, and the numbers of its footnotes."""

    text: str
    notes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Head:
    """A typed column: the lines that tell it from the others, and what it shows of each figure."""

    lines: list[str]
    parts: list[str]


@dataclass(frozen=True)
class Line:
    """A row: the model's facts, whether it was measured or published, and a cell for each part of each head."""

    size: str
    title: str
    detail: str
    pixels: str
    parameters: str
    gflops: str
    published: bool
    notes: tuple[int, ...]
    cells: list[Cell]


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        name: short, for links.
        title: what it shows.
        hint: what to know of all of it; "" if nothing.
        shared: what holds for all of its columns.
        heads, lines: columns and rows.
    """

    name: str
    title: str
    hint: str
    shared: list[str]
    heads: list[Head]
    lines: list[Line]


_PUBLISHED_HINT = (
    "Not measured here. Accuracy and latency of such a row do not come from one pipeline: each column says what is "
    "known of how its figures came about."
)
_EMPTY = Cell("")
_C = TypeVar("_C", bound=Column)


def measured_accuracy(rows: Sequence[Row], footnotes: Notes) -> Table | None:
    """Accuracies of the rows that have one; None if none has."""
    scored = [row for row in rows if row.accuracies and not row.subject["synthetic"]]
    columns = _in_order(column for row in scored for column in row.accuracies)

    def parts(column: AccuracyColumn) -> list[str]:
        return [*_SUMMARY, "published AP"] if any(_published_ap(row, column) for row in scored) else [*_SUMMARY]

    def cells(row: Row, column: AccuracyColumn) -> Mapping[str, Cell]:
        measured = row.accuracies.get(column)
        if measured is None:
            return {}
        scores = measured.figures["scores"]
        caveats = [] if is_resized_as_timed(measured.source.document) else [notes.OTHER_RESIZE]
        if measured.figures["unknown_categories"]:
            caveats.append(notes.UNKNOWN_CATEGORIES)
        found = {key: Cell(percent(scores[key])) for key in _SUMMARY}
        found["AP"] = Cell(found["AP"].text, footnotes.numbers(*caveats))
        if published := _published_ap(row, column):
            found["published AP"] = Cell(f"{published.percent['AP']:.1f}", footnotes.numbers(notes.SAME_SPLIT))
        return found

    return _measured_table("accuracy", "Accuracy, measured", scored, columns, parts, cells, footnotes)


def measured_speed(rows: Sequence[Row], footnotes: Notes) -> Table | None:
    """Times of the rows that have some; None if none has."""
    timed = [row for row in rows if row.speeds]
    columns = _in_order(column for row in timed for column in row.speeds)

    def cells(row: Row, column: SpeedColumn) -> Mapping[str, Cell]:
        measured = row.speeds.get(column)
        if measured is None:
            return {}
        run, total = measured.figures, measured.figures["total"]
        found = {
            key: Cell(significant(total[key]))
            if total[key] is not None
            else Cell("–", footnotes.numbers(notes.FEW_CALLS))  # noqa: RUF001 - typography
            for key in _PERCENTILES
        }
        warnings = run["interference"]["warnings"]
        disturbed = footnotes.numbers(notes.DISTURBED) if warnings else ()
        found["p50"] = Cell(found["p50"].text, tuple(sorted({*found["p50"].notes, *disturbed})))
        found["mean"] = Cell(significant(total["mean"]))
        found["calls"] = Cell(str(total["count"]))
        found["images/s"] = Cell(significant(run["throughput_images_per_s"]))
        found["peak MiB"] = Cell(f"{run['memory']['peak_rss_bytes'] / 2**20:.0f}")
        return found

    def parts(column: SpeedColumn) -> list[str]:
        totals = [row.speeds[column].figures["total"] for row in timed if column in row.speeds]
        mean = ["mean"] if any(total["p50"] is None for total in totals) else []
        p99 = ["p99"] if any(total["p99"] is not None for total in totals) else []
        return ["p50", *mean, "p90", *p99, "calls", "images/s", "peak MiB"]

    return _measured_table("speed", "Latency in milliseconds, measured", timed, columns, parts, cells, footnotes)


def published_accuracy(footnotes: Notes) -> Table:
    """What others published of accuracy, a row a variant."""
    figures = published_tables.load().accuracies
    return _published_table("published-accuracy", "AP in percent, published by others", figures, _ap_cell, footnotes)


def published_speed(footnotes: Notes) -> Table:
    """What others published of latency, a row a variant."""
    figures = published_tables.load().latencies
    return _published_table(
        "published-speed", "Latency in milliseconds, published by others", figures, _ms_cell, footnotes
    )


def row_notes(row: Row, footnotes: Notes) -> tuple[int, ...]:
    """The footnotes that say how accuracy and latency of a measured row belong together."""
    if row.pairing == "made-up weights":
        return footnotes.numbers(notes.SYNTHETIC)
    if row.pairing == "accuracy only":
        return footnotes.numbers(notes.ACCURACY_ONLY)
    if row.pairing == "latency only":
        return footnotes.numbers(notes.ACCURACY_ELSEWHERE if row.accuracy_elsewhere else notes.LATENCY_ONLY)
    return ()


def details(rows: Sequence[Row]) -> dict[int, str]:
    """What tells rows of one title apart, by the row's `id()`: file, engine, precision, repetition."""
    found = {}
    for row in rows:
        others = [other for other in rows if other.title == row.title and other is not row]
        facts = _row_facts(row)
        found[id(row)] = ", ".join(
            facts[i] for i in range(len(facts)) if any(_row_facts(other)[i] != facts[i] for other in others)
        )
    return found


def _row_facts(row: Row) -> list[str]:
    subject = row.subject
    return [
        *(printable(str(subject[key])) for key in ("model", "engine", "device", "precision")),
        f"file {subject['model_sha256'][:8]}",
        f"graph {str(subject['graph_sha256'] or subject['engine_sha256'])[:8]}",
        f"measurement {row.repeat}",
    ]


def _in_order(columns: Iterable[_C]) -> list[_C]:
    return list(dict.fromkeys(columns))


def _published_ap(row: Row, column: AccuracyColumn) -> PublishedAccuracy | None:
    """What the authors of a row's variant publish for the same data, split and protocol."""
    for figure in published_tables.load().accuracies:
        theirs = figure.column
        same = (theirs.dataset, theirs.split, theirs.protocol) == (column.dataset, column.split, column.protocol)
        if same and figure.variant == row.variant and theirs.weights == published_tables.AUTHORS and not figure.table:
            return figure
    return None


def _measured_table(
    name: str,
    title: str,
    rows: Sequence[Row],
    columns: Sequence[_C],
    parts: Callable[[_C], list[str]],
    cells: Callable[[Row, _C], Mapping[str, Cell]],
    footnotes: Notes,
) -> Table | None:
    if not rows:
        return None
    shared, own = shared_and_own(columns)
    heads = [Head(lines, parts(column)) for lines, column in zip(own, columns, strict=True)]
    detail = details(rows)
    lines = []
    for row in rows:
        marks = row_notes(row, footnotes)
        filled = [(head, cells(row, column)) for head, column in zip(heads, columns, strict=True)]
        flat = [found.get(part, _EMPTY) for head, found in filled for part in head.parts]
        lines.append(_line(row.variant, row.title, row.subject["imgsz"], marks, flat, detail[id(row)]))
    return Table(name, title, "", shared, heads, lines)


def _published_table(
    name: str,
    title: str,
    figures: Sequence[Any],
    cell: Callable[[Sequence[Any], Notes], Cell],
    footnotes: Notes,
) -> Table:
    columns: list[Column] = _in_order(figure.column for figure in figures)
    shared, own = shared_and_own(columns)
    sizes = published_tables.load().sizes
    known = zoo.names()
    variants = sorted(
        {figure.variant for figure in figures},
        key=lambda variant: ("nsmlx".index(sizes[variant]) if variant in sizes else 5, known.index(variant)),
    )
    lines = []
    for variant in variants:
        cells = []
        for column in columns:
            here = [figure for figure in figures if figure.variant == variant and figure.column == column]
            cells.append(cell(here, footnotes) if here else _EMPTY)
        info = zoo.info(variant)
        lines.append(_line(variant, info.title, info.imgsz, (), cells, published=True))
    return Table(name, title, _PUBLISHED_HINT, shared, [Head(lines, [""]) for lines in own], lines)


def _ap_cell(figures: Sequence[PublishedAccuracy], footnotes: Notes) -> Cell:
    """All that was published for one cell: often the same figure in several places, to more or fewer digits."""
    finest = max((figure.percent["AP"] for figure in figures), key=lambda value: len(f"{value:g}"))
    others = {figure.percent["AP"] for figure in figures if round(finest, 1) != round(figure.percent["AP"], 1)}
    text = " / ".join(f"{value:.1f}" for value in [finest, *sorted(others)])
    return Cell(text, footnotes.numbers(*_caveats(figures)))


def _ms_cell(figures: Sequence[PublishedLatency], footnotes: Notes) -> Cell:
    text = " / ".join(f"{figure.ms:.2f}" for figure in figures)
    return Cell(text, footnotes.numbers(*_caveats(figures)))


def _caveats(figures: Sequence[PublishedAccuracy] | Sequence[PublishedLatency]) -> list[Caveat]:
    return [caveat for figure in figures for caveat in figure.caveats]


def _line(
    variant: str | None,
    title: str,
    imgsz: Sequence[int],
    marks: tuple[int, ...],
    cells: list[Cell],
    detail: str = "",
    *,
    published: bool = False,
) -> Line:
    height, width = imgsz
    known = variant is not None and variant in {*zoo.names(), *zoo.demo_names()}
    info = zoo.info(variant) if variant is not None and known else None
    return Line(
        size=published_tables.load().sizes.get(variant or "", ""),
        title=title,
        detail=detail,
        pixels=str(height) if height == width else f"{height}x{width}",
        parameters="" if info is None else f"{info.params / 1e6:.1f}",
        gflops=f"{info.gflops:.1f}" if info is not None and info.imgsz == (height, width) else "",
        published=published,
        notes=marks,
        cells=cells,
    )


def percent(fraction: float | None) -> str:
    """A fraction of one in percent; a dash for None."""
    return "–" if fraction is None else f"{100.0 * fraction:.1f}"  # noqa: RUF001 - typography


def significant(value: float) -> str:
    """Three digits or more, and never an exponent: 0.83, 12.3, 5012."""
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"
