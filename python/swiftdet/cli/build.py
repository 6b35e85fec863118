"""`swiftdet build`: makes a TensorRT engine for this machine's GPU."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from swiftdet import model as models
from swiftdet.cli import output
from swiftdet.cli.arguments import parse_imgsz
from swiftdet.cli.progress import build_progress
from swiftdet.engines.tensorrt import engines
from swiftdet.engines.tensorrt.options import Batches
from swiftdet.engines.tensorrt.plan_files import SUFFIXES, Manifest, manifest_path, write_plan
from swiftdet.errors import InvalidArgument, ModelError

FORMAT = "swiftdet.build/1"
"""Names the JSON document and its version."""


def build(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="ONNX file, a name of `swiftdet models`, or a checkpoint."),
    ],
    *,
    output_file: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The .engine file to write.")],
    weights: Annotated[
        str | None, typer.Option(help="Checkpoint for a named variant; 'synthetic' for made-up weights.")
    ] = None,
    family: Annotated[
        str | None, typer.Option(help="yolov7, damo-yolo or ultralytics, if the file leaves it open.")
    ] = None,
    precision: Annotated[str, typer.Option(help="fp16 or fp32.")] = "fp16",
    imgsz: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="640 or HEIGHTxWIDTH, the size it is fastest at; default: the model's own."),
    ] = None,
    min_imgsz: Annotated[
        str | None, typer.Option(metavar="SIZE", help="The least that a call may ask for; default: --imgsz alone.")
    ] = None,
    max_imgsz: Annotated[
        str | None, typer.Option(metavar="SIZE", help="The most that a call may ask for; default: --imgsz alone.")
    ] = None,
    min_batch: Annotated[int | None, typer.Option(metavar="N", help="Fewest images per run; default 1.")] = None,
    opt_batch: Annotated[int | None, typer.Option(metavar="N", help="The number it is fastest at; default 1.")] = None,
    max_batch: Annotated[int | None, typer.Option(metavar="N", help="Most images per run; default 8.")] = None,
    workspace: Annotated[
        int, typer.Option(metavar="MIB", help="Most scratch memory on the GPU; 0: TensorRT's choice.")
    ] = 0,
    timing_cache: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Keep timings of layers here, for faster builds.")
    ] = None,
    unverified: Annotated[
        bool,
        typer.Option("--unverified", help="Build fp16 of a foreign float32 graph without comparing the two first."),
    ] = False,
    device: Annotated[str, typer.Option(help="cuda or cuda:N.")] = "cuda",
    as_json: output.JsonFlag = False,
    debug: output.DebugFlag = False,
) -> None:
    """Build a TensorRT engine, with a manifest beside it that describes and guards it.

    An engine runs on the kind of GPU and the TensorRT release that built it. `Detector` builds and keeps engines by
    itself; this verb is for making one in advance.
    """
    with output.reported_errors(debug=debug):
        if output_file.suffix.lower() not in SUFFIXES:
            raise typer.BadParameter(
                f"expected a name ending in {', '.join(sorted(SUFFIXES))}, got {output_file.name!r}", param_hint="'-o'"
            )
        if precision not in {"fp16", "fp32"}:
            raise InvalidArgument(f"precision: expected 'fp16' or 'fp32', got {precision!r}")
        where = engines.target(_index(device))
        size = None if imgsz is None else parse_imgsz(imgsz)
        loaded = models.load(model, weights=weights, family=family, imgsz=size, precision=precision)
        if loaded.plan is not None:
            raise ModelError(f"{model} is an engine already; build from its ONNX file")
        options = engines.options_for(
            loaded,
            precision=precision,
            batches=_batches(loaded, min_batch, opt_batch, max_batch),
            smallest=None if min_imgsz is None else parse_imgsz(min_imgsz),
            largest=None if max_imgsz is None else parse_imgsz(max_imgsz),
            workspace_bytes=workspace << 20 if workspace > 0 else workspace,
            timing_cache=timing_cache,
        )
        start = time.perf_counter()
        check = None if unverified else _check_half
        with build_progress() as progress:
            plan, manifest = engines.build(loaded, options, where, progress=progress, check_half=check)
        write_plan(output_file, plan, manifest)
        document = _describe(manifest, output_file, time.perf_counter() - start)
        if as_json:
            output.print_json(document)
        else:
            _print(document)


def _index(device: str) -> int:
    from swiftdet import device_policy  # noqa: PLC0415 - loads the core, which --help need not

    if not device.startswith("cuda"):
        raise InvalidArgument(f"device: engines are built on a GPU, 'cuda' or 'cuda:N', got {device!r}")
    return device_policy.parse(device)


def _check_half(model: engines.Model, graph: bytes) -> None:
    from swiftdet.verification import half  # noqa: PLC0415 - few builds need it

    half.check(model, graph)


def _batches(loaded: models.LoadedModel, least: int | None, best: int | None, most: int | None) -> Batches | None:
    """None where nothing was asked for."""
    if least is None and best is None and most is None:
        return None
    least = 1 if least is None else least
    if not loaded.dynamic_batch:
        fixed = loaded.input_shape[0]
        return Batches(least, best or fixed, most or fixed)
    most = max(8, best or 1, least) if most is None else most
    return Batches(least, least if best is None else best, most)


def _describe(manifest: Manifest, path: Path, seconds: float) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(manifest.to_json())
    return {
        **document,
        "format": FORMAT,
        "output": str(path),
        "manifest": str(manifest_path(path)),
        "seconds": round(seconds, 1),
        "synthetic": manifest.spec.synthetic,
        "provenance": output.provenance(),
    }


def _print(document: dict[str, Any]) -> None:
    least, best, most = (shape[0] for shape in document["shapes"])
    smallest, size, largest = ("{}x{}".format(*shape[2:]) for shape in document["shapes"])
    sizes = size if smallest == largest else f"{smallest} to {largest}, best at {size}"
    typer.echo(
        f"{document['output']}  {document['plan_bytes'] / 1e6:.1f} MB  {document['precision']}  {sizes}  "
        f"batch {least} to {most}, best at {best}  {document['gpu']} ({document['sm']}), "
        f"TensorRT {document['tensorrt']}  in {document['seconds']:.0f} s"
    )
    if document["synthetic"]:
        typer.echo("made-up weights: fit for measuring latency, not for detecting")
