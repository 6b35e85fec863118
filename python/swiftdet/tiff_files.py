"""TIFF files as Pillow may see them, and the library below it kept from printing.

Pillow warns through the process's filters where a directory is damaged, and reads directories that a picture does not
need; libtiff writes to stderr. A library that decodes what strangers send does neither.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import struct
import threading
from collections.abc import Iterator
from typing import Any

from PIL import TiffTags, _imaging  # type: ignore[attr-defined,unused-ignore]

from swiftdet.errors import ImageError

# Bytes of one value by type, TIFF 6.0 section 2 and BigTIFF.
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_TEXTS = {1, 2, 7}  # types whose values count as one, however long
_SUBDIRECTORIES = {330, 34665, 34853, 40965}  # sub-images, Exif, GPS, interoperability
_PHOTOMETRIC = 262
_SAMPLES_PER_PIXEL = 277
_MOST_SAMPLES = 6  # that Pillow decodes; of more it complains to the log before it raises
_DAMAGED = "damaged, truncated or of an unknown kind"
_HIDDEN = struct.Struct("HH")


def prepared(content: bytes, name: str) -> bytes:
    """The file with one directory, that of its first picture, every entry of which lies inside the file.

    Raises:
        ImageError: the directory is cut short, or an entry points out of the file or has more values than its tag.
    """
    order = "<" if content[:2] == b"II" else ">"
    big = content[2:4] in (b"+\0", b"\0+")
    changed = bytearray(content)
    try:
        (at,) = struct.unpack_from(order + ("Q" if big else "I"), content, 8 if big else 4)
        (count,) = struct.unpack_from(order + ("Q" if big else "H"), content, at)
        at += 8 if big else 2
        entry = struct.Struct(order + ("HHQ8s" if big else "HHI4s"))
        total = 0
        for _ in range(min(count, len(content))):
            tag, kind, number, value = entry.unpack_from(content, at)
            total += _checked_size(tag, kind, number, value, order, len(content), name)
            if tag in _SUBDIRECTORIES:
                _HIDDEN.pack_into(changed, at, 0, 0)  # no tag of no type, which readers pass over
            at += entry.size
        if total > len(content):
            raise ImageError(f"{name}: {_DAMAGED}: the values of its directory are longer than the file")
        struct.pack_into(order + ("Q" if big else "I"), changed, at, 0)  # no further page
    except (struct.error, OverflowError) as e:
        raise ImageError(f"{name}: {_DAMAGED}: its directory does not lie inside the file") from e
    return bytes(changed)


def _checked_size(tag: int, kind: int, number: int, value: bytes, order: str, length: int, name: str) -> int:
    """Bytes of an entry's values outside of the entry itself."""
    size = _SIZES.get(kind, 0) * number
    single = TiffTags.lookup(tag).length == 1 and kind not in _TEXTS and tag != _PHOTOMETRIC
    if single and number != 1 and kind in _SIZES:
        raise ImageError(f"{name}: {_DAMAGED}: tag {tag} has {number} values, expected 1")
    if tag == _SAMPLES_PER_PIXEL and (kind not in (3, 4) or _first(kind, value, order) > _MOST_SAMPLES):
        raise ImageError(f"{name}: {_DAMAGED}: the number of samples a pixel is none of 1 to {_MOST_SAMPLES}")
    if size <= len(value):
        return 0
    (offset,) = struct.unpack(order + ("Q" if len(value) == 8 else "I"), value)
    if offset + size > length:
        raise ImageError(f"{name}: {_DAMAGED}: tag {tag} points behind the end of the file")
    return size


def _first(kind: int, value: bytes, order: str) -> int:
    """The first number of a SHORT or LONG entry."""
    return int(struct.unpack_from(order + ("H" if kind == 3 else "I"), value)[0])


_LOCK = threading.Lock()
_muted = 0
_handler: Any = None


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps libtiff from writing its errors to stderr meanwhile; Pillow raises them as well.

    libtiff has one place for its error handler in a process. The handler that was there is back when the last of those
    who decode is done.
    """
    global _muted, _handler  # noqa: PLW0603 - counts who is in here, under the lock
    set_handler = _set_error_handler()
    if set_handler is None:
        yield
        return
    with _LOCK:
        if _muted == 0:
            _handler = set_handler(None)
        _muted += 1
    try:
        yield
    finally:
        with _LOCK:
            _muted -= 1
            if _muted == 0:
                set_handler(_handler)


@functools.cache
def _set_error_handler() -> Any:
    """The function of libtiff, found through Pillow's module; None where Pillow has none, or has it inside itself."""
    try:
        function = ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler
    except (OSError, AttributeError):
        return None
    function.argtypes, function.restype = [ctypes.c_void_p], ctypes.c_void_p
    return function
