"""`swiftdet cache`: the TensorRT engines that are kept on this machine."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from swiftdet.cli import output
from swiftdet.engines.tensorrt.cache import EngineCache, Entry, default_folder

FORMAT = "swiftdet.cache/1"
"""Names the JSON document and its version."""

_SHOWN_DIGITS = 12
_LINE = 400

DirOption = Annotated[
    Path | None,
    typer.Option("--cache-dir", metavar="DIR", help="Default: SWIFTDET_CACHE_DIR, else the user's cache folder."),
]

cache = typer.Typer(help="The TensorRT engines that are kept on this machine.")


def _open(folder: Path | None) -> EngineCache:
    chosen = folder or os.environ.get("SWIFTDET_CACHE_DIR")
    return EngineCache(Path(chosen) if chosen else default_folder())


@cache.command("ls")
def ls(*, cache_dir: DirOption = None, as_json: output.JsonFlag = False, debug: output.DebugFlag = False) -> None:
    """List the engines."""
    with output.reported_errors(debug=debug):
        found = _open(cache_dir)
        _show(found, found.entries(), as_json=as_json)


@cache.command("verify")
def verify(*, cache_dir: DirOption = None, as_json: output.JsonFlag = False, debug: output.DebugFlag = False) -> None:
    """Read every engine and compare it with its manifest. Exits 1 when one is damaged."""
    with output.reported_errors(debug=debug):
        found = _open(cache_dir)
        entries = found.verify()
        _show(found, entries, as_json=as_json)
        if any(entry.problem for entry in entries):
            raise typer.Exit(output.ExitCode.FAILED)


@cache.command("rm")
def rm(
    engines: Annotated[
        list[str] | None, typer.Argument(metavar="ENGINE", help="First digits of an engine, as `ls` shows them.")
    ] = None,
    *,
    everything: Annotated[bool, typer.Option("--all", help="Remove every engine.")] = False,
    damaged: Annotated[bool, typer.Option("--damaged", help="Remove those that `verify` complains of.")] = False,
    cache_dir: DirOption = None,
    as_json: output.JsonFlag = False,
    debug: output.DebugFlag = False,
) -> None:
    """Remove engines. Detectors that have loaded one keep running."""
    with output.reported_errors(debug=debug):
        if not (engines or everything or damaged):
            raise typer.BadParameter("name engines, or pass --all or --damaged")
        found = _open(cache_dir)
        chosen = {entry.digest: entry for entry in map(found.find, engines or ())}
        if everything:
            chosen |= {entry.digest: entry for entry in found.entries()}
        elif damaged:
            chosen |= {entry.digest: entry for entry in found.verify() if entry.problem}
        freed = sum(found.remove(entry) for entry in chosen.values())
        if as_json:
            document = {"format": FORMAT, "folder": str(found.folder), "removed": sorted(chosen), "freed_bytes": freed}
            output.print_json(document)
        else:
            plural = "" if len(chosen) == 1 else "s"
            typer.echo(f"removed {len(chosen)} engine{plural}, {freed / 1e6:.1f} MB")


def _show(found: EngineCache, entries: list[Entry], *, as_json: bool) -> None:
    if as_json:
        output.print_json({"format": FORMAT, "folder": str(found.folder), "engines": [_row(e) for e in entries]})
        return
    total = sum(entry.plan_bytes for entry in entries)
    summary = f"{len(entries)} engine{'' if len(entries) == 1 else 's'}, {total / 1e6:.1f} MB in {found.folder}"
    console = output.console()
    if entries:
        columns = ("engine", "model", "precision", "input", "batch", "GPU", "TensorRT", "MB", "created", "state")
        table = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for entry in entries:
            table.add_row(*(Text(cell) for cell in _cells(entry)))
        if not console.is_terminal:
            console.width = _LINE  # a row is one line, however long
        console.print(table)
    typer.echo(summary)


def _cells(entry: Entry) -> list[str]:
    state = output.one_line(entry.problem) or "ok"
    if entry.manifest is None:
        return [entry.digest[:_SHOWN_DIGITS], *[""] * 6, f"{entry.plan_bytes / 1e6:.1f}", "", state]
    made = entry.manifest
    least, _, most = (shape[0] for shape in made.shapes)
    height, width = made.shapes[0][2:]
    return [
        entry.digest[:_SHOWN_DIGITS],
        Path(made.model).name,
        made.precision,
        f"{height}x{width}",
        f"{least}" if least == most else f"{least}-{most}",
        f"{made.gpu} {made.sm}",
        made.tensorrt,
        f"{entry.plan_bytes / 1e6:.1f}",
        made.created[:10],
        state,
    ]


def _row(entry: Entry) -> dict[str, Any]:
    return {
        "digest": entry.digest,
        "path": str(entry.path),
        "plan_bytes": entry.plan_bytes,
        "problem": entry.problem or None,
        "manifest": None if entry.manifest is None else json.loads(entry.manifest.to_json()),
    }
