"""Evaluation protocols as data: the thresholds behind a published figure. Figures of different ones do not compare."""

from __future__ import annotations

from dataclasses import dataclass

from swiftdet.errors import InvalidArgument
from swiftdet.spec import ModelSpec


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How detections are made for scoring.

    Attributes:
        name: as recorded with a result.
        family: that it belongs to.
        conf, iou, max_det, multi_label: options of the detector; boxes a class that COCO's rules then cut to 100.
        source: where it is written down.
    """

    name: str
    family: str
    conf: float
    iou: float
    max_det: int
    multi_label: bool = True
    source: str


PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            name="yolov7-fixed",
            family="yolov7",
            conf=0.001,
            iou=0.65,
            max_det=300,
            source="test.py of github.com/WongKinYiu/yolov7 at a207844, with one size for all images instead of its "
            "rectangular batches",
        ),
        Protocol(
            name="damo-yolo",
            family="damo-yolo",
            conf=0.05,
            iou=0.7,
            max_det=500,
            source="configurations of github.com/tinyvision/DAMO-YOLO at 319572e, T to L",
        ),
        Protocol(
            name="damo-yolo-nano",
            family="damo-yolo",
            conf=0.03,
            iou=0.65,
            max_det=500,
            source="configurations of github.com/tinyvision/DAMO-YOLO at 319572e, Ns to N",
        ),
        Protocol(
            name="ultralytics",
            family="ultralytics",
            conf=0.001,
            iou=0.7,
            max_det=300,
            source="defaults of val in Ultralytics 8",
        ),
    )
}
"""By name. YOLOv7's own protocol with rectangular batches is not among them yet."""


def choose(name: str, spec: ModelSpec) -> Protocol:
    """The protocol `name`; for "auto" the one of the detector's family.

    Raises:
        InvalidArgument: there is no such protocol.
    """
    if name == "auto":
        if spec.family == "damo-yolo" and spec.iou == PROTOCOLS["damo-yolo-nano"].iou:
            return PROTOCOLS["damo-yolo-nano"]
        return next(protocol for protocol in PROTOCOLS.values() if protocol.family == spec.family)
    if name not in PROTOCOLS:
        raise InvalidArgument(f"protocol: expected auto, {', '.join(PROTOCOLS)}, got {name!r:.60}")
    return PROTOCOLS[name]
