"""Shapes that heads have at a given input size."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from swiftdet.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from swiftdet.engines.signature import Signature
    from swiftdet.spec import Head, ModelSpec

LEVELS = ((8, 16, 32), (8, 16, 32, 64), (4, 8, 16, 32))
"""Strides of the levels of known detectors: usual, P6, and small-object (P2) forms."""

ANCHORS_PER_CELL = 3


def cells_of_level(size: tuple[int, int], stride: int) -> tuple[int, int]:
    """(rows, columns) of a level at an input of `size`, rounded up as padded convolutions do."""
    return -(-size[0] // stride), -(-size[1] // stride)


def cells(size: tuple[int, int], strides: tuple[int, ...]) -> int:
    """Number of cells of all levels at an input of `size`."""
    return sum(math.prod(cells_of_level(size, s)) for s in strides)


def levels_of(predictions: int, size: tuple[int, int], *, anchors: int) -> tuple[int, ...] | None:
    """Strides of the levels that give `predictions` with `anchors` per cell; None if no known set does."""
    return next((s for s in LEVELS if anchors * cells(size, s) == predictions), None)


def check_outputs(spec: ModelSpec, signature: Signature) -> None:
    """Compares a description with the outputs of the network at the input size `spec.imgsz`.

    Raises:
        ModelError: an output is missing or has another shape than the description implies; names both.
    """
    shapes = {port.name: port.shape for port in signature.outputs}
    head = spec.head
    missing = [name for name in head.outputs if name not in shapes]
    if missing:
        raise ModelError(
            f"model description: output {missing[0]!r} is not in the file, whose outputs are: {', '.join(shapes)}"
        )
    for index, name in enumerate(head.outputs):
        allowed = _allowed_shapes(head, index, spec.imgsz, shapes)
        if not any(_matches(shapes[name], pattern) for pattern in allowed):
            expected = " or ".join(str(["?" if d < 0 else d for d in pattern]) for pattern in allowed)
            raise ModelError(
                f"model description: output {name!r} should be {expected} for layout {head.layout!r} with "
                f"{head.num_classes} classes at {spec.imgsz[0]}x{spec.imgsz[1]}, the file has {list(shapes[name])}; "
                "the description belongs to another model"
            )


def _matches(shape: tuple[int, ...], pattern: tuple[int, ...]) -> bool:
    return len(shape) == len(pattern) and all(p < 0 or d < 0 or d == p for d, p in zip(shape, pattern, strict=True))


def _allowed_shapes(
    head: Head, index: int, size: tuple[int, int], shapes: Mapping[str, tuple[int, ...]]
) -> list[tuple[int, ...]]:
    """Patterns for output `index` of the head; -1 = any."""
    classes = head.num_classes
    if head.layout == "anchor_maps":
        stride, per_cell = head.strides[index], len(head.anchors) // len(head.strides)
        h, w = cells_of_level(size, stride)
        return [(-1, per_cell * (5 + classes), h, w), (-1, per_cell, h, w, 5 + classes)]
    if head.layout == "distribution_maps":
        levels = len(head.strides)
        stride = head.strides[index % levels]
        channels = classes if index < levels else 4 * (head.reg_max + 1)
        return [(-1, channels, *cells_of_level(size, stride))]
    width = (5 if head.has_objectness else 4) + classes
    if head.layout == "rows":
        return [(-1, -1, width)]
    if head.layout == "columns":
        return [(-1, width, -1)]
    if head.layout == "detections":
        return [(-1, -1, 6)]
    boxes = shapes[head.outputs[1]]
    predictions = boxes[1] if len(boxes) > 1 else -1
    if index == 1:
        return [(-1, -1, 4), (-1, -1, 1, 4)]
    return [(-1, classes, predictions) if head.scores_class_major else (-1, predictions, classes)]
