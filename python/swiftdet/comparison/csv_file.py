"""compare.csv: one line a figure, with every typed field spelled out, for spreadsheets and programs."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Iterator, Sequence
from typing import Any

from swiftdet import zoo
from swiftdet.comparison import published_tables
from swiftdet.comparison.columns import AccuracyColumn, Host, SpeedColumn
from swiftdet.comparison.rows import Row

_ROW = ("kind", "origin", "model", "variant", "size", "imgsz", "measurement", "metric", "value", "unit")
_END = ("weights_made_up", "pairing", "published_as", "labelled", "source", "caveats", "document_sha256")
_COLUMNS = tuple(
    dict.fromkeys(field.name for kind in (AccuracyColumn, SpeedColumn) for field in dataclasses.fields(kind))
)
HEADER = (*_ROW, *_COLUMNS, *_END)


def write(rows: Sequence[Row]) -> str:
    """The file's text."""
    text = io.StringIO()
    out = csv.DictWriter(text, HEADER, restval="", lineterminator="\n")
    out.writeheader()
    for record in (*_measured(rows), *_published()):
        out.writerow({key: _cell(value) for key, value in record.items()})
    return text.getvalue()


def _measured(rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    for row in rows:
        subject = row.subject
        common = {
            "origin": "measured",
            "model": subject["model"],
            "variant": row.variant,
            "size": row.size,
            "imgsz": "x".join(str(side) for side in subject["imgsz"]),
            "measurement": row.repeat,
            "weights_made_up": subject["synthetic"],
            "pairing": row.pairing,
        }
        for column, measured in row.accuracies.items() if not subject["synthetic"] else ():
            here = {**common, **_fields(column), "document_sha256": measured.source.document["sha256"]}
            for metric, fraction in measured.figures["scores"].items():
                if fraction is not None:
                    yield {**here, "kind": "accuracy", "metric": metric, "value": 100.0 * fraction, "unit": "%"}
        for speed, measured in row.speeds.items():
            here = {**common, **_fields(speed), "document_sha256": measured.source.document["sha256"]}
            for metric, value, unit in _times(measured.figures):
                yield {**here, "kind": "latency", "metric": metric, "value": value, "unit": unit}


def _times(run: dict[str, Any]) -> Iterator[tuple[str, float, str]]:
    for name, stats in {"total": run["total"], **run["stages"]}.items():
        for key, value in stats.items():
            if value is not None:
                yield f"{name} {key}", value, "calls" if key == "count" else "ms"
    yield "throughput", run["throughput_images_per_s"], "images/s"
    yield "peak memory", run["memory"]["peak_rss_bytes"], "bytes"


def _published() -> Iterator[dict[str, Any]]:
    tables = published_tables.load()
    for figure in tables.accuracies:
        for metric, percent in figure.percent.items():
            yield {**_origin(figure), "kind": "accuracy", "metric": metric, "value": percent, "unit": "%"}
    for timed in tables.latencies:
        time = {"metric": "total", "value": timed.ms, "unit": "ms", "published_as": timed.published}
        yield {**_origin(timed), "kind": "latency", **time, "weights": " / ".join(timed.weights)}


def _origin(figure: published_tables.PublishedAccuracy | published_tables.PublishedLatency) -> dict[str, Any]:
    info = zoo.info(figure.variant)
    return {
        "origin": "published",
        "model": info.title,
        "variant": figure.variant,
        "size": published_tables.load().sizes.get(figure.variant, ""),
        "imgsz": "x".join(str(side) for side in info.imgsz),
        "weights_made_up": False,
        "pairing": "published",
        "labelled": figure.labelled,
        "source": figure.source,
        "caveats": " ".join(caveat.text for caveat in figure.caveats),
        **_fields(figure.column),
    }


def _fields(column: AccuracyColumn | SpeedColumn) -> dict[str, Any]:
    values = {field.name: getattr(column, field.name) for field in dataclasses.fields(column)}
    return {name: str(value) if isinstance(value, Host) else value for name, value in values.items()}


def _cell(value: object) -> object:
    """A value as spreadsheets may have it: a text that they would take for a formula gets an apostrophe before it."""
    if value is None:
        return ""
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return f"'{value}"
    return value
