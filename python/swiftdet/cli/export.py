"""`swiftdet export`: writes an official network with its weights as an ONNX file."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from swiftdet import zoo
from swiftdet.cli import output
from swiftdet.cli.arguments import parse_imgsz
from swiftdet.errors import ModelError
from swiftdet.whole_files import write_whole
from swiftdet.zoo import weights as zoo_weights
from swiftdet.zoo.building import BUILD_KEY

FORMAT = "swiftdet.export/1"
"""Names the JSON document and its version."""

DYNAMIC: Literal["dynamic"] = "dynamic"


def _image_size(text: str | None) -> tuple[int, int] | Literal["dynamic"] | None:
    if text == DYNAMIC:
        return DYNAMIC
    return None if text is None else parse_imgsz(text)


def _batch(text: str) -> int | Literal["dynamic"]:
    if text == DYNAMIC:
        return DYNAMIC
    if not text.isdecimal() or int(text) < 1:
        raise typer.BadParameter(f"expected a number of images or 'dynamic', got {text!r}", param_hint="'--batch'")
    return int(text)


def export(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="A name of `swiftdet models`, or a checkpoint (.pt, .pth, .safetensors)."),
    ],
    *,
    output_file: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The ONNX file to write.")],
    weights: Annotated[
        str | None, typer.Option(help="Checkpoint for a named variant; 'synthetic' for made-up weights.")
    ] = None,
    imgsz: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="640, HEIGHTxWIDTH or 'dynamic'; default: the variant's own, fixed."),
    ] = None,
    batch: Annotated[str, typer.Option(metavar="N", help="Images per call, or 'dynamic'.")] = DYNAMIC,
    head: Annotated[str, typer.Option(help="raw maps, or decoded boxes and scores for other runtimes.")] = "raw",
    precision: Annotated[str, typer.Option(help="fp32, or fp16 for weights and feature maps.")] = "fp32",
    channel_order: Annotated[str, typer.Option(help="rgb, or bgr to take OpenCV's order without a swap.")] = "rgb",
    fold_divisor: Annotated[
        bool,
        typer.Option(
            "--fold-divisor", help="Take pixels of 0 to 255, for other runtimes (not exact: see swiftdet verify)."
        ),
    ] = False,
    as_json: output.JsonFlag = False,
    debug: output.DebugFlag = False,
) -> None:
    """Write an official network and its weights as ONNX, merged to its smallest form.

    The file describes itself: `swiftdet predict --model FILE` needs no further option.
    """
    with output.reported_errors(debug=debug):
        if output_file.suffix.lower() != ".onnx":
            raise typer.BadParameter(f"expected a name ending in .onnx, got {output_file.name!r}", param_hint="'-o'")
        if not zoo_weights.is_zoo_model(model):
            raise ModelError(
                f"{model!r} is no checkpoint and none of {', '.join(zoo.names())}; ONNX files are exports already"
            )
        found = zoo_weights.find(model, weights)
        proto = found.build(
            imgsz=_image_size(imgsz),
            batch=_batch(batch),
            head=head,
            precision=precision,
            channel_order=channel_order,
            fold_divisor=fold_divisor,
        )
        output_file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(output_file, proto.SerializeToString())
        document = _describe(proto, found, output_file)
        if as_json:
            output.print_json(document)
        else:
            _print(document)


def _describe(proto: Any, found: zoo_weights.Weights, path: Path) -> dict[str, Any]:
    def ports(values: Any) -> dict[str, list[int | str]]:
        return {v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}

    return {
        "format": FORMAT,
        "output": str(path),
        "bytes": path.stat().st_size,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "variant": found.variant.name,
        "weights": None if found.path is None else str(found.path),
        "weights_sha256": found.sha256 or None,
        "synthetic": found.state is None,
        "inputs": ports(proto.graph.input),
        "outputs": ports(proto.graph.output),
        "build": json.loads(next(entry.value for entry in proto.metadata_props if entry.key == BUILD_KEY)),
        "provenance": output.provenance(),
    }


def _print(document: dict[str, Any]) -> None:
    shapes = ", ".join(f"{name} {'x'.join(map(str, dims))}" for name, dims in document["outputs"].items())
    typer.echo(f"{document['output']}  {document['bytes'] / 1e6:.1f} MB  {document['variant']}  {shapes}")
    if document["synthetic"]:
        typer.echo("made-up weights: fit for measuring latency, not for detecting")
