"""An evaluation's results while it runs: one line per image, appended, so that an interrupted one can go on."""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from typing import Any

from typing_extensions import Self

from swiftdet.errors import InvalidArgument
from swiftdet.evaluation.predictions import ImagePredictions, table

FORMAT = "swiftdet.evaluation-unfinished/1"
NAME = "unfinished.jsonl"


class PartialFile:
    """The file `unfinished.jsonl` in a folder that is made if missing. For one process and one thread.

    Its first line says what it belongs to; each further one holds the predictions of one image. A line that was cut
    short, as by a crash, ends what is read, and is written over.

    Attributes:
        found: predictions that an earlier run left, by image id.
    """

    def __init__(
        self,
        folder: Path,
        settings: dict[str, Any],
        *,
        image_ids: Collection[int],
        categories: Collection[int],
        restart: bool,
    ) -> None:
        """Opens the file, or makes it.

        Args:
            folder: of the file.
            settings: everything that the predictions depend on, of JSON's types.
            image_ids: of the data set.
            categories: that are predicted.
            restart: drop what an earlier run left.

        Raises:
            InvalidArgument: the file belongs to other settings, or another process is writing it.
            OSError: it cannot be read or written.
        """
        self.found: dict[int, ImagePredictions] = {}
        self.path = folder / NAME
        folder.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("a+b")
        try:
            self._lock()
            self._begin(settings, set(image_ids), set(categories), restart=restart)
        except BaseException:
            self._file.close()
            raise

    def add(self, image_id: int, one: ImagePredictions) -> None:
        """Appends the predictions of an image; they outlive the process from then on."""
        self._append({"image_id": image_id, "truncated": one.truncated, "rows": one.table.tolist()})

    def remove(self) -> None:
        """Deletes the file: the evaluation is complete."""
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def _append(self, line: dict[str, Any]) -> None:
        self._file.write(json.dumps(line).encode("ascii") + b"\n")
        self._file.flush()

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            raise InvalidArgument(f"{self.path}: another evaluation writes to this folder; name another") from e

    def _begin(self, settings: dict[str, Any], image_ids: set[int], categories: set[int], *, restart: bool) -> None:
        if restart:
            self._file.truncate(0)
        self._file.seek(0)
        first = self._file.readline()
        if not first:
            self._append({"format": FORMAT, "sha256": _digest(settings), "settings": settings})
            return
        head = _parsed(first)
        if head is None or head.get("format") != FORMAT:
            raise InvalidArgument(f"{self.path}: is no unfinished evaluation of this version; delete it, or restart")
        if head.get("sha256") != _digest(settings):
            raise InvalidArgument(
                f"{self.path}: holds an unfinished evaluation of something else ({_difference(head, settings)}); "
                "finish that one, name another folder, or restart, which drops it"
            )
        end = self._file.tell()
        for content in self._file:
            line = _parsed(content)
            one = None if line is None else _read(line, image_ids - self.found.keys(), categories)
            if line is None or one is None:
                break
            self.found[line["image_id"]] = one
            end += len(content)
        self._file.truncate(end)


def _digest(settings: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode("ascii")).hexdigest()


def _difference(head: dict[str, Any], settings: dict[str, Any]) -> str:
    """Which of the settings are not the same, in words."""
    theirs = head.get("settings")
    ours = json.loads(json.dumps(settings))
    if not isinstance(theirs, dict):
        return "it does not say of what"
    differing = [key for key in sorted({*theirs, *ours}) if theirs.get(key) != ours.get(key)]
    return f"other {', '.join(differing)}"


def _parsed(content: bytes) -> dict[str, Any] | None:
    """A whole line's object; None for anything else."""
    if not content.endswith(b"\n"):
        return None
    try:
        line = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return line if isinstance(line, dict) else None


def _read(line: dict[str, Any], image_ids: set[int], categories: set[int]) -> ImagePredictions | None:
    """The predictions in a line, if they are such as `add` writes of an image that is still open."""
    image_id, truncated, rows = (line.get(key) for key in ("image_id", "truncated", "rows"))
    if type(image_id) is not int or image_id not in image_ids or type(truncated) is not int:
        return None
    if not isinstance(rows, list) or not all(_is_row(row, categories) for row in rows):
        return None
    return ImagePredictions(table(rows), truncated)


def _is_row(row: object, categories: set[int]) -> bool:
    return (
        isinstance(row, list)
        and len(row) == 6
        and all(type(value) is float and math.isfinite(value) for value in row)
        and row[0] in categories
    )
