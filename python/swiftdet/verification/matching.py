"""Which box of one side is which of the other: arrays in, indices out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Indices: TypeAlias = npt.NDArray[np.int64]

GROWN_PX = 0.5
"""Boxes are compared grown by this on each side, so that a box without width or height can be found again."""


@dataclass(frozen=True)
class Found:
    """What one side found in one image.

    Attributes:
        xyxy: [K, 4] px of the image.
        conf: scores [K].
        cls: class ids [K], those of the reference.
        truncated: candidates that the side's limits cut off.
    """

    xyxy: Floats
    conf: Floats
    cls: Indices
    truncated: int = 0

    def __len__(self) -> int:
        return len(self.conf)


def overlaps(first: Floats, second: Floats) -> Floats:
    """IoU [N, M] of boxes xyxy [N, 4] and [M, 4] px, all of them grown by `GROWN_PX`."""
    grow = np.array([-GROWN_PX, -GROWN_PX, GROWN_PX, GROWN_PX])
    a, b = (first + grow)[:, None], (second + grow)[None]
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    shared = np.clip(sides, 0.0, None).prod(axis=-1)
    together = (a[..., 2:] - a[..., :2]).prod(axis=-1) + (b[..., 2:] - b[..., :2]).prod(axis=-1) - shared
    result: Floats = shared / together
    return result


def match(overlap: Floats, allowed: npt.NDArray[np.bool_], least: float) -> Indices:
    """One-to-one pairs, greedily: the largest overlap first, ties by the first side's index, then the second's.

    Args:
        overlap: [N, M].
        allowed: [N, M]; pairs that may be.
        least: no pair overlaps less.

    Returns:
        [P, 2]: index in the first side, index in the second; in ascending order.
    """
    candidates = np.argwhere(allowed & (overlap >= least))  # in order of the indices, which the stable sort keeps
    order = np.argsort(-overlap[candidates[:, 0], candidates[:, 1]], kind="stable")
    free_first, free_second = (np.ones(count, dtype=bool) for count in overlap.shape)
    pairs = []
    for i, j in candidates[order].tolist():
        if free_first[i] and free_second[j]:
            free_first[i] = free_second[j] = False
            pairs.append((i, j))
    return np.array(sorted(pairs), dtype=np.int64).reshape(-1, 2)
