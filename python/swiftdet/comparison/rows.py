"""Measured documents as rows: what went through one pipeline stands in one row, and nothing else does.

An evaluation and a benchmark belong together when they are of the same model file, graph or engine, ran in the same
engine on the same kind of device, in the same precision, size and pre-processing: then the accuracy was measured
through the pipeline that was timed.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from swiftdet import demo, measurements, zoo
from swiftdet.comparison import published_tables
from swiftdet.comparison.columns import AccuracyColumn, Column, Host, SpeedColumn
from swiftdet.errors import DocumentError, InvalidArgument
from swiftdet.model_files.names import printable

Document = measurements.Document
Pairing = Literal["paired", "accuracy only", "latency only", "made-up weights"]

SIZES = ("n", "s", "m", "l", "x")
_IMAGES = {"val2017": 5000, "test-dev2017": 20288}  # of COCO
_DIGITS = 8  # of a hash, where it is one of few


@dataclass(frozen=True, kw_only=True)
class Source:
    """A document, and the file that it stands in.

    Attributes:
        name: of its copy in a comparison's folder.
        content: the file's bytes.
        document: read and checked.
    """

    name: str
    content: bytes = field(repr=False)
    document: Document = field(repr=False)

    @property
    def kind(self) -> str:
        """One of the kinds of `measurements.FORMATS`."""
        return kind_of(self.document)

    @property
    def file_sha256(self) -> str:
        """Of the file, to the last blank."""
        return hashlib.sha256(self.content).hexdigest()


@dataclass(frozen=True)
class Measured:
    """A document, or one run of a benchmark, that fills one cell of a row."""

    figures: dict[str, Any] = field(repr=False)
    source: Source


@dataclass(kw_only=True)
class Row:
    """What was measured through one pipeline.

    Attributes:
        subject: which detector, as its first document says.
        title: for people.
        repeat: 1, or more where the same was measured again.
        accuracies, speeds: the evaluation and the runs, by column.
        accuracy_elsewhere: the same model file was scored, but through another pipeline.
    """

    subject: dict[str, Any]
    title: str
    repeat: int
    accuracies: dict[AccuracyColumn, Measured] = field(default_factory=dict)
    speeds: dict[SpeedColumn, Measured] = field(default_factory=dict)
    accuracy_elsewhere: bool = False

    @property
    def variant(self) -> str | None:
        """Of the zoo, where the model is one."""
        name = self.subject["variant"]
        return None if name is None else str(name)

    @property
    def size(self) -> str:
        """Its letter in the public comparison, or ""."""
        return published_tables.load().sizes.get(self.variant or "", "")

    @property
    def pairing(self) -> Pairing:
        """Whether accuracy and latency come from one pipeline."""
        if self.subject["synthetic"]:
            return "made-up weights"
        if self.accuracies and self.speeds:
            return "paired"
        return "accuracy only" if self.accuracies else "latency only"

    @property
    def sources(self) -> list[Source]:
        """Its documents, each once."""
        used = [*self.accuracies.values(), *self.speeds.values()]
        return list({measured.source.name: measured.source for measured in used}.values())


def read_sources(paths: Iterable[Path]) -> list[Source]:
    """Reads documents for a comparison; the same content twice counts once.

    Raises:
        DocumentError: a file is no document of ours, or changed after it was written.
        InvalidArgument: there is none.
    """
    sources: dict[str, Source] = {}
    for path in paths:
        document = measurements.read(path)
        _check_times(document, path)
        source = Source(name=_copy_name(document), content=path.read_bytes(), document=document)
        sources.setdefault(source.name, source)
    if not sources:
        raise InvalidArgument("expected at least one result file, got none")
    return list(sources.values())


def _check_times(document: Document, path: Path) -> None:
    """Refuses a benchmark whose figures no clock can have given, which its schema cannot tell."""
    for number, run in enumerate(document["measured"]["runs"] if kind_of(document) == "benchmark" else ()):
        total = run["total"]
        fault = next((key for key in ("mean", "min", "max") if total[key] is None), None)
        fault = fault or next((key for key, value in total.items() if value is not None and value <= 0), None)
        if fault is not None and not (fault == "std" and total["std"] == 0):
            raise DocumentError(f"{path}: runs.{number}.total.{fault}: expected a time above 0, got {total[fault]}")


def kind_of(document: Document) -> str:
    """One of the kinds of `measurements.FORMATS`."""
    return next(kind for kind, name in measurements.FORMATS.items() if name == document["format"])


def pair(sources: Sequence[Source]) -> list[Row]:
    """Rows of the evaluations and benchmarks among the documents: by size, then in the zoo's order, then by title.

    What would fill a cell that is filled already, a repetition, opens a row of its own.
    """
    rows: dict[str, list[Row]] = {}
    for source in sources:
        if source.kind == "evaluation":
            _place_accuracy(rows, source)
        elif source.kind == "benchmark":
            _place_speeds(rows, source)
    found = sorted((row for repeated in rows.values() for row in repeated), key=_order)
    scored = {row.subject["model_sha256"] for row in found if row.accuracies}
    for row in found:
        row.accuracy_elsewhere = row.pairing == "latency only" and row.subject["model_sha256"] in scored
    return found


def _place_accuracy(rows: dict[str, list[Row]], source: Source) -> None:
    column = accuracy_column(source.document)
    row = _free_row(rows, source, lambda row: row.accuracies, column)
    row.accuracies[column] = Measured(source.document["measured"], source)


def _place_speeds(rows: dict[str, list[Row]], source: Source) -> None:
    for run in source.document["measured"]["runs"]:
        column = speed_column(source.document, run)
        _free_row(rows, source, lambda row: row.speeds, column).speeds[column] = Measured(run, source)


def _free_row(
    rows: dict[str, list[Row]], source: Source, cells: Callable[[Row], Mapping[Any, Measured]], column: Column
) -> Row:
    """The first row of the document's pipeline with nothing in `column` yet, made where needed."""
    subject = source.document["subject"]
    repeated = rows.setdefault(_pipeline(subject), [])
    for row in repeated:
        if column not in cells(row):
            return row
    repeated.append(Row(subject=subject, title=_title(subject), repeat=len(repeated) + 1))
    return repeated[-1]


