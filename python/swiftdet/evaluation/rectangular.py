"""YOLOv7's rectangular batches: a network shape for each group of images of like proportions.

Source of the geometry: test.py, LoadImagesAndLabels, letterbox() and scale_coords() of the official pipeline, restated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from swiftdet import images, ops
from swiftdet.errors import DatasetError
from swiftdet.evaluation.protocols import Resize

FloatArray = npt.NDArray[np.float32]
ByteArray = npt.NDArray[np.uint8]
Size = tuple[int, int]


@dataclass(frozen=True)
class Placement:
    """Where a resized image lies in its group's shape.

    Attributes:
        source: (height, width) px of the image.
        resized: (height, width) px that it is brought to.
        gain: px of the input per px of the image, as the source takes it for the way back.
        shape: (height, width) px of the network's input.
    """

    source: Size
    resized: Size
    gain: float
    shape: Size

    @property
    def border(self) -> tuple[float, float]:
        """Half of what is free above and below, and left and right, in px; not rounded."""
        return (self.shape[0] - self.resized[0]) / 2, (self.shape[1] - self.resized[1]) / 2

    @property
    def corner(self) -> Size:
        """(top, left) px at which the image begins."""
        top, left = self.border
        return round(top - 0.1), round(left - 0.1)

    def to_source(self, boxes_xyxy: FloatArray) -> FloatArray:
        """Boxes float32 [K, 4] in px of the input as boxes in px of the image, clipped to it.

        In the source's arithmetic: float32, and with the unrounded borders.
        """
        (height, width), (top, left) = self.source, self.border
        moved = (boxes_xyxy - np.array([left, top, left, top], np.float32)) / np.float32(self.gain)
        limit = np.array([width, height, width, height], np.float32)
        clipped: FloatArray = np.clip(moved, np.float32(0), limit)
        return clipped


def plan(sizes: Sequence[Size], side: int, stride: int, resize: Resize) -> tuple[list[int], list[Placement]]:
    """The order in which images are taken, and the placement of each.

    Args:
        sizes: (height, width) px of the images, in the order that breaks ties.
        side: px of the network's square size.
        stride: of the network.
        resize: the protocol's geometry.

    Returns:
        Indices into `sizes`, by ascending height / width; and a placement for each of `sizes`, in their own order.
    """
    group, extra = resize.group or len(sizes), resize.extra_strides or 0.0
    ratios = [height / width for height, width in sizes]
    order = sorted(range(len(sizes)), key=ratios.__getitem__)
    placements: dict[int, Placement] = {}
    for start in range(0, len(order), group):
        members = order[start : start + group]
        shape = group_shape(ratios[members[0]], ratios[members[-1]], side, max(stride, 32), extra)
        placements |= {i: Placement(sizes[i], *resized(sizes[i], side), shape) for i in members}
    return order, [placements[i] for i in range(len(sizes))]


def group_shape(lowest: float, highest: float, side: int, stride: int, extra_strides: float) -> Size:
    """(height, width) px of the input for images with a height / width from `lowest` to `highest`."""
    tall, wide = 1.0, 1.0
    if highest < 1:
        tall = highest
    elif lowest > 1:
        wide = 1 / lowest
    height, width = (math.ceil(part * side / stride + extra_strides) * stride for part in (tall, wide))
    return height, width


def resized(size: Size, side: int) -> tuple[Size, float]:
    """(height, width) px of an image whose longer side is brought to `side`, and its gain.

    The other side is rounded down, and the gain is the ratio of the heights, for both axes. An image so narrow that
    nothing would be left of it, where the source fails, keeps one px, and its gain is the ratio asked for.
    """
    height, width = size
    ratio = side / max(height, width)
    if ratio == 1:
        return size, 1.0
    new_height, new_width = int(height * ratio), int(width * ratio)
    if new_height < 1 or new_width < 1:
        return (max(1, new_height), max(1, new_width)), ratio
    return (new_height, new_width), new_height / height


def place(bgr: ByteArray, placement: Placement, resize: Resize) -> ByteArray:
    """The network's input before its scaling: uint8 [H, W, 3], the image resized and set into its border.

    Args:
        bgr: uint8 [h, w, 3], any strides.
        placement: of an image of that size.
        resize: the protocol's geometry.
    """
    (height, width), (top, left) = placement.resized, placement.corner
    canvas = np.full((*placement.shape, 3), resize.pad_value, np.uint8)
    if placement.resized != placement.source:
        shrinks = placement.resized[0] < placement.source[0] or placement.resized[1] < placement.source[1]
        bgr = ops.resize(bgr, placement.resized, interpolation=resize.shrink if shrinks else resize.enlarge)
    canvas[top : top + height, left : left + width] = bgr
    return canvas


class PlacedFile:
    """An image file that is read, resized and set into its border when a detector asks for the array.

    So that happens in the thread that detects, and a file that waits takes no memory.
    """

    def __init__(self, path: Path, placement: Placement, resize: Resize) -> None:
        self._path = path
        self._placement = placement
        self._resize = resize

    def __array__(self, dtype: object = None, copy: object = None) -> ByteArray:
        """As `place`.

        Raises:
            ImageError: the file cannot be read.
            DatasetError: it has another size than it had.
        """
        image = images.load(self._path)
        if image.size != self._placement.source:
            raise DatasetError(f"{self._path}: its size has changed while the data set was evaluated")
        return place(image.bgr(), self._placement, self._resize)
