"""A comparison as files: one page of HTML that needs nothing else, Markdown, and CSV. Like input gives like bytes."""

from __future__ import annotations

import functools
import importlib.resources
import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import swiftdet
from swiftdet.comparison import csv_file, drawing, panels, published_tables, stages, tables, verifications
from swiftdet.comparison.notes import Notes
from swiftdet.comparison.published_tables import PublishedAccuracy, PublishedLatency
from swiftdet.comparison.rows import Row, Source, host_of, pair

if TYPE_CHECKING:
    import jinja2

_WHISKERS = (
    "Whiskers go from the fastest call to the 95th percentile (the 90th, or the slowest call, where there are too few "
    "calls); upright ones hold the AP of 95 % of the data sets that are drawn anew from the same images (bootstrap). "
    "Hollow points were published, or are of made-up weights."
)
_SHOWN = {
    "evaluation": (
        "ap_interval",
        "protocol",
        "dataset",
        "evaluator",
        "predictions",
        "truncated",
        "unknown_categories",
        "duration_s",
    ),
    "benchmark": ("input", "options", "cold_start"),
    "verification": ("reference", "images", "conf", "tolerance", "options", "gates"),
}
"""Of `measured`, by the kind of the document, beside what the tables have."""
_SHOWN_OF_RUN = ("loop", "threads", "batch", "warmup_s", "duration_s", "memory", "interference")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # no characters of a page, and commands to a terminal
PAGE, MARKDOWN, CSV = "index.html", "compare.md", "compare.csv"
RESULTS = "results"
"""The folder of the documents, beside these."""


@dataclass(frozen=True, kw_only=True)
class Content:
    """What a comparison is made of, and nothing else: no clock, no machine.

    Attributes:
        title: of the page; None for one that fits what was measured.
        sources: the documents, in order.
        skipped: a line on each thing that was to be measured and was not.
    """

    title: str | None
    sources: Sequence[Source]
    skipped: Sequence[str] = ()

    @property
    def commands(self) -> list[str]:
        """In the folder of the files: what checks them, and what makes them again, but for `skipped`."""
        title = f" --title {shlex.quote(self.title)}" if self.title else ""
        return ["swiftdet compare --check .", f"swiftdet compare {RESULTS}/*.json{title} -o ."]


def render(content: Content) -> dict[str, str]:
    """The text of each file by its name."""
    rows = pair(content.sources)
    context = _context(content, rows)
    environment = _environment()
    markdown = environment.get_template(MARKDOWN).render(context)
    return {
        PAGE: environment.get_template("page.html").render(context, style=_template("page.css")),
        MARKDOWN: re.sub(r"\n{3,}", "\n\n", markdown).strip() + "\n",
        CSV: csv_file.write(rows),
    }


def _context(content: Content, rows: Sequence[Row]) -> dict[str, Any]:
    footnotes = Notes()
    drawn = [*panels.measured(rows), *panels.latencies(rows), *panels.published(footnotes)]
    accuracy = [tables.measured_accuracy(rows, footnotes), tables.published_accuracy(footnotes)]
    speed = [tables.measured_speed(rows, footnotes), tables.published_speed(footnotes)]
    return {
        "title": content.title or _title(rows),
        "lede": _lede(rows),
        "summary": _summary(rows, content.sources),
        "alerts": _alerts(rows, content.skipped),
        "plots": [_plot(panel, f"plot{i}") for i, panel in enumerate(drawn)],
        "whiskers": _WHISKERS,
        "accuracy": [table for table in accuracy if table is not None],
        "speed": [table for table in speed if table is not None],
        "verifications": verifications.verifications(content.sources),
        "verification_header": verifications.HEADER,
        "stages": stages.stage_bars(rows),
        "notes": footnotes.texts,
        "disturbances": _disturbances(rows),
        "skipped": content.skipped,
        "provenance": [*_provenance(rows), *_provenance_of_verifications(content.sources)],
        "sources": _published_sources(),
        "commands": content.commands,
        "version": swiftdet.__version__,
    }


def _plot(panel: panels.Panel, name: str) -> dict[str, Any]:
    return {"panel": panel, "key": drawing.key(panel), "svg": drawing.draw(panel, name)}


def _title(rows: Sequence[Row]) -> str:
    families = {row.subject["family"] for row in rows}
    return "DAMO-YOLO against YOLOv7" if {"yolov7", "damo-yolo"} <= families else "Detectors compared"


def _lede(rows: Sequence[Row]) -> str:
    paired = sum(row.pairing == "paired" for row in rows)
    made_up = sum(row.pairing == "made-up weights" for row in rows)
    parts = [f"{len(rows)} measured here"]
    if paired:
        parts.append(f"{paired} of them for accuracy and latency through one pipeline")
    if made_up:
        parts.append(f"{made_up} with made-up weights, for latency alone")
    return f"{', '.join(parts)}; beside them what others published, marked as such and never in a column with it."


