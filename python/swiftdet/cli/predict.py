"""`swiftdet predict`: detects in images and videos and shows, draws or writes what it found."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from swiftdet import demo, zoo
from swiftdet.cli import output
from swiftdet.cli.arguments import parse_classes, parse_imgsz
from swiftdet.cli.json_document import JsonDocument
from swiftdet.cli.prediction_run import Run
from swiftdet.sources import Video

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
            help="Images, videos, folders, patterns such as 'shots/**/*.jpg', addresses such as rtsp://..., or 0, the"
            " first camera; none: the demos' own picture.",
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
        Path | None, typer.Option(metavar="DIR", help="Write annotated pictures, videos and predictions.json here.")
    ] = None,
    save_txt: Annotated[
        bool,
        typer.Option(
            "--save-txt",
            help="With --save-dir: also write labels/NAME.txt, or labels/NAME/FRAME.txt: class cx cy w h score.",
        ),
    ] = False,
    as_json: output.JsonFlag = False,
    output_file: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write the JSON document to this file."),
    ] = None,
    debug: output.DebugFlag = False,
) -> None:
    """Detect objects in images and videos. Ctrl-C ends a camera or stream, and completes what was written.

    Options may also be written key=value: swiftdet predict street.jpg model=yolo.onnx conf=0.4
    """
    with output.reported_errors(debug=debug):
        if save_txt and save_dir is None:
            raise typer.BadParameter("--save-txt needs --save-dir, the folder to write to", param_hint="'--save-txt'")
        size = None if imgsz is None else parse_imgsz(imgsz)
        run = Run(as_json=as_json, save_dir=save_dir, save_txt=save_txt, debug=debug)
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
        items = run.expand(source or [_own_picture(model)])
        if items and save_dir is not None:
            _prepare(save_dir, items)
        files = [save_dir / "predictions.json"] if save_dir is not None and items else []
        files += [] if output_file is None else [output_file]
        description: dict[str, Any] = {"model": model}
        with JsonDocument(FORMAT, files, stdout=as_json) as document:

            def rest(**more: Any) -> dict[str, Any]:
                return {**run.summary(), **more, **description, "options": options, "provenance": output.provenance()}

            try:
                if items:
                    with open_detector(model, **options) as detector:
                        if detector.spec.synthetic:
                            output.print_note(
                                "the weights are made up (synthetic): the boxes mean nothing, only the times do"
                            )
                        per_call: dict[str, Any] = {"timed": True} if timed else {}
                        if classes is not None:
                            per_call["classes"] = parse_classes(classes, _names(detector))
                        description = _describe(model, detector)
                        options |= per_call
                        run.detect_all(detector, items, per_call, document)
            except KeyboardInterrupt:
                if files or as_json:
                    document.complete(rest(interrupted=True))
                raise
            if files or as_json:
                document.complete(rest())
        if not as_json:
            run.print_totals(stages=timed)
        if run.errors:
            raise typer.Exit(output.ExitCode.FAILED)


def _own_picture(model: str) -> str:
    """What a demo detector looks at where nothing else is named."""
    if model not in zoo.demo_names():
        demos = " or ".join(zoo.demo_names())
        raise typer.BadParameter(f"expected images to look at; only {demos} bring a picture", param_hint="'SOURCE'")
    return str(demo.picture())


def _prepare(save_dir: Path, items: list[Path | Video]) -> None:
    """Makes the folder, unless a picture or video written there would replace a source."""
    folder = save_dir.resolve()
    files = [item if isinstance(item, Path) else Path(item.location) for item in items if not _is_remote(item)]
    if any(path.resolve().parent == folder for path in files):
        raise typer.BadParameter(
            f"{save_dir} holds the sources, which what is written there would replace; name another folder",
            param_hint="'--save-dir'",
        )
    save_dir.mkdir(parents=True, exist_ok=True)


def _is_remote(item: Path | Video) -> bool:
    return isinstance(item, Video) and item.kind != "file"


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
