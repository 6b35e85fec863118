"""One invocation of `swiftdet predict`: its images and videos, what was found, what failed, how it is shown."""

from __future__ import annotations

import contextlib
import logging
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from swiftdet import sources, video_writer
from swiftdet.cli import output
from swiftdet.cli.json_document import JsonDocument
from swiftdet.cli.progress import ProgressLine, progress
from swiftdet.errors import SwiftdetError
from swiftdet.results import Detections
from swiftdet.sources import Video


@dataclass
class Run:
    """What one invocation has done so far."""

    as_json: bool
    save_dir: Path | None
    save_txt: bool
    debug: bool = False
    errors: list[dict[str, str]] = field(default_factory=list)
    videos: list[dict[str, Any]] = field(default_factory=list)
    images: int = 0
    objects: int = 0
    milliseconds: dict[str, float] = field(default_factory=dict)
    _stems: set[str] = field(default_factory=set)

    def expand(self, arguments: list[str]) -> list[Path | Video]:
        """The images and videos of all arguments; what is not there becomes an error of its own."""
        return [item for argument in arguments for item in self._expand_one(argument)]

    def _expand_one(self, argument: str) -> list[Path | Video]:
        try:
            return sources.expand(argument)
        except SwiftdetError as e:
            self._fail(sources.without_password(argument), e)
            return []

    def detect_all(
        self, detector: Any, items: list[Path | Video], per_call: dict[str, Any], document: JsonDocument
    ) -> None:
        """Detects in each image and video; a bad one is reported and does not stop the others."""
        stills = sum(isinstance(item, Path) for item in items)
        with progress(stills, more=stills < len(items)) as bar, _reported_skips(bar) as report:
            for item in items:
                name = item.name if isinstance(item, Video) else str(item)
                try:
                    if isinstance(item, Video):
                        self._detect_video(detector, item, per_call, document, bar, report)
                    else:
                        self._detect_still(detector, item, per_call, document, bar)
                except SwiftdetError as e:
                    with bar.paused():
                        self._fail(name, e)
                if isinstance(item, Path):
                    bar.advance()

    def _detect_still(
        self, detector: Any, path: Path, per_call: dict[str, Any], document: JsonDocument, bar: ProgressLine
    ) -> None:
        result: Detections = detector(path, **per_call)
        document.add(self._row(result) | self._save(result, path))
        self._count(result)
        if not self.as_json:
            with bar.paused():
                _print_result(str(path), result)

    def _detect_video(
        self,
        detector: Any,
        video: Video,
        per_call: dict[str, Any],
        document: JsonDocument,
        bar: ProgressLine,
        report: Any,
    ) -> None:
        saving = _VideoSaving(self, video)
        frames = objects = 0
        stream = detector.predict(video, stream=True, **per_call)
        try:
            with saving, stream:
                for result in stream:
                    if frames == 0:
                        bar.expect(result.video.frames)
                    document.add(self._row(result) | saving.add(result))
                    frames, objects = frames + 1, objects + len(result)
                    self._count(result)
                    report()
                    if not self.as_json and not output.console().is_terminal:
                        place = f"{video.name} frame {result.frame_index} ({result.time_s:.3f} s)"
                        _print_result(place, result)
                    bar.advance()
        finally:
            report()
            if frames:
                counts = {"frames": frames, "skipped": stream.skipped, "dropped": stream.dropped}
                self.videos.append({"path": video.name, **counts, **saving.saved()})
                if not self.as_json and output.console().is_terminal:
                    with bar.paused():
                        typer.echo(output.one_line(f"{video.name}: {frames} frames, {objects} objects"))

    def summary(self) -> dict[str, Any]:
        """What the JSON document says behind its rows: videos, failures."""
        return {**({"videos": self.videos} if self.videos else {}), "errors": self.errors}

    def print_totals(self, *, stages: bool) -> None:
        """What a person wants to know in the end, in one line; and on request what each stage took."""
        count = self.images
        if count == 0:
            return
        text = f"{count} image{'s' if count != 1 else ''}, {self.objects} object{'s' if self.objects != 1 else ''}"
        text += f", {sum(self.milliseconds.values()) / count:.1f} ms per image"
        skipped = sum(video["skipped"] for video in self.videos)
        text += f"; {skipped} damaged frame{'s' if skipped != 1 else ''} left out" if skipped else ""
        if self.save_dir is not None:
            text += f"; saved to {self.save_dir}"
        typer.echo(text)
        if stages:
            means = (f"{stage} {time / count:.3f}" for stage, time in self.milliseconds.items())
            typer.echo(f"ms per image: {', '.join(means)}")

    def _fail(self, path: str, error: SwiftdetError) -> None:
        self.errors.append({"path": path, "error": output.one_line(error)})
        output.show_error(error, str(error), debug=self.debug)

    def _count(self, result: Detections) -> None:
        self.images += 1
        self.objects += len(result)
        for stage, time in result.speed.items():
            self.milliseconds[stage] = self.milliseconds.get(stage, 0.0) + time

    def _row(self, result: Detections) -> dict[str, Any]:
        height, width = result.orig_shape
        place = {} if result.time_s is None else {"frame": result.frame_index, "time_s": round(result.time_s, 6)}
        return {
            "path": result.path,
            **place,
            "width": width,
            "height": height,
            # A frame's place stands once in its row.
            "detections": [{k: v for k, v in row.items() if k not in place} for row in result.summary()],
            "truncated": result.truncated,
            "speed_ms": {stage: round(time, 3) for stage, time in result.speed.items()},
            **({"note": result.note} if result.note else {}),
        }

    def _save(self, result: Detections, path: Path) -> dict[str, str]:
        """Writes picture and labels of one image where asked; says where."""
        if self.save_dir is None:
            return {}
        stem = self.free_stem(path.stem)
        suffix = path.suffix.lower() if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp", ".bmp") else ".png"
        saved = {"picture": str(result.save(self.save_dir / f"{stem}{suffix}"))}
        if self.save_txt:
            labels = self.save_dir / "labels"
            labels.mkdir(exist_ok=True)
            saved["labels"] = str(result.save_txt(labels / f"{stem}.txt", save_conf=True))
        return saved

    def free_stem(self, stem: str) -> str:
        """The name, numbered where an image of another folder took it already."""
        free, number = stem, 1
        while free in self._stems:
            number += 1
            free = f"{stem}_{number}"
        self._stems.add(free)
        return free