def _summary(rows: Sequence[Row], sources: Sequence[Source]) -> list[tuple[str, str]]:
    documents = [source.document for source in sources]
    days = sorted({document["created"][:10] for document in documents})
    facts = [
        ("measured", days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"),
        ("on", "; ".join(sorted({str(host_of(document)) for document in documents}))),
        ("engine", "; ".join(sorted({column.runtime for row in rows for column in row.speeds})) or None),
        ("results", f"{len(documents)}"),
    ]
    return [(name, value) for name, value in facts if value]


def _alerts(rows: Sequence[Row], skipped: Sequence[str]) -> list[str]:
    disturbed = [title for title, _ in _disturbances(rows)]
    alerts = []
    if disturbed:
        alerts.append(
            f"The machine was disturbed while times of {_listed(disturbed)} were taken: such times may be too "
            "long. The list below the notes says by what."
        )
    if skipped:
        alerts.append("Not everything could be measured: the list below the notes says what is missing, and why.")
    return alerts


def _disturbances(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """Each row whose times were disturbed, and by what."""
    detail = tables.details(rows)
    found = []
    for row in rows:
        warnings = [text for run in row.speeds.values() for text in run.figures["interference"]["warnings"]]
        if warnings:
            name = f"{row.title} ({detail[id(row)]})" if detail[id(row)] else row.title
            found.append((name, "; ".join(dict.fromkeys(warnings))))
    return found


def _listed(names: Sequence[str]) -> str:
    unique = list(dict.fromkeys(names))
    return ", ".join(unique) if len(unique) <= 4 else f"{', '.join(unique[:3])} and {len(unique) - 3} others"


def _provenance(rows: Sequence[Row]) -> list[dict[str, Any]]:
    detail = tables.details(rows)
    return [
        {
            "title": row.title,
            "detail": detail[id(row)],
            "pairing": row.pairing,
            "groups": [_subject_facts(row), *(_document_facts(source) for source in row.sources)],
        }
        for row in rows
    ]


def _provenance_of_verifications(sources: Sequence[Source]) -> list[dict[str, Any]]:
    return [
        {
            "title": str(source.document["subject"]["model"]),
            "detail": "",
            "pairing": "verified",
            "groups": [_document_facts(source)],
        }
        for source in sources
        if source.kind == "verification"
    ]


def _subject_facts(row: Row) -> dict[str, Any]:
    return {
        "title": "Detector",
        "command": "",
        "facts": [(k, _text(v)) for k, v in row.subject.items() if v is not None],
    }


def _document_facts(source: Source) -> dict[str, Any]:
    document = source.document
    made_by = document["provenance"]
    return {
        "title": source.kind.capitalize(),
        "file": f"results/{source.name}",
        "file_sha256": source.file_sha256,
        "command": command(made_by),
        "facts": [
            ("file", f"results/{source.name}"),
            ("SHA-256 of the file", source.file_sha256),
            ("digest of its content", document["sha256"]),
            ("created", document["created"]),
            ("command", command(made_by)),
            *((name, _text(made_by[name])) for name in ("swiftdet", "commit", "python", "packages", "host")),
            *((name, _text(made_by[name])) for name in ("environment", "seed") if made_by.get(name)),
            *_measured_facts(source),
        ],
    }


def _measured_facts(source: Source) -> list[tuple[str, str]]:
    measured = source.document["measured"]
    facts = [(name, _text(measured[name])) for name in _SHOWN[source.kind] if measured.get(name) not in (None, [], {})]
    facts += [("run", _text({name: run[name] for name in _SHOWN_OF_RUN})) for run in measured.get("runs", [])]
    return facts


def _published_sources() -> list[str]:
    found = published_tables.load()
    titles: dict[str, str] = {}
    figures: list[PublishedAccuracy | PublishedLatency] = [*found.accuracies, *found.latencies]
    for figure in figures:
        titles[figure.source] = titles.get(figure.source) or figure.table
    return [f"{title}: {source}" if title else source for source, title in titles.items()]


def command(provenance: dict[str, Any]) -> str:
    """The command line that measured, as one would type it."""
    program, *arguments = provenance["command"] or ["?"]
    return shlex.join(["swiftdet" if program.endswith("swiftdet/__main__.py") else program, *arguments])


def _text(value: object) -> str:
    """A value as people read it: numbers short, an object as `name value`, separated by semicolons."""
    if isinstance(value, dict):
        return "; ".join(f"{key} {_text(one)}" for key, one in value.items() if one is not None)
    if isinstance(value, list):
        return ", ".join(_text(one) for one in value)
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value)


@functools.cache
def _environment() -> jinja2.Environment:
    import jinja2  # noqa: PLC0415 - slow to load

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_template),
        autoescape=jinja2.select_autoescape(("html",), default=False),
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: _CONTROL.sub("\N{REPLACEMENT CHARACTER}", value) if type(value) is str else value,
        keep_trailing_newline=True,
    )
    environment.filters["md"] = _markdown
    environment.filters["ms"] = tables.significant
    environment.filters["letter"] = _letter
    environment.filters["slug"] = lambda name: name.lower().replace(" ", "-")
    return environment


def _template(name: str) -> str:
    return (importlib.resources.files("swiftdet.comparison") / "templates" / name).read_text("utf-8")


def _letter(number: int) -> str:
    """A, B, ... Z, AA, ...: names of columns that have too much to say for a table in Markdown."""
    before, last = divmod(number - 1, 26)
    return (_letter(before) if before else "") + chr(ord("A") + last)


def _markdown(text: object) -> str:
    """Foreign text in Markdown: on one line, and none of it markup."""
    return re.sub(r"([\\`*_{}\[\]<>|#~&])", r"\\\1", " ".join(str(text).split()))
