"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path

_OPEN = re.compile(r"/dev/std(out|err)|/(?:dev|proc/self)/fd/(\d{1,9})")


def write_whole(path: Path, data: bytes) -> None:
    """Writes a file; one that was there stays until the new one is complete and on disk.

    The new file has the permissions that any new one gets, and takes the name of a link, not of what it leads to. A
    special file, such as a device or a pipe, and what this process has open, as /dev/stdout, is written to: no file
    takes its name.

    Raises:
        OSError: names `path`; the folder is missing or full, or may not be written, or it is a folder itself.
    """
    opened = _OPEN.fullmatch(str(path))
    try:
        if opened:
            # Opened anew, a file behind it would be written from its begin, over what others write.
            _write_to(os.dup(int(opened[2]) if opened[2] else {"out": 1, "err": 2}[opened[1]]), data)
        elif path.exists() and not path.is_file():
            _write_to(os.open(path, os.O_WRONLY), data)
        else:
            _write_beside(path, data)
    except OSError as e:
        raise OSError(e.errno, e.strerror, os.fspath(path)) from e  # not the name that only this module knows


def _write_to(descriptor: int, data: bytes) -> None:
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)


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
