"""`swiftdet val`: COCO accuracy of a detector."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from swiftdet import demo, zoo
from swiftdet.cli import output
from swiftdet.cli.arguments import parse_imgsz
from swiftdet.cli.progress import ProgressLine, progress
from swiftdet.evaluation import EvalReport


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
        str, typer.Option(help="yolov7-fixed, damo-yolo, damo-yolo-nano or ultralytics; auto: the family's.")
    ] = "auto",
    family: Annotated[
        str | None, typer.Option(help="yolov7, damo-yolo or ultralytics, if the file leaves it open.")
    ] = None,
    imgsz: Annotated[
        str | None, typer.Option(metavar="SIZE", help="640 or HEIGHTxWIDTH; default: the model's own.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    engine: Annotated[str, typer.Option(help="auto, openvino or onnxruntime.")] = "auto",
    save_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write report.json and predictions.json here.")
    ] = None,
    as_json: output.JsonFlag = False,
    debug: output.DebugFlag = False,
) -> None:
    """Measure COCO accuracy, by pycocotools, through the pipeline that serves."""
    with output.reported_errors(debug=debug):
        folder, truth = _dataset(model, images, annotations)
        size = None if imgsz is None else parse_imgsz(imgsz)
        report = _evaluated(
            model, folder, truth, protocol, weights=weights, family=family, imgsz=size, device=device, engine=engine
        )
        if save_dir is not None:
            report.save(save_dir)
        if as_json:
            output.print_json({**report.to_dict(), "model": model, "provenance": _provenance(report)})
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


def _evaluated(model: str, images: Path, annotations: Path, protocol: str, **options: Any) -> EvalReport:
    from swiftdet import Detector, evaluate  # noqa: PLC0415 - loads an engine, which --help need not

    with Detector(model, **options) as detector, contextlib.ExitStack() as stack:
        bar: ProgressLine | None = None
        shown = 0

        def follow(done: int, total: int) -> None:
            nonlocal bar, shown
            if bar is None:
                bar = stack.enter_context(progress(total))
            bar.advance(done - shown)
            shown = done

        return evaluate(detector, images, annotations, protocol=protocol, on_progress=follow)


def _provenance(report: EvalReport) -> dict[str, Any]:
    return {**output.provenance(), **report.provenance}


def _print(model: str, report: EvalReport) -> None:
    console = output.console()
    if not console.is_terminal:
        console.width = 200
    console.print(
        Text(
            output.one_line(
                f"{model}: AP {_percent(report.ap)} on {report.images} images with {report.objects} objects, "
                f"protocol {report.protocol.name}"
            ),
            style="bold",
        ),
        soft_wrap=True,
    )
    console.print("  ".join(f"{name} {_percent(value)}" for name, value in report.scores.items()), soft_wrap=True)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("class")
    table.add_column("AP", justify="right")
    for name, value in report.per_class.items():
        table.add_row(Text(output.one_line(name)), _percent(value))
    console.print(table)
    if report.unknown_categories:
        names = ", ".join(report.unknown_categories)
        output.print_note(f"the detector has no class for {names}; they count as never found")


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100.0 * value:.1f}"
