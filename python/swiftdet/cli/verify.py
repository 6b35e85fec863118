"""`swiftdet verify`: whether one detector means the same as another."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.table import Table

from swiftdet import demo, measurements, zoo
from swiftdet.cli import output
from swiftdet.cli.arguments import parse_imgsz
from swiftdet.cli.progress import ProgressLine, progress
from swiftdet.verification import CONF, VerificationReport
from swiftdet.verification.gates import TITLES, TOLERANCES
from swiftdet.zoo import weights as zoo_weights

_OFF = "off"


def _limit_option(gate: str) -> Any:
    """The flag of a gate; text, since "off" is a limit too."""
    title = TITLES[gate]
    return typer.Option(
        metavar="LIMIT", rich_help_panel="Gates (a number, or 'off')", help=f"{title[0].upper()}{title[1:]}."
    )


def verify(
    *,
    ref: Annotated[str, typer.Option("--ref", help="The detector that is believed: a model file, or a name.")],
    test: Annotated[str, typer.Option("--test", help="The detector in question: a model file, or a name.")],
    images: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SOURCE",
            help="Images, folders, patterns; may be given several times. Default, for two demos: their own sample.",
        ),
    ] = None,
    annotations: Annotated[
        Path | None, typer.Option(metavar="FILE", help="In COCO's format, of the one folder --images: compares AP too.")
    ] = None,
    protocol: Annotated[str, typer.Option(help="Of AP, for both; auto: that of the reference's family.")] = "auto",
    weights: Annotated[str | None, typer.Option(help="Checkpoint for the named variants on either side.")] = None,
    ref_weights: Annotated[str | None, typer.Option(help="Checkpoint for the reference alone.")] = None,
    test_weights: Annotated[str | None, typer.Option(help="Checkpoint for the test alone.")] = None,
    family: Annotated[
        str | None, typer.Option(help="yolov7, damo-yolo or ultralytics, if the files leave it open.")
    ] = None,
    ref_engine: Annotated[str, typer.Option(help="auto, openvino, tensorrt or onnxruntime.")] = "auto",
    test_engine: Annotated[str, typer.Option(help="auto, openvino, tensorrt or onnxruntime.")] = "auto",
    ref_precision: Annotated[str, typer.Option(help="auto, fp32, fp16 or bf16.")] = "auto",
    test_precision: Annotated[str, typer.Option(help="auto, fp32, fp16 or bf16.")] = "auto",
    ref_device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    test_device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    imgsz: Annotated[
        str | None, typer.Option(metavar="SIZE", help="640 or HEIGHTxWIDTH; default: the models' own.")
    ] = None,
    trust_plan: Annotated[
        bool,
        typer.Option("--trust-plan", help="Run a TensorRT engine without swiftdet's manifest: it is machine code."),
    ] = False,
    conf: Annotated[float, typer.Option(help="Compare detections with scores above this, 0 to 1.")] = CONF,
    iou: Annotated[float, typer.Option(help="Suppress boxes that overlap more than this, 0 to 1.")] = 0.7,
    max_det: Annotated[int, typer.Option(help="At most this many boxes an image.")] = 300,
    multi_label: Annotated[bool, typer.Option("--multi-label", help="A box may have several classes.")] = False,
    tolerance: Annotated[
        str, typer.Option(help=f"Which limits: {', '.join(TOLERANCES)}; auto: by the precision of both sides.")
    ] = "auto",
    min_detections: Annotated[str | None, _limit_option("min_detections")] = None,
    min_match_rate: Annotated[str | None, _limit_option("min_match_rate")] = None,
    max_class_flips: Annotated[str | None, _limit_option("max_class_flips")] = None,
    max_nms_choices: Annotated[str | None, _limit_option("max_nms_choices")] = None,
    max_box_error: Annotated[str | None, _limit_option("max_box_error")] = None,
    max_box_error_p99: Annotated[str | None, _limit_option("max_box_error_p99")] = None,
    max_box_shift: Annotated[str | None, _limit_option("max_box_shift")] = None,
    max_score_error: Annotated[str | None, _limit_option("max_score_error")] = None,
    max_score_error_p99: Annotated[str | None, _limit_option("max_score_error_p99")] = None,
    max_nonfinite: Annotated[str | None, _limit_option("max_nonfinite")] = None,
    max_map_change: Annotated[str | None, _limit_option("max_map_change")] = None,
    report_dir: Annotated[
        Path | None,
        typer.Option(
            "--report", metavar="DIR", help="Write report.html, with the worst images, and verification.json."
        ),
    ] = None,
    worst: Annotated[int, typer.Option(metavar="N", help="How many images the report shows.")] = 8,
    output_file: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write the JSON document to this file.")
    ] = None,
    as_json: output.JsonFlag = False,
    debug: output.DebugFlag = False,
) -> None:
    """Compare two detectors on the same images; exit code 1 if they differ by more than the gates allow.

    Two engines, two precisions, or two files of one model: what must mean the same.
    """
    with output.reported_errors(debug=debug):
        limits = _limits(
            min_detections=min_detections,
            min_match_rate=min_match_rate,
            max_class_flips=max_class_flips,
            max_nms_choices=max_nms_choices,
            max_box_error=max_box_error,
            max_box_error_p99=max_box_error_p99,
            max_box_shift=max_box_shift,
            max_score_error=max_score_error,
            max_score_error_p99=max_score_error_p99,
            max_nonfinite=max_nonfinite,
            max_map_change=max_map_change,
        )
        source, truth = _images(ref, test, images, annotations)
        common: dict[str, Any] = {
            "family": family,
            "imgsz": None if imgsz is None else parse_imgsz(imgsz),
            "trust_plan": trust_plan,
        }
        sides = (
            (ref, _weights(ref, ref_weights, weights), ref_engine, ref_precision, ref_device),
            (test, _weights(test, test_weights, weights), test_engine, test_precision, test_device),
        )
        report = _verified(
            [{"model": m, "weights": w, "engine": e, "precision": p, "device": d, **common} for m, w, e, p, d in sides],
            source,
            annotations=truth,
            protocol=protocol,
            conf=conf,
            tolerance=tolerance,
            gates=limits,
            worst=worst,
            iou=iou,
            max_det=max_det,
            multi_label=multi_label,
        )
        if output_file is not None:
            measurements.write(report.document, output_file)
        if report_dir is not None:
            report.save(report_dir)
        if as_json:
            output.print_json(report.document)
        else:
            _print(report)
        for gate in report.broken:
            output.print_error(gate)
        if not report.passed:
            raise typer.Exit(output.ExitCode.FAILED)


def _limits(**texts: str | None) -> dict[str, float | None]:
    """The limits of those gates that a flag was given for; None for "off"."""
    limits: dict[str, float | None] = {}
    for name, text in texts.items():
        try:
            if text is not None:
                limits[name] = None if text.lower() == _OFF else float(text)
        except ValueError as e:
            flag = "--" + name.replace("_", "-")
            raise typer.BadParameter(f"expected a number or {_OFF!r}, got {text!r:.40}", param_hint=f"'{flag}'") from e
    return limits


def _weights(model: str, own: str | None, common: str | None) -> str | None:
    """Those of the side; those of both only where a name needs some."""
    is_name = zoo_weights.is_zoo_model(model) and Path(model).suffix.lower() not in zoo_weights.CHECKPOINT_SUFFIXES
    return own if own is not None else common if is_name else None


def _images(ref: str, test: str, images: list[str] | None, annotations: Path | None) -> tuple[Any, Path | None]:
    if images:
        return images[0] if len(images) == 1 else images, annotations
    if annotations is None and {ref, test} <= set(zoo.demo_names()):
        return demo.dataset()
    raise typer.BadParameter("expected images to compare on; only two demos bring a sample", param_hint="'--images'")


def _verified(sides: list[dict[str, Any]], images: Any, **options: Any) -> VerificationReport:
    from swiftdet import Detector, verify  # noqa: PLC0415 - loads an engine, which --help need not

    with contextlib.ExitStack() as stack:
        reference, test = (stack.enter_context(Detector(**side)) for side in sides)
        bars = stack.enter_context(contextlib.ExitStack())
        bar: ProgressLine | None = None
        shown = 0

        def follow(what: str, done: int, total: int) -> None:
            nonlocal bar, shown
            if bar is None:
                bar = bars.enter_context(progress(total, what))
                shown = 0
            bar.advance(done - shown)
            shown = done
            if done == total:
                bars.close()
                bar = None

        return verify(reference, test, images, on_progress=follow, **options)


def _print(report: VerificationReport) -> None:
    console = output.console()
    if not console.is_terminal:
        console.width = 200
    measured = report.measured
    sides = [measured["detections"][side] for side in ("reference", "test")]
    verdict = "agrees with" if report.passed else "differs from"
    typer.echo(
        output.one_line(
            f"{_named(report.subject)} {verdict} {_named(measured['reference'])} on {measured['images']['count']} "
            f"images, tolerances of {measured['tolerance']['name']}"
        )
    )
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("")
    for name in ("reference", "test"):
        table.add_column(name, justify="right")
    rows = {
        f"detections over {measured['conf']:g}": "detections",
        "in pairs": "paired",
        "in pairs of another class": "class_flips",
        "kept by one NMS alone": "nms_choices",
        "without counterpart": "alone",
    }
    for title, key in rows.items():
        table.add_row(title, *(str(side[key]) for side in sides))
    console.print(table)
    for title, key, unit in (("box error", "box_error_px", " px"), ("score error", "score_error", "")):
        spread = measured[key]
        if spread["max"] is not None:
            typer.echo(f"{title}: at most {spread['max']:.3g}{unit}, 99 % at most {spread['p99']:.3g}{unit}")
    if (accuracy := measured["accuracy"]) is not None and accuracy["change"]["AP"] is not None:
        first, second = (100 * accuracy[side]["AP"] for side in ("reference", "test"))
        typer.echo(f"AP ({accuracy['protocol']}): {first:.2f} and {second:.2f}, {second - first:+.3f}")
    gates = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    gates.add_column("gate")
    for name in ("measured", "limit"):
        gates.add_column(name, justify="right")
    gates.add_column("")
    for gate in report.gates:
        sign = ">=" if gate.name.startswith("min_") else "<="
        limit = "-" if gate.limit is None else f"{sign} {gate.limit:g}"
        gates.add_row(gate.title, gate.shown or "-", limit, gate.outcome)
    console.print(gates)
    for note in measured["notes"]:
        output.print_note(note)


def _named(side: dict[str, Any]) -> str:
    return f"{side['model']} ({side['engine']}, {side['precision']})"
