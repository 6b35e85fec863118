"""`swiftdet predict`: detects in images and shows, draws or writes what it found."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from swiftdet import demo, sources, zoo
from swiftdet.cli import output
from swiftdet.cli.arguments import parse_classes, parse_imgsz
from swiftdet.cli.progress import progress
from swiftdet.errors import SwiftdetError
from swiftdet.results import Detections

FORMAT = "swiftdet.predictions/1"
"""Names the JSON document and its version."""


def open_detector(model: str, **options: Any) -> Any:
    """The detector that the verb runs; imported late, so that `--help` need not load an engine."""
    from swiftdet import Detector  # type: ignore[attr-defined,unused-ignore]  # noqa: PLC0415

    return Detector(model, **options)


def _fraction(value: float) -> float:
    # Not Typer's own range: its words differ from release to release, and it lets NaN pass.
    if not 0.0 <= value <= 1.0:
        raise typer.BadParameter(f"expected a number from 0 to 1, got {value:g}")
    return value


def _at_least_one(value: int) -> int:
    if value < 1:
        raise typer.BadParameter(f"expected at least 1, got {value}")
    return value


def predict(
    source: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SOURCE",
            help="Images, folders or patterns such as 'shots/**/*.jpg'; none: the demos' own picture.",
        ),
    ] = None,
    *,
    model: Annotated[
        str,
        typer.Option("--model", "-m", help="Model file (.onnx, .xml, .pt, .engine), or a name: see `swiftdet models`."),
    ],
    weights: Annotated[
        Path | None, typer.Option(help="Checkpoint for a named variant, or 'synthetic' to measure latency.")
    ] = None,
    family: Annotated[
        str | None, typer.Option(help="yolov7, damo-yolo or ultralytics, if the file leaves it open.")
    ] = None,
    conf: Annotated[float, typer.Option(callback=_fraction, help="Keep scores above this, 0 to 1.")] = 0.25,
    iou: Annotated[
        float,
        typer.Option(callback=_fraction, help="Suppress boxes that overlap more than this, 0 to 1."),
    ] = 0.7,
    max_det: Annotated[int, typer.Option(callback=_at_least_one, help="At most this many boxes an image.")] = 300,
    imgsz: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Network input, 640 or HEIGHTxWIDTH; default: the model's own."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    engine: Annotated[str, typer.Option(help="auto, openvino, tensorrt or onnxruntime.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto (fp32 on the CPU, fp16 on a GPU), fp32, fp16 or bf16.")] = "auto",
    trust_plan: Annotated[
        bool,
        typer.Option("--trust-plan", help="Run a TensorRT engine without swiftdet's manifest: it is machine code."),
    ] = False,
    classes: Annotated[
        str | None, typer.Option(metavar="LIST", help="Only these classes, by id or name: 0,2 or person,bus.")
    ] = None,
    class_agnostic: Annotated[
        bool, typer.Option("--class-agnostic", help="Boxes suppress those of other classes too.")
    ] = False,
    multi_label: Annotated[bool, typer.Option("--multi-label", help="A box may have several classes.")] = False,
    timed: Annotated[
        bool, typer.Option("--timed", help="Show what each stage took; on a GPU by CUDA events, copies apart.")
    ] = False,
    save_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write annotated pictures and predictions.json here.")
    ] = None,
    save_txt: Annotated[
        bool,
        typer.Option("--save-txt", help="With --save-dir: also write labels/*.txt, class cx cy w h score."),
    ] = False,
    as_json: output.JsonFlag = False,
    output_file: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write the JSON document to this file."),
    ] = None,
    debug: output.DebugFlag = False,
) -> None:
    """Detect objects in images.

    Options may also be written key=value: swiftdet predict street.jpg model=yolo.onnx conf=0.4
    """
    with output.reported_errors(debug=debug):
        if save_txt and save_dir is None:
            raise typer.BadParameter("--save-txt needs --save-dir, the folder to write to", param_hint="'--save-txt'")
        size = None if imgsz is None else parse_imgsz(imgsz)
        run = _Run(as_json=as_json, save_dir=save_dir, save_txt=save_txt, debug=debug)
        options: dict[str, Any] = {
            "weights": None if weights is None else str(weights),
            "family": family,
            "device": device,
            "engine": engine,
            "precision": precision,
            "trust_plan": trust_plan,
            "imgsz": size,
            "conf": conf,
            "iou": iou,
            "max_det": max_det,
            "class_agnostic": class_agnostic,
            "multi_label": multi_label,
        }
        paths = run.expand(source or [_own_picture(model)])
        description: dict[str, Any] = {"model": model}
        if paths:
            if save_dir is not None:
                _prepare(save_dir, paths)
            with open_detector(model, **options) as detector:
                if detector.spec.synthetic:
                    output.print_note("the weights are made up (synthetic): the boxes mean nothing, only the times do")
                per_call: dict[str, Any] = {"timed": True} if timed else {}
                if classes is not None:
                    per_call["classes"] = parse_classes(classes, _names(detector))
                description = _describe(model, detector)
                options |= per_call
                run.detect_all(detector, paths, per_call)
        files = [save_dir / "predictions.json"] if save_dir is not None and paths else []
        files += [] if output_file is None else [output_file]
        if files or as_json:
            document = run.document(description, options)
            for file in files:
                output.write_json(document, file)
            if as_json:
                output.print_json(document)
        if not as_json:
            run.print_totals(stages=timed)
        if run.errors:
            raise typer.Exit(output.ExitCode.FAILED)


@dataclass
class _Run:
    """The images of one invocation: what was found, what failed, how it is shown."""

    as_json: bool
    save_dir: Path | None
    save_txt: bool
    debug: bool = False
    rows: list[dict[str, Any]] = field(default_factory=list)
    errors: list[dict[str, str]] = field(default_factory=list)
    objects: int = 0
    milliseconds: dict[str, float] = field(default_factory=dict)
    _stems: set[str] = field(default_factory=set)

    def expand(self, arguments: list[str]) -> list[Path]:
        """The image files of all arguments; what is not there becomes an error of its own."""
        return [path for argument in arguments for path in self._expand_one(argument)]

    def _expand_one(self, argument: str) -> list[Path]:
        try:
            return sources.expand(argument)
        except SwiftdetError as e:
            self._fail(argument, e)
            return []

    def detect_all(self, detector: Any, paths: list[Path], per_call: dict[str, Any]) -> None:
        """Detects in each image; a bad one is reported and does not stop the others."""
        with progress(len(paths)) as bar:
            for path in paths:
                try:
                    result: Detections = detector(path, **per_call)
                    saved = self._save(result, path)
                except SwiftdetError as e:
                    with bar.paused():
                        self._fail(str(path), e)
                else:
                    self._add(result, path, saved)
                    if not self.as_json:
                        with bar.paused():
                            _print_result(path, result)
                bar.advance()

    def document(self, description: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
        """Everything as JSON: results, failures, the model told apart by content, options, machine."""
        return {
            "format": FORMAT,
            "images": self.rows,
            "errors": self.errors,
            **description,
            "options": options,
            "provenance": output.provenance(),
        }

    def print_totals(self, *, stages: bool) -> None:
        """What a person wants to know in the end, in one line; and on request what each stage took."""
        count = len(self.rows)
        if count == 0:
            return
        text = f"{count} image{'s' if count != 1 else ''}, {self.objects} object{'s' if self.objects != 1 else ''}"
        text += f", {sum(self.milliseconds.values()) / count:.1f} ms per image"
        if self.save_dir is not None:
            text += f"; saved to {self.save_dir}"
        typer.echo(text)
        if stages:
            means = (f"{stage} {time / count:.3f}" for stage, time in self.milliseconds.items())
            typer.echo(f"ms per image: {', '.join(means)}")

    def _fail(self, path: str, error: SwiftdetError) -> None:
        self.errors.append({"path": path, "error": output.one_line(error)})
        output.show_error(error, str(error), debug=self.debug)

    def _add(self, result: Detections, path: Path, saved: dict[str, str]) -> None:
        height, width = result.orig_shape
        self.objects += len(result)
        for stage, time in result.speed.items():
            self.milliseconds[stage] = self.milliseconds.get(stage, 0.0) + time
        self.rows.append(
            {
                "path": str(path),
                "width": width,
                "height": height,
                "detections": result.summary(),
                "truncated": result.truncated,
                "speed_ms": {stage: round(time, 3) for stage, time in result.speed.items()},
                **({"note": result.note} if result.note else {}),
                **saved,
            }
        )

    def _save(self, result: Detections, path: Path) -> dict[str, str]:
        """Writes picture and labels of one image where asked; says where."""
        if self.save_dir is None:
            return {}
        stem = self._free_stem(path.stem)
        suffix = path.suffix.lower() if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp", ".bmp") else ".png"
        saved = {"picture": str(result.save(self.save_dir / f"{stem}{suffix}"))}
        if self.save_txt:
            labels = self.save_dir / "labels"
            labels.mkdir(exist_ok=True)
            saved["labels"] = str(result.save_txt(labels / f"{stem}.txt", save_conf=True))
        return saved

    def _free_stem(self, stem: str) -> str:
        """The name, numbered where an image of another folder took it already."""
        free, number = stem, 1
        while free in self._stems:
            number += 1
            free = f"{stem}_{number}"
        self._stems.add(free)
        return free


def _own_picture(model: str) -> str:
    """What a demo detector looks at where nothing else is named."""
    if model not in zoo.demo_names():
        demos = " or ".join(zoo.demo_names())
        raise typer.BadParameter(f"expected images to look at; only {demos} bring a picture", param_hint="'SOURCE'")
    return str(demo.picture())


def _prepare(save_dir: Path, paths: list[Path]) -> None:
    """Makes the folder, unless a picture written there would replace a source."""
    folder = save_dir.resolve()
    if any(path.resolve().parent == folder for path in paths):
        raise typer.BadParameter(
            f"{save_dir} holds the source images, which the annotated pictures would replace; name another folder",
            param_hint="'--save-dir'",
        )
    save_dir.mkdir(parents=True, exist_ok=True)


def _names(detector: Any) -> dict[int, str]:
    names = detector.names
    return dict(names) if isinstance(names, Mapping) else dict(enumerate(names))


def _describe(model: str, detector: Any) -> dict[str, Any]:
    """The model of a result, how it was read and what ran it."""
    made_by = detector.provenance
    return {
        "model": model,
        "model_sha256": made_by["model_sha256"],
        "engine": made_by["engine"],
        "device": made_by["device"],
        "spec": json.loads(detector.spec.to_json()),
    }


def _print_result(path: Path, result: Detections) -> None:
    """The detections of one image: a table on a terminal, plain lines elsewhere."""
    height, width = result.orig_shape
    heading = output.one_line(f"{path} {width}x{height}: {result.verbose()}")
    rows = [
        (row["name"], f"{row['confidence']:.3f}", *(f"{side:.1f}" for side in row["box"].values()))
        for row in result.summary()
    ]
    notes = [result.note] if result.note else []
    if result.truncated:
        plural = "" if result.truncated == 1 else "s"
        notes.append(f"the limits cut off {result.truncated} candidate{plural}")
    console = output.console()
    if not console.is_terminal:
        typer.echo(
            "\n".join([heading, *(f"  note: {note}" for note in notes), *("  " + " ".join(row) for row in rows)])
        )
        return
    console.print(Text(heading, style="bold"), soft_wrap=True)
    for note in notes:
        console.print(Text(f"note: {note}", style="yellow"), soft_wrap=True)
    if rows:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        table.add_column("class")
        for name in ("score", "left", "top", "right", "bottom"):
            table.add_column(name, justify="right", no_wrap=True)
        for name, *numbers in rows:
            table.add_row(Text(name), *numbers)
        console.print(table)
        console.print()
