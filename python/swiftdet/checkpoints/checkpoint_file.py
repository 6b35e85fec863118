"""Reading parts of one file, each within its bounds. Nothing else is ever opened."""

from __future__ import annotations

import hashlib
import os
import zlib
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from swiftdet.errors import ModelError

_CHUNK = 1 << 20


class CheckpointFile:
    """An open regular file; a context manager. One thread at a time.

    Attributes:
        path: as given.
        size: bytes.

    Raises:
        ModelError: no such file, a directory, a device or pipe, unreadable, or empty.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            if path.is_dir():
                raise ModelError("expected a file, got a directory")
            if not path.exists():
                raise ModelError("no such file")
            if not path.is_file():
                raise ModelError("expected a regular file, got a device, pipe or socket")
            self._file = path.open("rb")
        except (OSError, ValueError) as e:
            raise ModelError(f"cannot be read ({e})") from e
        self.size = os.fstat(self._file.fileno()).st_size
        if self.size == 0:
            self._file.close()
            raise ModelError("the file is empty (0 bytes); was its download interrupted?")

    def __enter__(self) -> CheckpointFile:  # noqa: PYI034 - typing has no Self before Python 3.11
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def read(self, start: int, size: int) -> bytes:
        """`size` bytes from offset `start`.

        Raises:
            ModelError: the file has no such bytes.
        """
        self._check(start, size)
        try:
            self._file.seek(start)
            data = self._file.read(size)
        except OSError as e:
            raise ModelError(f"cannot be read ({e})") from e
        if len(data) != size:
            raise ModelError("the file became shorter while it was read")
        return data

    def stream(self, start: int) -> BinaryIO:
        """The file itself, standing at offset `start`."""
        self._file.seek(start)
        return self._file

    def read_array(self, start: int, size: int, crc32: int | None) -> npt.NDArray[np.uint8]:
        """As `read`, into an array of its own.

        Raises:
            ModelError: the file has no such bytes, or their checksum is not `crc32`.
        """
        self._check(start, size)
        data = np.empty(size, np.uint8)
        try:
            self._file.seek(start)
            read = self._file.readinto(data.data)
        except OSError as e:
            raise ModelError(f"cannot be read ({e})") from e
        if read != size:
            raise ModelError("the file became shorter while it was read")
        check_crc32(data.data, crc32)
        return data

    def sha256(self) -> str:
        """Hex digest of the whole file."""
        digest = hashlib.sha256()
        self._file.seek(0)
        while chunk := self._file.read(_CHUNK):
            digest.update(chunk)
        return digest.hexdigest()

    def _check(self, start: int, size: int) -> None:
        if start < 0 or size < 0 or start + size > self.size:
            raise ModelError(
                f"bytes {start} to {start + size} of a file of {self.size}: the file is truncated or damaged"
            )


def check_crc32(data: bytes | memoryview, crc32: int | None) -> None:
    """Compares a checksum, where there is one.

    Raises:
        ModelError: it differs.
    """
    if crc32 is not None and zlib.crc32(data) != crc32:
        raise ModelError("the checksum of a part of the file is wrong: the file is damaged, download or copy it again")