def _pipeline(subject: Document) -> str:
    """What must agree for two documents to be of one pipeline."""
    keys = ("model_sha256", "graph_sha256", "engine_sha256", "engine", "device", "precision", "imgsz", "preprocess")
    return json.dumps([subject[key] for key in keys], sort_keys=True)


def accuracy_column(document: Document) -> AccuracyColumn:
    """Of an evaluation."""
    measured, subject = document["measured"], document["subject"]
    dataset, protocol = measured["dataset"], measured["protocol"]
    labels = "multi-label" if protocol["multi_label"] else "best label"
    return AccuracyColumn(
        dataset=_dataset(dataset),
        split=dataset["split"] or "unknown",
        data=f"{dataset['annotations_sha256'][:_DIGITS]}/{dataset['images_sha256'][:_DIGITS]}",
        images=dataset["images"],
        protocol=protocol["name"],
        thresholds=f"conf {protocol['conf']:g}, IoU {protocol['iou']:g}, {protocol['max_det']} boxes, {labels}",
        weights="the demo's" if subject["variant"] in zoo.demo_names() else "the file's",
        distilled="unknown",
        host=host_of(document),
    )


def speed_column(document: Document, run: Document) -> SpeedColumn:
    """Of one run of a benchmark."""
    measured, subject = document["measured"], document["subject"]
    options, images = measured["options"], measured["input"]
    labels = "multi-label, " if options["multi_label"] else ""
    classes = ", across classes" if options["class_agnostic"] else ""
    thresholds = f"conf {options['conf']:g}, IoU {options['iou']:g}, {options['max_det']} boxes{classes}"
    from_files = images["kind"] == "files"
    events = ", stages by events" if run["timed"] else ""
    return SpeedColumn(
        hardware=host_of(document),
        device=subject["device"],
        runtime=_release(subject["engine"]),
        build=subject["engine"],
        precision=subject["precision"],
        batch=run["batch"],
        threads=run["threads"],
        loop=run["loop"],
        rate_hz=run["rate_hz"],
        with_nms=True,
        timed="image file to boxes" if from_files else "pixels to boxes",
        settings=f"compiled for {subject['performance']}, {subject['isa']}, {labels}{thresholds}{events}",
        images=f"{images['images']} {'files' if from_files else 'arrays'}",
        data=images["sha256"][:_DIGITS],
    )


def host_of(document: Document) -> Host:
    """The machine that measured."""
    host = document["provenance"]["host"]
    usable, virtualised = host.get("usable_processors"), host.get("virtualised")
    return Host(
        cpu=host["cpu"] or "unknown processor",
        processors=usable if isinstance(usable, int) else host["logical_processors"],
        memory_gib=round(host["memory_bytes"] / 2**30),
        gpu=None if host["gpu"] is None else str(host["gpu"].get("name", "unknown GPU")),
        virtualised=virtualised if isinstance(virtualised, bool) else None,
    )


def is_resized_as_timed(document: Document) -> bool:
    """Whether an evaluation's protocol resizes images as the pipeline does that a benchmark times."""
    resize, own = document["measured"]["protocol"]["resize"], document["subject"]["preprocess"]
    same = resize["shrink"] == resize["enlarge"] == own.get("interpolation")
    return same and bool(resize["rule"] == own.get("mode"))


def _dataset(dataset: Document) -> str:
    """The name that published figures use for COCO, where the annotations call themselves that and have its size."""
    if dataset["annotations_sha256"] == _demo_sha256():
        return "demo scenes"
    is_coco = dataset["name"].startswith("COCO 2017") and _IMAGES.get(dataset["split"]) == dataset["images"]
    return published_tables.COCO if is_coco else str(dataset["name"])


@functools.cache
def _demo_sha256() -> str:
    return hashlib.sha256(demo.dataset().annotations.read_bytes()).hexdigest()


def _release(engine: str) -> str:
    """Such as "OpenVINO 2026.4.1" of an engine's long description; all of it where it has another form."""
    match = re.match(r"[A-Za-z]+ \d+(?:\.\d+)*(?=[-+ ,]|$)", engine)
    return engine if match is None else match.group()


def _title(subject: Document) -> str:
    variant = subject["variant"]
    if variant is None:
        return printable(Path(subject["model"]).name or str(subject["model"]))
    return zoo.info(variant).title if variant in zoo.names() else str(variant)


def _copy_name(document: Document) -> str:
    """A file name that tells what a document is of, and that no other document has."""
    subject = document["subject"]
    stem = re.sub(r"[^A-Za-z0-9.]+", "-", subject["variant"] or Path(subject["model"]).name).strip("-.")[:40]
    return f"{stem or 'model'}-{kind_of(document)}-{document['sha256'][:12]}.json"


def _order(row: Row) -> tuple[int, int, str, int]:
    known = [*zoo.names(), *zoo.demo_names()]
    size = SIZES.index(row.size) if row.size else len(SIZES)
    place = known.index(row.variant) if row.variant in known else len(known)
    return size, place, row.title, row.repeat
