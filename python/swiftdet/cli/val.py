"""`swiftdet val`: COCO accuracy of a detector."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from swiftdet import demo, measurements, zoo
from swiftdet.cli import output
from swiftdet.cli.arguments import parse_imgsz
from swiftdet.cli.progress import ProgressLine, progress
from swiftdet.evaluation import PROTOCOLS, EvalReport
from swiftdet.evaluation.report import PREDICTIONS, REPORT


def val(
    *,
    model: Annotated[str, typer.Option("--model", "-m", help="Model file (.onnx, .xml, .pt), or a name.")],
    weights: Annotated[str | None, typer.Option(help="Checkpoint for a named variant.")] = None,
    images: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the images; default: the demos' own sample.")
    ] = None,
    annotations: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Annotations in COCO's format; goes with --images.")
    ] = None,
    protocol: Annotated[
        str, typer.Option(help=f"{', '.join(PROTOCOLS)}; auto: the one of the model's family that fits it.")
    ] = "auto",
    force_protocol: Annotated[
        bool, typer.Option("--force-protocol", help="Take its thresholds though its geometry is not the model's.")
    ] = False,
    family: Annotated[
        str | None, typer.Option(help="yolov7, damo-yolo or ultralytics, if the file leaves it open.")
    ] = None,
    imgsz: Annotated[
        str | None, typer.Option(metavar="SIZE", help="640 or HEIGHTxWIDTH; default: the model's own.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    engine: Annotated[str, typer.Option(help="auto, openvino or onnxruntime.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32, fp16, or on the CPU bf16.")] = "auto",
    performance: Annotated[
        str | None,
        typer.Option(help="How the engine is compiled: latency or throughput; default: throughput on the CPU."),
    ] = None,
    save_dir: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write report, predictions and plots here; go on with what was interrupted."),
    ] = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Drop what an interrupted evaluation left in --save-dir.")
    ] = False,
    output_file: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write the report here, too.")
    ] = None,
    as_json: output.JsonFlag = False,
    debug: output.DebugFlag = False,
) -> None:
    """Measure COCO accuracy, by pycocotools, through the pipeline that serves."""
    with output.reported_errors(debug=debug):
        dataset = _dataset(model, images, annotations)
        detector = {
            "model": model,
            "weights": weights,
            "family": family,
            "imgsz": None if imgsz is None else parse_imgsz(imgsz),
            "device": device,
            "engine": engine,
            "precision": precision,
            "performance": performance or _performance(device, engine),
        }
        report = _evaluated(
            detector, dataset, protocol=protocol, force_protocol=force_protocol, save_dir=save_dir, restart=restart
        )
        document = report.to_dict() if save_dir is None else measurements.read(save_dir / REPORT)
        if output_file is not None:
            document = _write(report, output_file, save_dir)
        if as_json:
            output.print_json(document)
        else:
            _print(model, report)


def _dataset(model: str, images: Path | None, annotations: Path | None) -> tuple[Path, Path]:
    if images is not None and annotations is not None:
        return images, annotations
    if images is None and annotations is None and model in zoo.demo_names():
        return demo.dataset()
    raise typer.BadParameter(
        "expected a folder and its annotations; only the demos bring a sample", param_hint="'--images', '--annotations'"
    )


def _performance(device: str, engine: str) -> str:
    """Images are in flight together, which a CPU's engine can be compiled for; a GPU's is that of other work."""
    from swiftdet import device_policy  # noqa: PLC0415 - looks for a GPU, which --help need not

    return "latency" if device_policy.choose(device, engine).kind == "cuda" else "throughput"


def _evaluated(detector: dict[str, Any], dataset: tuple[Path, Path], **options: Any) -> EvalReport:
    from swiftdet import Detector, evaluate  # noqa: PLC0415 - loads an engine, which --help need not

    with Detector(**detector) as opened, contextlib.ExitStack() as stack:
        bar: ProgressLine | None = None
        shown = 0

        def follow(done: int, total: int) -> None:
            nonlocal bar, shown
            if bar is None:
                bar = stack.enter_context(progress(total))
            bar.advance(done - shown)
            shown = done

        return evaluate(opened, *dataset, on_progress=follow, **options)


def _write(report: EvalReport, path: Path, save_dir: Path | None) -> dict[str, Any]:
    """Writes the report, which names its predictions from where it lies itself."""
    predictions = None if save_dir is None else os.path.relpath(save_dir / PREDICTIONS, path.parent)
    document = report.to_dict(predictions_file=predictions)
    measurements.write(document, path)
    return document


def _interval(report: EvalReport) -> str:
    found = report.interval
    if found is None:
        return ""
    return f" ({100 * found.level:g} %: {_percent(found.low)} to {_percent(found.high)})"


def _print(model: str, report: EvalReport) -> None:
    console = output.console()
    if not console.is_terminal:
        console.width = 200
    console.print(
        Text(
            output.one_line(
                f"{model}: AP {_percent(report.ap)}{_interval(report)} on {report.images} images with {report.objects} "
                f"objects, protocol {report.protocol.name} ({report.protocol_reason})"
            ),
            style="bold",
        ),
        soft_wrap=True,
    )
    console.print("  ".join(f"{name} {_percent(value)}" for name, value in report.scores.items()), soft_wrap=True)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("class")
    for column in ("AP", "AP50", "objects"):
        table.add_column(column, justify="right")
    for name, score in report.class_scores.items():
        table.add_row(Text(output.one_line(name)), _percent(score.ap), _percent(score.ap50), str(score.objects))
    console.print(table)
    if report.images_per_s is not None:
        again = f" after {report.resumed_images} of an earlier run" if report.resumed_images else ""
        console.print(f"{report.images_per_s:.1f} images per second{again}", soft_wrap=True)
    if report.unknown_categories:
        names = ", ".join(report.unknown_categories)
        output.print_note(f"the detector has no class for {names}; they count as never found")


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100.0 * value:.1f}"
