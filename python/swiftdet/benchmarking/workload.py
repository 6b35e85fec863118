"""What a benchmark feeds: images held in memory, encoded where the decoding is to be part of the time."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from swiftdet import demo, image_files, images, sources
from swiftdet.errors import InvalidArgument, InvalidType

LARGEST = 256 << 20
"""Most bytes of images that are held; a larger source is used as far as this reaches, which the document says."""

_NAMES_SHOWN = 10


@dataclass(frozen=True)
class Workload:
    """Images to detect in, over and over.

    Attributes:
        kind: "files", encoded content that every call decodes; "arrays", pixels in BGR order.
        source: where they come from, in words.
        items: bytes or arrays.
        names: of the first few.
        sizes: (height, width) px, each once, in order of appearance.
        sha256: hex digest of the digests of the items.
        left_out: images of the source that were not taken.
    """

    kind: Literal["files", "arrays"]
    source: str
    items: tuple[Any, ...]
    names: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]
    sha256: str
    left_out: int = 0

    def batches(self, size: int) -> list[list[Any]]:
        """Groups of `size` items; over all groups each item comes equally often, also where the sizes do not fit."""
        count = len(self.items)
        return [[self.items[(start * size + i) % count] for i in range(size)] for start in range(count)]

    def first_pixels(self) -> Any:
        """Uint8 [H, W, C] of the first item, in the order that a detector expects for the kind."""
        return images.load(self.items[0]).pixels

    def describe(self) -> dict[str, Any]:
        """As `measured.input` of a document has it."""
        return {
            "kind": self.kind,
            "source": self.source,
            "names": list(self.names),
            "images": len(self.items),
            "left_out": self.left_out,
            "sha256": self.sha256,
            "sizes": [list(size) for size in self.sizes],
        }


def gather(given: Any = None) -> Workload:
    """The images of a benchmark, read and checked.

    Args:
        given: an image file, folder or pattern; a uint8 array [H, W, 3] in BGR order; or a list of files or of arrays.
            None: the demos' sample of pictures, 100 JPEGs of about 240x320 px.

    Raises:
        ImageError: nothing there, or an image that cannot be read.
        InvalidArgument: videos, an empty list, or files and arrays mixed.
        InvalidType: something else.
    """
    if given is None:
        return _of_files([demo.dataset().images], "the demos' sample")
    items = list(given) if isinstance(given, list | tuple) else [given]
    if not items:
        raise InvalidArgument("images: expected at least one image, got an empty list")
    if all(isinstance(item, np.ndarray) for item in items):
        return _of_arrays(items)
    if all(isinstance(item, str | os.PathLike) for item in items):
        return _of_files(items, ", ".join(map(os.fsdecode, items[:_NAMES_SHOWN])))
    kinds = ", ".join(sorted({type(item).__name__ for item in items}))
    wanted = "images: expected files (one, a folder, a pattern, a list) or uint8 arrays"
    if any(isinstance(item, np.ndarray | str | os.PathLike) for item in items):
        raise InvalidArgument(f"{wanted}, all of one kind, got {kinds}")
    raise InvalidType(f"{wanted}, got {kinds}")


def _of_files(given: Sequence[str | os.PathLike[str]], source: str) -> Workload:
    paths = [item for one in given for item in sources.expand(os.fsdecode(one))]
    videos = [item for item in paths if not isinstance(item, Path)]
    if videos:
        raise InvalidArgument(f"images: expected pictures, got the video or stream {videos[0].name}")
    contents: list[bytes] = []
    sizes: dict[tuple[int, int], None] = {}
    room = LARGEST
    for path in paths:
        content = image_files.read(str(path))
        room -= len(content)
        if contents and room < 0:
            break
        pixels, _ = image_files.decode(content, str(path), None)  # now: a bad one is no surprise in the middle
        sizes[(pixels.shape[0], pixels.shape[1])] = None
        contents.append(content)
    names = tuple(path.name for path in paths[: min(len(contents), _NAMES_SHOWN)])
    left_out = len(paths) - len(contents)
    return Workload("files", source, tuple(contents), names, tuple(sizes), _digest(contents), left_out)


def _of_arrays(given: Sequence[Any]) -> Workload:
    sizes = dict.fromkeys(images.load(array).size for array in given)
    names = tuple("x".join(map(str, array.shape)) for array in given[:_NAMES_SHOWN])
    contents = [repr(array.shape).encode() + np.ascontiguousarray(array).tobytes() for array in given]
    return Workload("arrays", "arrays of the caller", tuple(given), names, tuple(sizes), _digest(contents))


def _digest(contents: Sequence[bytes]) -> str:
    return hashlib.sha256(b"".join(hashlib.sha256(content).digest() for content in contents)).hexdigest()
