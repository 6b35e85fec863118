"""What each family does to its input, and the thresholds of its own demo."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from swiftdet.model_files.names import default_names
from swiftdet.spec import Head, ModelSpec, Preprocess

if TYPE_CHECKING:
    from swiftdet.recognition.evidence import Evidence


@dataclass(frozen=True)
class _Family:
    preprocess: Preprocess
    iou: float
    max_det: int


# Sources: detect.py of YOLOv7 (conf 0.25, IoU 0.45, 300 boxes); DAMO-YOLO's configuration (IoU 0.7, 500 boxes; its
# confidence of 0.05 is for evaluation, 0.25 serves a user); predict defaults of Ultralytics.
FAMILY_DEFAULTS = {
    "yolov7": _Family(Preprocess(), iou=0.45, max_det=300),
    "damo-yolo": _Family(Preprocess(mode="stretch", pad_value=0, divisor=1.0), iou=0.7, max_det=500),
    "ultralytics": _Family(Preprocess(), iou=0.7, max_det=300),
}


_MOST_CLASSES = 1 << 20  # beyond all detectors; a damaged shape may say 2^62, and each class gets a name


def anchor_family(evidence: Evidence) -> str:
    """Family of an anchor head: YOLOv7's and YOLOv5's are decoded alike, so the user or the metadata decides."""
    if evidence.family in {"yolov7", "ultralytics"}:
        return evidence.family
    return "ultralytics" if evidence.metadata.ultralytics else "yolov7"


def make_spec(evidence: Evidence, family: str, head: Head, *, stride: int, because: str) -> ModelSpec:
    """The description of a recognised head, completed by what its family does.

    Raises:
        ModelError: the file's class names do not fit the head, or the graph scales its input itself.
    """
    if head.num_classes > _MOST_CLASSES:
        raise evidence.refusal(f"the outputs' shapes say {head.num_classes} classes, more than {_MOST_CLASSES}")
    names = evidence.metadata.names or default_names(head.num_classes)
    if len(names) != head.num_classes:
        raise evidence.refusal(
            f"the metadata names {len(names)} classes, the outputs hold {head.num_classes} (read as {head.layout})"
        )
    if evidence.divides_its_input():
        raise evidence.refusal(
            "the graph divides its input by 255 itself (an export with built-in pre-processing)",
            "export it without that (DAMO-YOLO: without --with-preprocess)",
        )
    defaults = FAMILY_DEFAULTS[family]
    return ModelSpec(
        family=family,
        names=names,
        imgsz=evidence.size,
        stride=stride,
        preprocess=defaults.preprocess,
        head=head,
        iou=defaults.iou,
        max_det=defaults.max_det,
        source=f"inferred: {because}",
    )
