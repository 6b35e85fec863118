"""What the official evaluations do to images and boxes, by OpenCV, Pillow and NumPy; shares no code with swiftdet.

Written after what YOLOv7's test.py and DAMO-YOLO's tools/eval.py do, restated.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

GREY = 114


@dataclass
class Prepared:
    """An image for the network, and what the way back needs."""

    tensor: np.ndarray  # float32 [3, H, W], RGB, 0..1
    ratio: float
    pads: tuple[float, float]  # horizontal, vertical; not rounded
    source: tuple[int, int]


def batch_shapes(sizes: list[tuple[int, int]], side: int, stride: int, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Order by height / width, and (height, width) of each batch, for images (height, width) in order of name."""
    ratios = np.array([h / w for h, w in sizes], np.float64)
    order = np.argsort(ratios, kind="stable")
    shapes = []
    for start in range(0, len(sizes), batch):
        inside = ratios[order[start : start + batch]]
        base = [1.0, 1.0]
        if inside.max() < 1:
            base = [inside.max(), 1.0]
        elif inside.min() > 1:
            base = [1.0, 1.0 / inside.min()]
        shapes.append(base)
    return order, np.ceil(np.array(shapes) * side / stride + 0.5).astype(int) * stride


def rectangular(bgr: np.ndarray, shape: tuple[int, int], side: int) -> Prepared | None:
    """One image in its batch's shape; None where OpenCV refuses to resize to no px at all."""
    height, width = bgr.shape[:2]
    ratio = side / max(height, width)
    image = bgr
    if ratio != 1:
        new = (int(width * ratio), int(height * ratio))
        if min(new) < 1:
            return None
        image = cv2.resize(bgr, new, interpolation=cv2.INTER_AREA if ratio < 1 else cv2.INTER_LINEAR)
    gain = image.shape[0] / height
    image, pads = padded(image, shape)
    return Prepared(rgb_planes(image) / np.float32(255), gain, pads, (height, width))


def padded(image: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, tuple[float, float]]:
    """The image in the middle of a grey one; made smaller where it is too large, which it never is, never larger."""
    height, width = image.shape[:2]
    ratio = min(shape[0] / height, shape[1] / width, 1.0)
    new = (round(width * ratio), round(height * ratio))
    horizontal, vertical = (shape[1] - new[0]) / 2, (shape[0] - new[1]) / 2
    if new != (width, height):
        image = cv2.resize(image, new, interpolation=cv2.INTER_LINEAR)
    edges = (round(vertical - 0.1), round(vertical + 0.1), round(horizontal - 0.1), round(horizontal + 0.1))
    return cv2.copyMakeBorder(image, *edges, cv2.BORDER_CONSTANT, value=(GREY,) * 3), (horizontal, vertical)


def boxes_to_source(boxes: np.ndarray, prepared: Prepared) -> np.ndarray:
    """Boxes float32 [K, 4] of the network's input in px of the image, clipped."""
    boxes = boxes.copy()
    for axis, (pad, length) in enumerate(zip(prepared.pads, prepared.source[::-1], strict=True)):
        boxes[:, axis::2] -= np.float32(pad)
        boxes[:, axis::2] /= np.float32(prepared.ratio)
        boxes[:, axis::2] = boxes[:, axis::2].clip(0, length)
    return boxes


def stretched(path: Path, side: int) -> np.ndarray:
    """DAMO-YOLO's input for a file: float32 [3, side, side], RGB, 0..255."""
    rgb = np.asarray(Image.open(path).convert("RGB"))
    image = cv2.resize(rgb, (side, side), interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(image.transpose(2, 0, 1)).astype(np.float32)


def rgb_planes(bgr: np.ndarray) -> np.ndarray:
    """float32 [3, H, W] of a BGR image."""
    return np.ascontiguousarray(bgr[:, :, ::-1].transpose(2, 0, 1)).astype(np.float32)
