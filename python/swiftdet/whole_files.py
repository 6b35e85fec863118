"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path

_NOT_OURS = (Path("/dev"), Path("/proc"))


def write_whole(path: Path, data: bytes) -> None:
    """Writes a file; one that was there stays until the new one is complete and on disk.

    The new file has the permissions that any new one gets, and takes the name of a link, not of what it leads to. A
    device or a pipe, and what goes by a name in /dev or /proc, such as /dev/stdout, is written to: no file takes its
    name.

    Raises:
        OSError: names `path`; the folder is missing or full, or may not be written, or it is a folder itself.
    """
    try:
        if _is_a_place(path):
            _write_into(path, data)
        else:
            _write_beside(path, data)
    except OSError as e:
        raise OSError(e.errno, e.strerror, os.fspath(path)) from e  # not the name that only this module knows


def _is_a_place(path: Path) -> bool:
    return (path.exists() and not path.is_file()) or any(path.absolute().is_relative_to(root) for root in _NOT_OURS)


def _write_into(path: Path, data: bytes) -> None:
    with os.fdopen(_opened(path), "wb") as place:
        place.write(data)


def _opened(path: Path) -> int:
    """A descriptor to write to what is there, neither made nor cut short."""
    ours = re.fullmatch(r"/dev/std(out|err)|/(?:dev|proc/self)/fd/(\d{1,9})", str(path))
    if ours is None:
        return os.open(path, os.O_WRONLY | os.O_APPEND)
    # The one that is open: opened anew, a file behind it would be written from its begin, over what others write.
    return os.dup(int(ours[2]) if ours[2] else {"out": 1, "err": 2}[ours[1]])


def _write_beside(path: Path, data: bytes) -> None:
    # A name that is short, as that of `path` may be as long as names can be.
    unfinished = path.with_name(f".{secrets.token_hex(8)}")
    # Not tempfile: its files are private, while this one is to have the permissions that any new file gets.
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
