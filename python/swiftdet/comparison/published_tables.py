"""What others published, as data: every figure with what is known of how it came about, and its caveats.

The files in `published/` hold tables as they stand at their sources; the accuracies that a model's authors publish are
in the zoo's catalogue, and are taken from there. docs/compare.md describes the fields.
"""

from __future__ import annotations

import functools
import importlib.resources
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from swiftdet import zoo
from swiftdet.comparison.columns import AccuracyColumn, SpeedColumn

_TABLES = ("damo-yolo-vs-yolov7", "damo-yolo-readme", "yolov7-readme", "damo-yolo-int8")
"""The files, in the order in which their columns stand."""

COCO = "COCO"
AUTHORS = "the authors'"
DISTILLED = "distilled"


@dataclass(frozen=True, kw_only=True)
class Caveat:
    """What to know before a figure is compared; `key` is the same wherever it is shown."""

    key: str
    text: str


@dataclass(frozen=True, kw_only=True)
class PublishedAccuracy:
    """The accuracy of one variant, in percent by COCO's names, as published.

    Attributes:
        variant: of the zoo.
        column: what it was measured on.
        percent: "AP", and "AP50", "AP75" where published.
        labelled: the header that it stands under at its source, which may be wrong; "" if none.
        source: where.
        table: title of the table; "" for the authors' own accuracies.
        caveats: in the order to be read.
    """

    variant: str
    column: AccuracyColumn
    percent: dict[str, float]
    labelled: str
    source: str
    table: str
    caveats: tuple[Caveat, ...]


@dataclass(frozen=True, kw_only=True)
class PublishedLatency:
    """The time of one variant, in milliseconds, as published; fields as in `PublishedAccuracy`.

    Attributes:
        ms: of a call; of an image where a caveat says so.
        published: the figure as it stands there, with its unit.
        weights: kinds of weights that the time is published for.
        plot: draw it against accuracy.
    """

    variant: str
    column: SpeedColumn
    ms: float
    published: str
    labelled: str
    source: str
    table: str
    caveats: tuple[Caveat, ...]
    weights: tuple[str, ...]
    plot: bool


@dataclass(frozen=True, kw_only=True)
class PublishedTables:
    """Everything that was published, and what the public comparison calls the variants in it.

    Attributes:
        accuracies, latencies: one for each figure.
        sizes: "n", "s", "m", "l" or "x" by variant.
    """

    accuracies: tuple[PublishedAccuracy, ...]
    latencies: tuple[PublishedLatency, ...]
    sizes: dict[str, str]


@functools.cache
def load() -> PublishedTables:
    """All tables that come with the package."""
    accuracies: list[PublishedAccuracy] = []
    latencies: list[PublishedLatency] = []
    sizes: dict[str, str] = {}
    folder = importlib.resources.files("swiftdet.comparison") / "published"
    for name in _TABLES:
        table = json.loads((folder / f"{name}.json").read_text("utf-8"))
        accuracies += [found for series in table["accuracy"] for found in _accuracies(table, series)]
        latencies += [found for series in table["latency"] for found in _latencies(table, series)]
        sizes.update(table["labels"])
    accuracies += _authors()
    return PublishedTables(accuracies=tuple(accuracies), latencies=tuple(latencies), sizes=sizes)


def _authors() -> Iterator[PublishedAccuracy]:
    """What the authors publish of their models: the zoo's catalogue."""
    for name in zoo.names():
        info = zoo.info(name)
        for figure in info.accuracy:
            column = AccuracyColumn(
                dataset=COCO,
                split=figure.split,
                data=None,
                images=None,
                protocol=_protocol(info),
                thresholds=None,
                weights=DISTILLED if figure.distilled else AUTHORS,
                distilled=figure.distilled,
                host=None,
            )
            percent = {"AP": figure.ap, "AP50": figure.ap50, "AP75": figure.ap75}
            yield PublishedAccuracy(
                variant=name,
                column=column,
                percent={key: value for key, value in percent.items() if value is not None},
                labelled="",
                source=figure.source,
                table="",
                caveats=(),
            )


def _protocol(info: zoo.VariantInfo) -> str:
    """The name of the protocol by which the authors of a variant score it."""
    return "damo-yolo-nano" if info.family == "damo-yolo" and info.imgsz == (416, 416) else info.family


def _accuracies(table: dict[str, Any], series: dict[str, Any]) -> Iterator[PublishedAccuracy]:
    column = AccuracyColumn(
        dataset=series["dataset"],
        split=series["split"],
        data=None,
        images=None,
        protocol=series["protocol"],
        thresholds=None,
        weights=series["weights"],
        distilled=series["distilled"],
        host=None,
    )
    for variant, percent in series["percent"].items():
        yield PublishedAccuracy(
            variant=variant, column=column, percent=percent, **_origin(table, series), caveats=_caveats(table, series)
        )


def _latencies(table: dict[str, Any], series: dict[str, Any]) -> Iterator[PublishedLatency]:
    column = SpeedColumn(
        hardware=series["hardware"],
        device="",
        runtime=series["runtime"],
        build="",
        precision=series["precision"],
        batch=series["batch"],
        threads="unknown",
        loop="unknown",
        rate_hz=None,
        with_nms=series["with_nms"],
        timed=series["timed"],
        settings="",
        images="",
        data=None,
    )
    for variant, figure in series["figures"].items():
        yield PublishedLatency(
            variant=variant,
            column=column,
            ms={"ms": figure, "fps": 1000.0 / figure}[series["unit"]],
            published=f"{figure:g} {series['unit']}",
            **_origin(table, series),
            caveats=_caveats(table, series),
            weights=tuple(series["weights"]),
            plot=series["plot"],
        )


def _origin(table: dict[str, Any], series: dict[str, Any]) -> dict[str, str]:
    return {
        "labelled": series["labelled"],
        "source": series.get("source", table["source"]),
        "table": table["title"],
    }


def _caveats(table: dict[str, Any], series: dict[str, Any]) -> tuple[Caveat, ...]:
    return tuple(Caveat(key=key, text=table["caveats"][key]) for key in series["caveats"])
