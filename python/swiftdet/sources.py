"""Expands what a user calls "the input" - files, folders, patterns, lists, arrays - into single images."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from swiftdet.errors import ImageError
from swiftdet.image_files import FORMATS, SUFFIXES, reason

_VIDEO_SUFFIXES = frozenset(
    (".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv")
)
_WILDCARDS = frozenset("*?[")


def expand(source: Any) -> list[Any]:
    """The single images of a source, in a stable order; files are named, not opened.

    A folder gives the image files directly in it, sorted by name, hidden files left out. A string with `*`, `?` or
    `[` is a pattern (`**` descends into folders) unless a file of that very name exists; it gives the image files
    that match, sorted. A list or tuple is expanded item by item. Everything else - an array, a PIL image, encoded
    bytes - is one image. Paths come back as `Path`. Neither the tree nor the source is changed; safe from several
    threads.

    Raises:
        ImageError: nothing there or nothing that matches; a video, camera or address, which this version does
            not read.
    """
    return list(_walk(source))


def _walk(source: Any) -> Iterator[Any]:
    if isinstance(source, list | tuple):
        for item in source:
            yield from _walk(item)
    elif isinstance(source, str | os.PathLike):
        name = os.fsdecode(source)
        try:
            yield from _paths(name)
        except OSError as e:  # a name too long, a folder that may not be read
            raise ImageError(f"{name}: cannot be read: {reason(e)}") from e
    else:
        yield source


def _paths(name: str) -> list[Path]:
    if not name:  # which as a path would mean the working folder
        raise ImageError("source: expected a file, a folder or a pattern, got an empty name")
    _refuse_unreadable(name)
    path = Path(name)
    if path.is_dir():
        found = _images(path.iterdir())
        if not found:
            raise ImageError(f"{name}: no images in this folder (looked for {', '.join(sorted(SUFFIXES))})")
        return found
    if path.exists():
        return [path]
    if _WILDCARDS.isdisjoint(name):
        raise ImageError(f"{name}: no such file or folder")
    found = _images(Path(match) for match in glob.iglob(name, recursive=True))  # noqa: PTH207 - takes absolute patterns
    if not found:
        raise ImageError(f"{name}: no images match this pattern (looked for {', '.join(sorted(SUFFIXES))})")
    return found


def _images(paths: Iterator[Path]) -> list[Path]:
    return sorted(p for p in paths if p.suffix.lower() in SUFFIXES and not p.name.startswith(".") and p.is_file())


def _refuse_unreadable(name: str) -> None:
    """Names what this version reads, where the source is something that other detectors' users expect to work."""
    reads = f"this version reads image files ({FORMATS}), folders and patterns of them"
    if Path(name).suffix.lower() in _VIDEO_SUFFIXES and not Path(name).is_dir():
        raise ImageError(f"{name}: videos are not read; {reads}. Split it first, e.g. ffmpeg -i {name} frame%06d.png")
    if "://" in name:
        raise ImageError(f"{name}: addresses and streams are not read; {reads}")
    if name.isdecimal() and not Path(name).exists():
        raise ImageError(f"{name}: cameras are not read; {reads}")
