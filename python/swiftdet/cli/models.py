"""`swiftdet models`: the known variants, or what a model file turns out to be."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from swiftdet import zoo
from swiftdet.cli import output
from swiftdet.errors import ModelError

READABLE = {
    ".onnx": "ONNX export of YOLOv7, DAMO-YOLO or an Ultralytics model",
    ".xml": "OpenVINO IR of such an export, with its .bin beside it",
    ".pt": "checkpoint of YOLOv7 or DAMO-YOLO; also .pth and .safetensors",
}
"""Model files that this version reads, by suffix."""


def describe_file(path: Path) -> dict[str, Any]:
    """What a model file is: recognised, not run."""
    from swiftdet import model  # type: ignore[attr-defined,unused-ignore]  # noqa: PLC0415 - loads a library

    return dict(model.describe(model.load(path)))


def models(
    model: Annotated[
        str | None, typer.Argument(metavar="[FILE|NAME]", help="A model file or the name of a variant.")
    ] = None,
    *,
    as_json: output.JsonFlag = False,
    debug: output.DebugFlag = False,
) -> None:
    """List the known variants, or say what a model file is."""
    with output.reported_errors(debug=debug):
        if model is None:
            _show_catalogue(as_json=as_json)
        elif Path(model).exists() or Path(model).suffix or len(Path(model).parts) > 1:
            _show_file(Path(model), as_json=as_json)
        else:
            _show_variant(zoo.info(model), as_json=as_json)


def _show_catalogue(*, as_json: bool) -> None:
    variants = [zoo.info(name) for name in zoo.names()]
    demos = [zoo.info(name) for name in zoo.demo_names()]
    if as_json:
        output.print_json(
            {
                "variants": [dataclasses.asdict(v) for v in variants],
                "demos": [dataclasses.asdict(v) for v in demos],
                "counting": zoo.COUNTING,
                "readable": READABLE,
            }
        )
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("variant", no_wrap=True)
    for title in ("size", "params", "GFLOPs", "AP val2017", "AP test-dev"):
        table.add_column(title, justify="right", no_wrap=True)
    for v in variants:
        table.add_row(
            v.name,
            str(v.imgsz[0]),
            f"{v.params / 1e6:.1f} M",
            f"{v.gflops:.1f}",
            " / ".join(f"{a.ap:.1f}{_star(a)}" for a in v.accuracy if a.split == "val2017") or "-",
            " / ".join(f"{a.ap:.1f}" for a in v.accuracy if a.split == "test-dev2017") or "-",
        )
    console = output.console()
    if not console.is_terminal:
        console.width = 200  # a pipe has no width at which to cut lines
    console.print(table)
    console.print(
        "\nAP as published by the authors on COCO, each family by its own protocol; * trained by distillation.\n"
        "Params and GFLOPs of the deploy form at that size. `swiftdet models NAME` gives sources and notes.\n"
    )
    for v in demos:
        console.print(
            f"{v.name:<16} {v.imgsz[0]} px, {v.params / 1e6:.1f} M, {v.gflops:.1f} GFLOPs; weights included, finds "
            f"drawn objects (AP {v.accuracy[0].ap:.1f} on its own validation set)"
        )
    console.print()
    for suffix, words in READABLE.items():
        console.print(f"reads {suffix:<6} {words}")


def _star(ap: zoo.PublishedAP) -> str:
    return "*" if ap.distilled else ""


def _show_variant(variant: zoo.VariantInfo, *, as_json: bool) -> None:
    if as_json:
        output.print_json({**dataclasses.asdict(variant), "counting": zoo.COUNTING})
        return
    published = " and ".join(
        text
        for text in (
            f"{variant.published_params_m:g} M" if variant.published_params_m is not None else "",
            f"{variant.published_gflops:g} GFLOPs" if variant.published_gflops is not None else "",
        )
        if text
    )
    rows: list[tuple[str, str]] = [
        ("variant", f"{variant.name}  ({variant.title})"),
        *([("also", ", ".join(variant.aliases))] if variant.aliases else []),
        ("family", variant.family),
        ("size", f"{variant.imgsz[0]}x{variant.imgsz[1]} px"),
        ("params", f"{variant.params:,}"),
        ("GFLOPs", f"{variant.gflops:g}"),
        *([("published", published)] if published else []),
        *([("note", variant.note)] if variant.note else []),
    ]
    for ap in variant.accuracy:
        more = "".join(f", {name} {value:g}" for name, value in (("AP50", ap.ap50), ("AP75", ap.ap75)) if value)
        rows += [
            ("", ""),
            (ap.split, f"AP {ap.ap:g}{more}"),
            ("protocol", ap.protocol),
            ("source", ap.source),
        ]
        rows += [("note", ap.note)] if ap.note else []
    _print_pairs(rows)


def _show_file(path: Path, *, as_json: bool) -> None:
    if not path.exists():
        near = ", ".join(READABLE)
        raise ModelError(f"{path}: no such file; expected a model file ({near}) or one of `swiftdet models`")
    description = describe_file(path)
    if as_json:
        output.print_json(description)
        return
    # One level less for people: the description repeats what matters most of its spec.
    rows = _flat({"file": str(path), **description, **description.get("spec", {})})
    _print_pairs([(key, text) for key, text in rows if text and not key.startswith(("path", "spec."))])


def _flat(description: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested values as (dotted key, text); long lists are cut, the JSON form has all."""
    rows: list[tuple[str, str]] = []
    for key, value in description.items():
        if isinstance(value, dict) and value:
            rows += _flat(value, f"{prefix}{key}.")
        elif isinstance(value, list | tuple):
            shown = ", ".join(str(item) for item in value[:12])
            rows.append((prefix + key, shown + (f", ... ({len(value)} in all)" if len(value) > 12 else "")))
        else:
            rows.append((prefix + key, str(value)))
    return rows


def _print_pairs(rows: list[tuple[str, str]]) -> None:
    console = output.console()
    rows = [(output.one_line(key), output.one_line(value)) for key, value in rows]
    if not console.is_terminal:
        width = max(len(key) for key, _ in rows)
        typer.echo("\n".join(f"{key:<{width}}  {value}".rstrip() for key, value in rows))
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for key, value in rows:
        table.add_row(key, Text(value))
    console.print(table)
