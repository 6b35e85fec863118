"""A benchmark as a person reads it: how it was made, then one table a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from swiftdet.benchmarking import STAGES, notes
from swiftdet.benchmarking.statistics import FEWEST
from swiftdet.cli import output

_COLUMNS = ("mean", *FEWEST, "max")  # what fits in 80 columns; the document has more
_PIPE_WIDTH = 500  # no line is wrapped
_MEBIBYTE = 1 << 20


def print_document(document: dict[str, Any], file: Path | None) -> None:
    """The document on stdout; `file` is where it was written."""
    console = output.console()
    if not console.is_terminal:
        console.width = _PIPE_WIDTH
    _print_head(console, document)
    for run in document["measured"]["runs"]:
        _print_run(console, run)
    if file is not None:
        console.print()
        _print(console, f"written to {file}")


def _print_head(console: Console, document: dict[str, Any]) -> None:
    subject, measured, host = document["subject"], document["measured"], document["provenance"]["host"]
    height, width = subject["imgsz"]
    made_up = ", made-up weights" if subject["synthetic"] else ""
    where = (host["gpu"] or {}).get("name") or host["cpu"] or "unknown processor"
    processors = f"{host['usable_processors']} of {host['logical_processors']} processors"
    virtual = ", virtual machine" if host["virtualised"] else ""
    _print(console, f"{subject['model']} {height}x{width} {subject['precision']}{made_up}", style="bold")
    rows = Table.grid(padding=(0, 2))
    for key, value in (
        ("on", f"{subject['device']}: {where}, {processors}{virtual}; {subject['engine']}"),
        ("input", f"{_input(measured['input'])}; conf {measured['options']['conf']:g}"),
        ("start", _start(measured["cold_start"])),
    ):
        rows.add_row(key, Text(output.one_line(value)))
    console.print(rows)


def _start(start: dict[str, Any]) -> str:
    parts = [f"construction {start['load_ms']:.0f} ms", f"first call {start['first_call_ms']:.1f} ms"]
    if start["process"] == "this":
        return f"in this process: {', '.join(parts)}"
    resident = f"then {start['rss_bytes'] / _MEBIBYTE:.0f} MiB resident"
    return f"in a new process: import {start['import_ms']:.0f} ms, {', '.join(parts)}, {resident}"


def _input(given: dict[str, Any]) -> str:
    count = given["images"]
    what = f"{count} {'picture' if given['kind'] == 'files' else 'array'}{'s' if count != 1 else ''}"
    sides = [f"{width}x{height}" for height, width in given["sizes"]]
    sizes = sides[0] if len(sides) == 1 else f"{len(sides)} sizes such as {sides[0]}"
    encoded = ", decoded by every call" if given["kind"] == "files" else ""
    left_out = f" ({given['left_out']} more were left out)" if given["left_out"] else ""
    return f"{what} of {given['source']}{left_out}, {sizes}{encoded}"


def _print_run(console: Console, run: dict[str, Any]) -> None:
    pace = "closed loop" if run["loop"] == "closed" else f"paced loop, {run['rate_hz']:g} calls/s"
    threads = f"{run['threads']} thread{'s' if run['threads'] != 1 else ''}"
    console.print()
    _print(console, f"{pace}, {threads}, batch {run['batch']}", style="bold")
    _print(
        console,
        f"{run['throughput_images_per_s']:.1f} images/s, {run['calls']} calls in {run['duration_s']:.1f} s, "
        f"{run['objects'] / run['images']:.1f} boxes an image, {run['memory']['rss_bytes'] / _MEBIBYTE:.0f} MiB",
    )
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("ms a call", no_wrap=True)
    for name in _COLUMNS:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("share", justify="right", no_wrap=True)
    rows = {"late": run["late"], **{name: run["stages"].get(name) for name in STAGES}}
    mean = run["total"]["mean"]
    for name, stats in rows.items():
        if stats is None:
            continue
        table.add_row(name, *(_milliseconds(stats[column]) for column in _COLUMNS), f"{stats['mean'] / mean:.0%}")
    table.add_section()
    table.add_row("total", *(_milliseconds(run["total"][column]) for column in _COLUMNS), "", style="bold")
    console.print(table)
    for warning in run["interference"]["warnings"]:
        _print(console, f"! {warning}", style="yellow")
    for note in notes.of_run(run):
        _print(console, f"- {note}", style="dim")


def _milliseconds(value: float | None) -> str:
    """With the same digits everywhere, so that an eye can compare down a column."""
    return "-" if value is None else f"{value:.3f}"


def _print(console: Console, text: str, *, style: str = "") -> None:
    console.print(Text(output.one_line(text), style=style))
