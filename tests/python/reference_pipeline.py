"""An independent detector: OpenCV, onnxruntime, NumPy and a plain loop. Shares no code with swiftdet.

Follows the published description of the Ultralytics export: letterbox centred with pad 114, RGB / 255, one output
[1, 4+C, P] of centre boxes and class scores, best class per prediction, greedy NMS per class.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
import onnxruntime

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class Reference:
    """Detections of one image, sorted by score."""

    xyxy: np.ndarray
    conf: np.ndarray
    cls: np.ndarray


def letterbox(image: np.ndarray, size: int) -> tuple[np.ndarray, float, int, int]:
    """The network's input for a BGR image, with the ratio and the padding applied."""
    height, width = image.shape[:2]
    ratio = min(size / height, size / width)
    new_width, new_height = max(1, round(width * ratio)), max(1, round(height * ratio))
    if (new_height, new_width) != (height, width):
        image = cv2.resize(image, (new_width, new_height), interpolation=cv2.INTER_LINEAR)
    pad_x, pad_y = (size - new_width) / 2, (size - new_height) / 2
    top, bottom = round(pad_y - 0.1), round(pad_y + 0.1)
    left, right = round(pad_x - 0.1), round(pad_x + 0.1)
    image = cv2.copyMakeBorder(image, top, bottom, left, right, cv2.BORDER_CONSTANT, value=(114, 114, 114))
    tensor = image[:, :, ::-1].transpose(2, 0, 1)[None].astype(np.float32) / np.float32(255)
    return np.ascontiguousarray(tensor), ratio, left, top


def plain_nms(boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray, iou: float) -> list[int]:
    """Greedy NMS per class: score desc, then class asc, then index asc; suppressed when IoU > iou in float32."""
    order = sorted(range(len(scores)), key=lambda i: (-scores[i], classes[i], i))
    kept: list[int] = []
    for i in order:
        for j in kept:
            if classes[i] != classes[j]:
                continue
            width = np.maximum(np.float32(0), np.minimum(boxes[i, 2], boxes[j, 2]) - np.maximum(boxes[i, 0], boxes[j, 0]))
            height = np.maximum(np.float32(0), np.minimum(boxes[i, 3], boxes[j, 3]) - np.maximum(boxes[i, 1], boxes[j, 1]))
            inter = width * height
            area_i = (boxes[i, 2] - boxes[i, 0]) * (boxes[i, 3] - boxes[i, 1])
            area_j = (boxes[j, 2] - boxes[j, 0]) * (boxes[j, 3] - boxes[j, 1])
            union = area_i + area_j - inter
            if union != 0 and inter / union > np.float32(iou):
                break
        else:
            kept.append(i)
    return kept


class ReferenceDetector:
    """The independent pipeline over one ONNX file of the Ultralytics v8 kind."""

    def __init__(self, path: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.size = int(self.session.get_inputs()[0].shape[2])

    def __call__(self, image: np.ndarray, conf: float = 0.25, iou: float = 0.7, max_det: int = 300) -> Reference:
        """Detects in a BGR image."""
        tensor, ratio, left, top = letterbox(image, self.size)
        output = self.session.run(None, {self.session.get_inputs()[0].name: tensor})[0][0].T
        classes = output[:, 4:].argmax(axis=1)
        scores = output[:, 4:].max(axis=1)
        wanted = scores > np.float32(conf)
        rows, scores, classes = output[wanted], scores[wanted], classes[wanted]
        centre, half = rows[:, :2], rows[:, 2:4] / 2
        boxes = np.concatenate([centre - half, centre + half], axis=1)
        kept = plain_nms(boxes, scores, classes, iou)[:max_det]
        boxes = (boxes[kept] - np.float32([left, top, left, top])) / np.float32(ratio)
        height, width = image.shape[:2]
        boxes = np.clip(boxes, 0, np.float32([width, height, width, height])).reshape(-1, 4)
        return Reference(boxes, scores[kept], classes[kept])
