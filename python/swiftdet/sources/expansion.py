"""Expands what a user calls "the input" - files, folders, patterns, addresses, cameras, lists - into its items."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from swiftdet import checks
from swiftdet.errors import ImageError, SwiftdetError
from swiftdet.image_files import FORMATS, SUFFIXES, reason
from swiftdet.sources.pyav import require_pyav

VIDEO_SUFFIXES = frozenset(
    (
        *(".3gp", ".avi", ".flv", ".h264", ".h265", ".hevc", ".ivf", ".m2ts", ".m4v", ".mjpeg", ".mjpg", ".mkv"),
        *(".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".nut", ".ogv", ".ts", ".vob", ".webm", ".wmv", ".y4m"),
    )
)
"""Suffixes, in lower case, by which a file is taken for a video."""

# Schemes of streams that never wait: what is not read in time is lost, and "the newest frame" has a meaning.
_LIVE_SCHEMES = frozenset(("rtmp", "rtmps", "rtp", "rtsp", "rtsps", "srt", "udp"))
_SCHEMES = _LIVE_SCHEMES | {"http", "https"}
_WILDCARDS = frozenset("*?[")
_DEVICE = re.compile(r"/dev/video\d+")


@dataclass(frozen=True, slots=True)
class Video:
    """Something that gives frames, not opened yet.

    Attributes:
        location: what is opened: a path, an address, a device.
        kind: which of the three.
        name: what results and messages call it: the location without a password.
        live: frames come whether or not anybody takes them.
    """

    location: str
    kind: Literal["file", "address", "camera"]
    name: str
    live: bool


def expand(source: Any) -> list[Any]:
    """The items of a source, in a stable order; nothing is opened.

    A folder gives the image files and videos directly in it, sorted by name, hidden files left out. A string with `*`,
    `?` or `[` is a pattern (`**` descends into folders) unless a file of that very name exists; it gives the image
    files and videos that match, sorted. An address (`rtsp://`, `http://`, ...) and a camera (0, "0", "/dev/video0")
    give a `Video`. A list, tuple, or any other iterable that is no array is expanded item by item. Everything else -
    an array, a PIL image, encoded bytes - is one image. Images in files come back as `Path`, videos as `Video`.
    Neither the tree nor the source is changed; safe from several threads.

    Raises:
        ImageError: nothing there or nothing that matches, or an address of a kind that is not read.
        BackendUnavailable: a video, and PyAV is not installed.
    """
    return list(walk(source))


def _raise(_: str, error: SwiftdetError) -> None:
    raise error


def walk(source: Any, refused: Callable[[str, SwiftdetError], None] = _raise) -> Iterator[Any]:
    """As `expand`, one item at a time: an iterable is asked for its next item when that is wanted.

    Args:
        source: as for `expand`.
        refused: called with the name and the error of an item that is not there; the next one follows if it returns.

    Raises:
        ImageError, BackendUnavailable: as `expand`, when the item is reached.
    """
    if is_iterable(source):
        for item in source:
            yield from walk(item, refused)
    elif isinstance(source, str | os.PathLike):
        name = os.fsdecode(source)
        try:
            found = _named(name)
        except ImageError as e:
            refused(without_password(name), e)
        else:
            yield from found
    elif checks.is_integer(source) and source >= 0:
        yield _camera(f"/dev/video{int(source)}")
    else:
        yield source


def is_iterable(source: object) -> bool:
    """Whether a source is a collection of sources: no text, no content of a file, and nothing that is an array."""
    if isinstance(source, list | tuple):
        return True
    if isinstance(source, str | bytes | bytearray | memoryview | os.PathLike | Mapping | AbstractSet | Video):
        return False
    arrays = ("__array__", "__array_interface__", "__cuda_array_interface__", "__dlpack__")
    return isinstance(source, Iterable) and not any(hasattr(source, name) for name in arrays)


def belongs_to_caller(source: object) -> bool:
    """Whether a source must be read in the caller's thread, one item when one is wanted.

    An iterable of the caller's may fill one buffer again and again; an array on a GPU may mean "the stream of this
    thread".
    """
    if isinstance(source, list | tuple):
        return any(belongs_to_caller(item) for item in source)
    may_be_on_gpu = hasattr(source, "__cuda_array_interface__") or (
        hasattr(source, "__dlpack__") and not hasattr(source, "__array_interface__")
    )
    return is_iterable(source) or may_be_on_gpu


def _named(name: str) -> list[Path | Video]:
    try:
        return _found(name)
    except OSError as e:  # a name too long, a folder that may not be read
        raise ImageError(f"{name}: cannot be read: {reason(e)}") from e


def _found(name: str) -> list[Path | Video]:
    if not name:  # which as a path would mean the working folder
        raise ImageError("source: expected a file, a folder, a pattern, an address or a camera, got an empty name")
    if "://" in name:
        return [_address(name)]
    path = Path(name)
    if path.is_dir():
        found = _readable(path.iterdir())
        if not found:
            raise ImageError(f"{name}: no images in this folder, and no videos (images: {_suffixes()})")
        return found
    if _DEVICE.fullmatch(name):
        return [_camera(name)]
    if path.exists():
        return [_item(path)]
    if name.isdecimal():
        return [_camera(f"/dev/video{int(name)}")]
    if _WILDCARDS.isdisjoint(name):
        raise ImageError(f"{name}: no such file or folder")
    found = _readable(Path(match) for match in glob.iglob(name, recursive=True))  # noqa: PTH207 - absolute patterns
    if not found:
        raise ImageError(f"{name}: no images match this pattern, and no videos (images: {_suffixes()})")
    return found


def _readable(paths: Iterable[Path]) -> list[Path | Video]:
    known = SUFFIXES | VIDEO_SUFFIXES
    return [
        _item(path)
        for path in sorted(paths)
        if path.suffix.lower() in known and not path.name.startswith(".") and path.is_file()
    ]


def _item(path: Path) -> Path | Video:
    if path.suffix.lower() not in VIDEO_SUFFIXES:
        return path
    require_pyav(str(path))
    return Video(str(path), "file", str(path), live=False)


def _address(name: str) -> Video:
    scheme = name.partition("://")[0].lower()
    shown = without_password(name)
    if scheme not in _SCHEMES:
        known = ", ".join(f"{scheme}://" for scheme in sorted(_SCHEMES))
        raise ImageError(f"{shown}: addresses of this kind are not read; expected a path, or one of {known}")
    suffix = Path(name.partition("?")[0]).suffix.lower()
    if suffix in SUFFIXES:
        raise ImageError(f"{shown}: an image behind an address is not read ({FORMATS} are, from files); download it")
    require_pyav(shown)
    return Video(name, "address", shown, live=scheme in _LIVE_SCHEMES)


def _camera(device: str) -> Video:
    require_pyav(device)
    return Video(device, "camera", device, live=True)


def without_password(address: str) -> str:
    """`rtsp://user:secret@host/1` as `rtsp://user:***@host/1`, for results, messages and logs."""
    scheme, separator, rest = address.partition("://")
    host, slash, path = rest.partition("/")
    user, at, host_only = host.rpartition("@")
    if ":" in user:
        user = user.partition(":")[0] + ":***"
    return f"{scheme}{separator}{user}{at}{host_only}{slash}{path}"


def _suffixes() -> str:
    return ", ".join(sorted(SUFFIXES))
