"""`swiftdet benchmark`: latency, throughput and memory of detectors on this machine."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from swiftdet import benchmarking, measurements
from swiftdet.benchmarking import plan
from swiftdet.cli import benchmark_report, output
from swiftdet.cli.arguments import parse_imgsz, parse_numbers


def benchmark(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...", help="Model files (.onnx, .xml, .pt, .engine), or names: see `swiftdet models`."
        ),
    ],
    *,
    weights: Annotated[
        str | None, typer.Option(help="Checkpoint for a named variant; default: the demos' own, else made-up ones.")
    ] = None,
    family: Annotated[
        str | None, typer.Option(help="yolov7, damo-yolo or ultralytics, if the file leaves it open.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    engine: Annotated[str, typer.Option(help="auto, openvino, tensorrt or onnxruntime.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto (fp32 on the CPU, fp16 on a GPU), fp32, fp16 or bf16.")] = "auto",
    performance: Annotated[
        str, typer.Option(help="How the CPU engine is compiled: latency or throughput.")
    ] = "latency",
    trust_plan: Annotated[
        bool,
        typer.Option("--trust-plan", help="Run a TensorRT engine without swiftdet's manifest: it is machine code."),
    ] = False,
    imgsz: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Network input, 640 or HEIGHTxWIDTH; default: the model's own.")
    ] = None,
    images: Annotated[
        str | None, typer.Option(metavar="DIR|FILE", help="What to detect in; default: the demos' sample of pictures.")
    ] = None,
    batch: Annotated[str, typer.Option(metavar="LIST", help="Images a call; several: 1,4,8.")] = "1",
    threads: Annotated[str, typer.Option(metavar="LIST", help="Threads that call at once; several: 1,2,4.")] = "1",
    rate: Annotated[
        str | None,
        typer.Option(
            metavar="LIST", help="Also call by a timetable, so many times a second; time counts from when due."
        ),
    ] = None,
    duration: Annotated[float, typer.Option(metavar="S", help="Seconds of each run.")] = 10.0,
    warmup: Annotated[float, typer.Option(metavar="S", help="Seconds of calls before each run.")] = 1.0,
    conf: Annotated[float, typer.Option(help="Keep scores above this, 0 to 1.")] = 0.25,
    iou: Annotated[float, typer.Option(help="Suppress boxes that overlap more than this, 0 to 1.")] = 0.7,
    max_det: Annotated[int, typer.Option(help="At most this many boxes an image.")] = 300,
    untimed: Annotated[
        bool, typer.Option("--untimed", help="On a GPU: do not take the stages apart, which costs a few events a call.")
    ] = False,
    cold_start: Annotated[
        str, typer.Option(help="Time the start in a new process, or in this one: new or this.")
    ] = "new",
    samples: Annotated[bool, typer.Option("--samples", help="Keep the times of every call in the document.")] = False,
    output_path: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE|DIR", help="A .json file for one model, or a folder with one each."
        ),
    ] = None,
    as_json: output.JsonFlag = False,
    debug: output.DebugFlag = False,
) -> None:
    """Measure latency by stage, throughput and memory, every call counted; docs/measurements.md tells how.

    Each combination of --threads and --batch is one run, and one more for each --rate.
    """
    with output.reported_errors(debug=debug):
        files = _files(models, output_path)
        for file in files:
            _check_writable(file)
        options: dict[str, Any] = {
            "family": family,
            "device": device,
            "engine": engine,
            "precision": precision,
            "performance": performance,
            "trust_plan": trust_plan,
            "imgsz": None if imgsz is None else parse_imgsz(imgsz),
            "images": images,
            "batch": parse_numbers(batch, int, "'--batch'"),
            "threads": parse_numbers(threads, int, "'--threads'"),
            "rate_hz": None if rate is None else parse_numbers(rate, float, "'--rate'"),
            "duration_s": duration,
            "warmup_s": warmup,
            "conf": conf,
            "iou": iou,
            "max_det": max_det,
            "timed": not untimed,
            "cold_start": cold_start,
            "samples": samples,
        }
        documents = []
        for model, file in zip(models, files, strict=True):
            if plan.implied_weights(model, weights) != weights:
                output.print_note(f"{model}: no weights were given; made-up ones (synthetic) take the same time")
            with _bar(model) as follow:
                document = benchmarking.benchmark(model, weights=weights, on_progress=follow, **options)
            documents.append(document)
            if file is not None:
                measurements.write(document, file)
            if not as_json:
                benchmark_report.print_document(document, file)
        if as_json:
            output.print_json(documents[0] if len(documents) == 1 else documents)


def _files(models: list[str], output_path: Path | None) -> list[Path | None]:
    """Where the document of each model goes."""
    if output_path is None:
        return [None] * len(models)
    if output_path.suffix == ".json":
        if len(models) > 1:
            raise typer.BadParameter(
                f"{output_path} is one file, and there are {len(models)} models; name a folder", param_hint="'-o'"
            )
        return [output_path]
    files: list[Path | None] = []
    for model in models:
        stem = re.sub(r"[^\w.-]+", "_", Path(model).name) or "model"
        names = (output_path / f"{stem}{again}.json" for again in ("", *(f"-{i}" for i in range(2, len(models) + 1))))
        files.append(next(name for name in names if name not in files))
    return files


def _check_writable(file: Path | None) -> None:
    """Makes the folder of a document, which must not turn out to be impossible after an hour."""
    if file is None:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.is_dir() or not os.access(file.parent, os.W_OK):
        raise typer.BadParameter(f"{file} cannot be written", param_hint="'-o'")


@contextmanager
def _bar(model: str) -> Iterator[Callable[[benchmarking.Progress], None] | None]:
    """What follows the progress of a benchmark on stderr; None where that is no terminal."""
    console = output.console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    # Drawn only when told: a thread that draws would be measured too.
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, auto_refresh=False) as bar:
        task = bar.add_task(f"{output.one_line(model)}: starting", total=None)
        bar.refresh()

        def follow(progress: benchmarking.Progress) -> None:
            loop = progress.loop
            pace = "closed loop" if loop.rate_hz is None else f"{loop.rate_hz:g} calls/s"
            words = (
                f"{model}: run {progress.run} of {progress.runs}, {pace}, {loop.threads} threads, batch {loop.batch}"
            )
            bar.update(
                task, description=output.one_line(words), total=progress.total, completed=progress.seconds, refresh=True
            )

        yield follow
