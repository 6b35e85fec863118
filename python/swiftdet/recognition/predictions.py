"""One tensor of predictions: rows (YOLOv7 --grid, YOLOv5), columns (Ultralytics v8, 11), final detections."""

from __future__ import annotations

from typing import TYPE_CHECKING

from swiftdet.recognition.families import anchor_family, make_spec
from swiftdet.recognition.shapes import ANCHORS_PER_CELL, levels_of
from swiftdet.spec import Head

if TYPE_CHECKING:
    from swiftdet.recognition.evidence import Evidence
    from swiftdet.spec import ModelSpec

_MAX_DETECTIONS = 10_000
_COCO_CLASSES = 80


def read_predictions(evidence: Evidence, shape: tuple[int, ...], name: str) -> ModelSpec:
    """[N, P, 5+C], [N, P, 4+C], [N, 4+C, P], [N, 5+C, P] or [N, M, 6].

    Raises:
        ModelError: a number of predictions of no known detector, class names that contradict the shape, or two
            readings that would both fit.
    """
    _, rows, columns = shape
    anchored_rows = levels_of(rows, evidence.size, anchors=ANCHORS_PER_CELL)
    free_rows = levels_of(rows, evidence.size, anchors=1)
    free_columns = levels_of(columns, evidence.size, anchors=1)
    if sum(found is not None for found in (anchored_rows or free_rows, free_columns)) > 1:
        raise evidence.refusal("both dimensions could count the predictions", "use another input size")
    if anchored_rows is not None:
        return _anchored_rows(evidence, columns, name, anchored_rows)
    if free_rows is not None:
        return _free_rows(evidence, columns, name, free_rows)
    if free_columns is not None:
        return _columns(evidence, rows, name, free_columns)
    if columns == 6 and rows <= _MAX_DETECTIONS:
        return _detections(evidence, name)
    if evidence.family == "yolov7" and rows > columns:
        return _anchored_rows(evidence, columns, name, (8, 16, 32))
    if evidence.family == "ultralytics" and columns > rows:
        return _columns(evidence, rows, name, (8, 16, 32))
    raise evidence.refusal(
        f"{rows} x {columns} values: neither one nor three predictions per cell of the levels 8, 16, 32 (and 64, or 4) "
        f"at {evidence.size[0]}x{evidence.size[1]}, nor final detections of 6 values",
        "a transformer detector, another task, or an unusual head; pass --family yolov7 for rows [N, P, 5+C] or "
        "--family ultralytics for columns [N, 4+C, P]",
    )


def _anchored_rows(evidence: Evidence, values: int, name: str, strides: tuple[int, ...]) -> ModelSpec:
    if values < 6:
        raise evidence.refusal(f"{values} values per prediction; a box, objectness and a class need 6")
    head = Head(layout="rows", num_classes=values - 5, outputs=(name,), has_objectness=True)
    because = "three predictions per cell in rows: YOLOv7 --grid or YOLOv5"
    return make_spec(evidence, anchor_family(evidence), head, stride=_stride(evidence, strides), because=because)


def _free_rows(evidence: Evidence, values: int, name: str, strides: tuple[int, ...]) -> ModelSpec:
    """Rows with one prediction per cell: columns transposed, or YOLOX and YOLOv6, whose boxes may be undecoded."""
    names, family = evidence.metadata.names, evidence.family
    objectness = len(names) == values - 5 if names is not None else values == _COCO_CLASSES + 5
    plain = len(names) == values - 4 if names is not None else values == _COCO_CLASSES + 4
    if family is None and (objectness or not plain):
        raise evidence.refusal(
            f"rows of {values} values, one per cell: transposed Ultralytics (4+C), or YOLOX or YOLOv6 (5+C)",
            "pass --family ultralytics for box and classes, --family yolov7 for box, objectness and classes "
            "(decoded boxes)",
        )
    with_objectness = family == "yolov7" or (family == "ultralytics" and names is not None and objectness)
    head = Head(
        layout="rows",
        num_classes=values - (5 if with_objectness else 4),
        outputs=(name,),
        has_objectness=with_objectness,
    )
    because = "one prediction per cell in rows"
    found = "yolov7" if family == "yolov7" else "ultralytics"
    return make_spec(evidence, found, head, stride=_stride(evidence, strides), because=because)


def _columns(evidence: Evidence, values: int, name: str, strides: tuple[int, ...]) -> ModelSpec:
    names = evidence.metadata.names
    if evidence.metadata.nms_done:
        raise evidence.refusal("the metadata says that the outputs are final detections, the shape says they are not")
    with_objectness = names is not None and len(names) == values - 5
    if values < 5:
        raise evidence.refusal(f"{values} values per prediction; a box and a class need 5")
    head = Head(
        layout="columns",
        num_classes=values - (5 if with_objectness else 4),
        outputs=(name,),
        has_objectness=with_objectness,
    )
    because = "one prediction per cell in columns: Ultralytics v8, 11"
    return make_spec(evidence, "ultralytics", head, stride=_stride(evidence, strides), because=because)


def _detections(evidence: Evidence, name: str) -> ModelSpec:
    metadata = evidence.metadata
    # A transformer detector of two classes has the same shape, but centres in units of the image.
    described = metadata.description.lower().replace("-", "")
    transformer = evidence.uses("LayerNormalization") or "rtdetr" in described
    if transformer and not metadata.nms_done:
        raise evidence.refusal("six values per query of a transformer detector (RT-DETR or the like)")
    classes = len(metadata.names) if metadata.names is not None else _COCO_CLASSES
    head = Head(layout="detections", num_classes=classes, outputs=(name,), box_format="xyxy")
    because = "final detections x1 y1 x2 y2 score class" + ("" if metadata.names else "; COCO's classes assumed")
    return make_spec(evidence, "ultralytics", head, stride=metadata.stride or 32, because=because)


def _stride(evidence: Evidence, strides: tuple[int, ...]) -> int:
    return max(evidence.metadata.stride or 0, *strides)
