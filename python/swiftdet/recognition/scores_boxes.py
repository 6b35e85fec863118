"""Scores and boxes in two tensors: DAMO-YOLO's default export, and graphs cut before their suppression."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from swiftdet.recognition.families import anchor_family, make_spec
from swiftdet.recognition.shapes import ANCHORS_PER_CELL, levels_of
from swiftdet.spec import Head

if TYPE_CHECKING:
    from swiftdet.engines.signature import Port
    from swiftdet.recognition.evidence import Evidence
    from swiftdet.spec import BoxFormat, ModelSpec

_ADVICE = "pass --family damo-yolo (stretched image, 0..255) or --family ultralytics (letterbox, 0..1)"


def read_scores_boxes(evidence: Evidence) -> ModelSpec:
    """Scores [N, P, C] or [N, C, P] and boxes [N, P, 4] or [N, P, 1, 4], in any order.

    Raises:
        ModelError: shapes that are no such pair, a number of predictions of no known detector, or a family that
            nothing tells.
    """
    scores, boxes = _tell_apart(evidence)
    predictions = boxes.shape[1]
    class_major = _class_major(evidence, scores, predictions)
    classes = scores.shape[1] if class_major else scores.shape[2]
    anchored = levels_of(predictions, evidence.size, anchors=ANCHORS_PER_CELL)
    free = levels_of(predictions, evidence.size, anchors=1)
    if anchored is None and free is None and evidence.family is None:
        raise evidence.refusal(
            f"{predictions} predictions: neither one nor three per cell of the levels 8, 16, 32 (and 64, or 4)",
            "a detector that swiftdet does not know; pass --family if it is one of a known family",
        )
    family, box_format, because = _family(evidence, scores, boxes, anchored=anchored is not None)
    head = Head(
        layout="scores_boxes",
        num_classes=classes,
        outputs=(scores.name, boxes.name),
        box_format=box_format,
        scores_are_logits=evidence.cut is not None and evidence.cut.scores_are_logits,
        scores_class_major=class_major,
    )
    if evidence.cut is not None:
        because = f"cut before {evidence.cut.op}; {because}"
    stride = max(anchored or free or (32,))
    return make_spec(evidence, family, head, stride=stride, because=because)


def _tell_apart(evidence: Evidence) -> tuple[Port, Port]:
    """(scores, boxes). A cut knows; else the last dimension tells, and with four classes the names or the sigmoid."""
    first, second = evidence.outputs
    if evidence.cut is not None:
        scores, boxes = (first, second) if first.name == evidence.cut.scores else (second, first)
        if not _may_be_boxes(boxes) and _may_be_boxes(scores) and evidence.cut.op != "NonMaxSuppression":
            scores, boxes = boxes, scores  # never by name: an official export labels them the wrong way round
        candidates = [boxes] if _may_be_boxes(boxes) else []
    else:
        candidates = [port for port in (first, second) if _may_be_boxes(port)]
    if not candidates:
        raise evidence.refusal("two outputs, neither of which holds boxes [N, P, 4]")
    if len(candidates) == 2:
        named = [port for port in candidates if re.search(r"box|reg", port.name, re.IGNORECASE)]
        plain = [port for port in candidates if not evidence.after_sigmoid(port.name)]
        candidates = named if len(named) == 1 else plain
        if len(candidates) != 1:
            raise evidence.refusal(
                "two outputs that could both be boxes, or the scores of four classes",
                "name the outputs 'scores' and 'boxes' when exporting",
            )
    boxes = candidates[0]
    return (second if boxes is first else first), boxes


def _may_be_boxes(port: Port) -> bool:
    shape = port.shape
    return (len(shape) == 3 and shape[2] == 4) or (len(shape) == 4 and shape[2:] == (1, 4))


def _class_major(evidence: Evidence, scores: Port, predictions: int) -> bool:
    """True for scores [N, C, P]."""
    if len(scores.shape) != 3 or predictions not in scores.shape[1:]:
        raise evidence.refusal(f"no scores for {predictions} boxes: {scores.name!r} has the shape {list(scores.shape)}")
    if evidence.cut is not None:
        return evidence.cut.scores_class_major
    return scores.shape[1] != predictions


def _family(evidence: Evidence, scores: Port, boxes: Port, *, anchored: bool) -> tuple[str, BoxFormat, str]:
    """Family, format of the boxes, and the reason.

    DAMO-YOLO emits corners, whatever its end-to-end exports tell the suppression: `box_coding` 1 and the conversion
    to corners in them are mistakes of the exporter (issues 102 and 127 of its repository).
    """
    cut, metadata = evidence.cut, evidence.metadata
    declared: BoxFormat = cut.box_format if cut is not None else "xyxy"
    if anchored:
        return anchor_family(evidence), declared, "three predictions per cell: an anchor head"
    one_tensor = evidence.slices_of_one_tensor(scores.name, boxes.name)
    family = evidence.family or ("ultralytics" if metadata.ultralytics else evidence.scope_family())
    reason = "as asked for" if evidence.family else "by its metadata and names"
    if family is None and not one_tensor and (cut is None or cut.box_format_is_claim or "BatchedNMS" in cut.op):
        family, reason = "damo-yolo", "one prediction per cell, scores and boxes from separate branches"
    if family is None or (family == "yolov7" and not evidence.family):
        raise evidence.refusal("one prediction per cell: DAMO-YOLO, or another detector behind a suppression", _ADVICE)
    if family == "damo-yolo":
        wrong = cut is not None and cut.box_format_is_claim
        return family, "xyxy", f"{reason}; corner boxes" + (", although declared as centres" if wrong else "")
    if cut is None:
        raise evidence.refusal(
            f"two outputs of {family}: whether the boxes are corners or centres is not in the file",
            "export without splitting scores and boxes",
        )
    return family, declared, f"{reason}; boxes as declared"
