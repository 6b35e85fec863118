"""Progress bars: of verbs that work through many images, and of the building of an engine."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from swiftdet.cli import output


class ProgressLine:
    """A progress bar that steps aside while something else is printed; nothing where stderr is no terminal."""

    def __init__(self, progress: Progress | None, total: int | None) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=total) if progress else None
        self._total = total or 0

    def expect(self, count: int | None) -> None:
        """So many more items than were known of; None: nobody knows how many."""
        self._total += count or 0
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, total=None if count is None else self._total)

    def advance(self, count: int = 1) -> None:
        """So many more items are done."""
        if self._progress is not None and self._task is not None:
            self._progress.advance(self._task, count)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Takes the bar away while the body prints."""
        if self._progress is not None:
            self._progress.stop()
        yield
        sys.stdout.flush()
        if self._progress is not None:
            self._progress.start()


@contextlib.contextmanager
def progress(total: int, what: str = "detecting", *, more: bool = False) -> Iterator[ProgressLine]:
    """A bar on stderr for `total` items; silent for a single one and where stderr is no terminal.

    Args:
        total: items that are known of.
        what: is done with them.
        more: others will be expected later, such as the frames of a video.
    """
    console = output.console(stderr=True)
    if (total < 2 and not more) or not console.is_terminal:
        yield ProgressLine(None, total)
        return
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        yield ProgressLine(bar, total)


class BuildBars:
    """A bar for each phase that TensorRT's builder is in; follows `swiftdet.engines.tensorrt.progress.BuildProgress`.

    The builder calls from threads of its own.
    """

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._lock = threading.Lock()
        self._tasks: dict[str, TaskID] = {}
        self._depths: dict[str, int] = {}

    def start(self, phase: str, parent: str | None, steps: int) -> None:
        """Adds a bar, indented under its parent's."""
        with self._lock:
            depth = self._depths.get(parent, -1) + 1 if parent else 0
            self._depths[phase] = depth
            if self._progress is not None:
                self._tasks[phase] = self._progress.add_task("  " * depth + output.one_line(phase), total=steps)

    def step(self, phase: str, done: int) -> bool:
        """Moves a bar; True, as nothing here stops a build."""
        with self._lock:
            if self._progress is not None and phase in self._tasks:
                self._progress.update(self._tasks[phase], completed=done)
        return True

    def finish(self, phase: str) -> None:
        """Takes a bar away."""
        with self._lock:
            task = self._tasks.pop(phase, None)
            if self._progress is not None and task is not None:
                self._progress.remove_task(task)


@contextlib.contextmanager
def build_progress() -> Iterator[BuildBars]:
    """Bars on stderr while an engine is built; silent where stderr is no terminal."""
    console = output.console(stderr=True)
    if not console.is_terminal:
        yield BuildBars(None)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        yield BuildBars(bars)
