"""`swiftdet compare`: results side by side, on one page that can be checked and repeated."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from swiftdet import comparison
from swiftdet.cli import output
from swiftdet.comparison import tables
from swiftdet.comparison.notes import Notes
from swiftdet.comparison.rows import Source, pair

FORMAT, CHECK_FORMAT = "swiftdet.comparison-files/1", "swiftdet.comparison-check/1"
"""Name the JSON documents of --json, and their versions."""

DEFAULT_FOLDER = Path("swiftdet-comparison")
_MINUTE = 60.0


def compare(
    results: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RESULT.json...",
            help="Documents of val, benchmark and verify; with --run: models, by default the demos and the zoo.",
        ),
    ] = None,
    *,
    output_folder: Annotated[
        Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where the page and all it is made of go.")
    ] = DEFAULT_FOLDER,
    title: Annotated[str | None, typer.Option(help="Of the page.")] = None,
    check: Annotated[
        Path | None, typer.Option("--check", metavar="FOLDER", help="Hash everything in a comparison's folder again.")
    ] = None,
    run: Annotated[bool, typer.Option("--run", help="Measure the models first: val and benchmark.")] = False,
    images: Annotated[
        Path | None, typer.Option(metavar="DIR", help="With --run: images to score on and to time with.")
    ] = None,
    annotations: Annotated[
        Path | None, typer.Option(metavar="FILE", help="With --run: their annotations in COCO's format.")
    ] = None,
    device: Annotated[str, typer.Option(help="With --run: auto, cpu, cuda or cuda:N.")] = "auto",
    protocol: Annotated[
        str | None, typer.Option(help="With --run: of accuracy; default: the one that fits the pipeline that is timed.")
    ] = None,
    duration: Annotated[float, typer.Option(metavar="S", help="With --run: most seconds of calls for a model.")] = 10.0,
    budget: Annotated[
        float | None,
        typer.Option(metavar="MIN", help="With --run: minutes for all; default: 12 without a list of models."),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="With --run: measure anew what an earlier run left in the folder.")
    ] = False,
    as_json: output.JsonFlag = False,
    debug: output.DebugFlag = False,
) -> None:
    """Compare detectors: accuracy and latency side by side, on a page with everything needed to repeat it.

    Published figures stand beside what was measured, marked as such; unlike things never share a column.
    """
    with output.reported_errors(debug=debug):
        if check is not None:
            if results or run:
                raise typer.BadParameter("takes a folder and nothing else", param_hint="'--check'")
            _check(check, as_json=as_json)
            return
        if not run and not results:
            raise typer.BadParameter("expected result files, or --run", param_hint="'RESULT.json...'")
        outcome = comparison.Outcome()
        if run:
            options = comparison.Options(
                models=results or (),
                images=images,
                annotations=annotations,
                device=device,
                protocol=protocol,
                duration_s=duration,
                budget_s=None if budget is None else budget * _MINUTE,
                fresh=fresh,
            )
            outcome = _measured(output_folder, options)
            if not outcome.sources:
                output.print_error("nothing could be measured")
                raise typer.Exit(output.ExitCode.FAILED)
        else:
            outcome.sources = comparison.read_sources([Path(path) for path in results or ()])
        written = comparison.write(
            output_folder, outcome.sources, title=title, skipped=[*outcome.skipped, *outcome.failed]
        )
        if as_json:
            output.print_json(_document(written, outcome))
        else:
            _print(outcome.sources, written[0])
        if outcome.failed:
            for line in outcome.failed:
                output.print_error(line)
            raise typer.Exit(output.ExitCode.FAILED)


def _measured(folder: Path, options: comparison.Options) -> comparison.Outcome:
    try:
        return comparison.measure(folder, options, on_progress=output.print_progress)
    except KeyboardInterrupt:
        output.print_note(
            f"interrupted; what was measured is kept in {folder}, and the same command goes on from there"
        )
        raise


def _check(folder: Path, *, as_json: bool) -> None:
    report = comparison.check(folder)
    if as_json:
        output.print_json({"format": CHECK_FORMAT, **dataclasses.asdict(report)})
    elif not report.faults:
        typer.echo(f"{output.one_line(folder)}: {report.files} files are as they were when the page was made")
    for note in report.notes:
        output.print_note(note)
    for fault in report.faults:
        output.print_error(fault)
    if report.faults:
        raise typer.Exit(output.ExitCode.FAILED)


def _document(written: list[Path], outcome: comparison.Outcome) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "page": str(written[0]),
        "files": [str(path) for path in written],
        "skipped": outcome.skipped,
        "failed": outcome.failed,
    }


def _print(sources: list[Source], page: Path) -> None:
    """The measured tables in short, and where the page is."""
    console = output.console()
    if not console.is_terminal:
        console.width = 200
    rows = pair(sources)
    footnotes = Notes()
    for table in (tables.measured_accuracy(rows, footnotes), tables.measured_speed(rows, footnotes)):
        if table is not None:
            console.print(_drawn(table))
    for number, text in footnotes.texts:
        console.print(Text(output.one_line(f"{number}. {text}"), style="dim"), soft_wrap=True)
    console.print(Text(output.one_line(f"the page: {page}")), soft_wrap=True)


def _drawn(table: tables.Table) -> Table:
    drawn = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        show_edge=False,
        title=Text(output.one_line(f"{table.title}: {', '.join(table.shared)}")),
        title_justify="left",
    )
    drawn.add_column("size")
    drawn.add_column("model")
    drawn.add_column("px", justify="right")
    for head in table.heads:
        for i, part in enumerate(head.parts):
            above = f"{output.one_line(', '.join(head.lines))}\n" if head.lines and i == 0 else ""
            drawn.add_column(Text(f"{above}{part}"), justify="right", overflow="fold", max_width=24)
    for line in table.lines:
        name = f"{line.title} {line.detail}".strip()
        cells = [_cell(cell.text, cell.notes) for cell in line.cells]
        drawn.add_row(line.size, _cell(output.one_line(name), line.notes), line.pixels, *cells)
    return drawn


def _cell(text: str, notes: tuple[int, ...]) -> Text:
    shown = Text(text)
    if notes:
        shown.append(f" [{','.join(str(number) for number in notes)}]", style="dim")
    return shown