class _VideoSaving:
    """The annotated copy of a video and the labels of its frames, where asked for."""

    def __init__(self, run: Run, video: Video) -> None:
        self._folder = run.save_dir
        self._labels = run.save_txt
        self._writer: video_writer.VideoWriter | None = None
        if self._folder is None:
            return
        path = Path(video.location)
        if video.kind == "file":
            self._stem = run.free_stem(path.stem)
            self._suffix = path.suffix.lower() if path.suffix.lower() in video_writer.SUFFIXES else ".mp4"
        else:
            last = video.name.partition("?")[0].rpartition("/")[2]
            self._stem = run.free_stem(re.sub(r"[^\w.-]+", "_", last).strip("._") or "stream")
            self._suffix = ".mp4"

    def add(self, result: Detections) -> dict[str, str]:
        """Writes one frame; says where its labels are."""
        if self._folder is None or result.video is None:
            return {}
        if self._writer is None:
            file = self._folder / f"{self._stem}{self._suffix}"
            self._writer = video_writer.VideoWriter(file, size=result.orig_shape, rate=result.video.rate)
        self._writer.write(result.plot(), result.time_s or 0.0)
        if not self._labels:
            return {}
        labels = self._folder / "labels" / self._stem
        labels.mkdir(parents=True, exist_ok=True)
        return {"labels": str(result.save_txt(labels / f"{result.frame_index:06d}.txt", save_conf=True))}

    def saved(self) -> dict[str, str]:
        return {} if self._writer is None else {"video": str(self._writer.path)}

    def __enter__(self) -> None:
        return

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()


@contextlib.contextmanager
def _reported_skips(bar: ProgressLine) -> Iterator[Any]:
    """Turns what `swiftdet.sources` logs into notes on stderr, whenever the function that this gives is called.

    The reader's thread logs; only the main thread prints, since it owns the progress bar.
    """
    waiting: deque[str] = deque()
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: waiting.append(record.getMessage())  # type: ignore[method-assign]

    def report() -> None:
        while waiting:
            with bar.paused():
                output.print_note(waiting.popleft())

    logger = logging.getLogger("swiftdet.sources")
    logger.addHandler(handler)
    try:
        yield report
    finally:
        logger.removeHandler(handler)
        report()


def _print_result(name: str, result: Detections) -> None:
    """The detections of one image: a table on a terminal, plain lines elsewhere."""
    height, width = result.orig_shape
    heading = output.one_line(f"{name} {width}x{height}: {result.verbose()}")
    rows = [
        (row["name"], f"{row['confidence']:.3f}", *(f"{side:.1f}" for side in row["box"].values()))
        for row in result.summary()
    ]
    notes = [result.note] if result.note else []
    if result.truncated:
        plural = "" if result.truncated == 1 else "s"
        notes.append(f"the limits cut off {result.truncated} candidate{plural}")
    console = output.console()
    if not console.is_terminal:
        typer.echo(
            "\n".join([heading, *(f"  note: {note}" for note in notes), *("  " + " ".join(row) for row in rows)])
        )
        return
    console.print(Text(heading, style="bold"), soft_wrap=True)
    for note in notes:
        console.print(Text(f"note: {note}", style="yellow"), soft_wrap=True)
    if rows:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        table.add_column("class")
        for column in ("score", "left", "top", "right", "bottom"):
            table.add_column(column, justify="right", no_wrap=True)
        for label, *numbers in rows:
            table.add_row(Text(label), *numbers)
        console.print(table)
        console.print()
