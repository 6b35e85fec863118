"""The progress bar of verbs that work through many images."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from swiftdet.cli import output


class ProgressLine:
    """A progress bar that steps aside while something else is printed; nothing where stderr is no terminal."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=total) if progress else None

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
def progress(total: int) -> Iterator[ProgressLine]:
    """A bar on stderr for `total` items; silent for a single one and where stderr is no terminal."""
    console = output.console(stderr=True)
    if total < 2 or not console.is_terminal:
        yield ProgressLine(None, total)
        return
    columns = (TextColumn("detecting"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        yield ProgressLine(bar, total)
