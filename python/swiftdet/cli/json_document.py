"""A JSON document that is written while its rows come, so that a video of any length needs no memory for them."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

import typer

if TYPE_CHECKING:
    from typing_extensions import Self


class JsonDocument:
    """`{"format": ..., "images": [rows], ...}`, each row on a line of its own as soon as it is there.

    A program that reads the lines of a running process takes every line that, without a leading comma, begins with
    `{"path"`; when the process has ended, the whole is one JSON document. Nothing is written before the first row or
    `complete`.

    Args:
        format_name: names the document and its version.
        files: to be written; their folders are made.
        stdout: write there too.
    """

    def __init__(self, format_name: str, files: Sequence[Path], *, stdout: bool) -> None:
        self._format = format_name
        self._paths = files
        self._stdout = stdout
        self._open: list[TextIO] | None = None
        self._rows = 0

    def add(self, row: Mapping[str, Any]) -> None:
        """Writes a row."""
        self._begin()
        self._rows += 1
        self._write(f"{'    ' if self._rows == 1 else '   ,'}{_text(row)}\n")

    def complete(self, rest: Mapping[str, Any]) -> None:
        """Writes what comes behind the rows: the document is whole then."""
        self._begin()
        self._write(
            "  ],\n" + json.dumps(rest, indent=2, ensure_ascii=False, allow_nan=False).removeprefix("{\n") + "\n"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._open or []:
            file.close()

    def _begin(self) -> None:
        if self._open is not None:
            return
        self._open = []
        for path in self._paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._open.append(path.open("w", encoding="utf-8"))
        self._write(f'{{\n  "format": {_text(self._format)},\n  "images": [\n')

    def _write(self, text: str) -> None:
        text = text.encode("utf-8", "backslashreplace").decode("utf-8")  # names that are no text, as JSON's own escapes
        for file in self._open or []:
            file.write(text)
        if self._stdout:
            typer.echo(text, nl=False)
            sys.stdout.flush()


def _text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
