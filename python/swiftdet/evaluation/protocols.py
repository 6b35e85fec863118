"""Evaluation protocols as data: pixels and thresholds behind a published figure. Figures of two do not compare."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal, TypeAlias

from swiftdet.errors import InvalidArgument
from swiftdet.spec import Interpolation, ModelSpec

ResizeRule: TypeAlias = Literal["rectangular", "letterbox", "letterbox-topleft", "stretch"]

FORCED_SUFFIX = "-forced"
"""Ends the name of a protocol that a model was forced into, so that its figures stay apart."""


@dataclass(frozen=True, kw_only=True)
class Resize:
    """How an image becomes the network's input.

    Attributes:
        rule: "rectangular": the images are sorted by height / width and cut into groups, each with a shape of its own
            (`swiftdet.evaluation.rectangular`); the others are modes of `swiftdet.Preprocess`, at one size for all.
        shrink, enlarge: OpenCV's interpolation, by whether the image becomes smaller or larger.
        pad_value: grey level of the border; None where there is none.
        group: images that share a shape; None: all.
        extra_strides: what the sides of a group's shape are padded by, in strides of the network.
    """

    rule: ResizeRule
    shrink: Interpolation = "linear"
    enlarge: Interpolation = "linear"
    pad_value: int | None = 114
    group: int | None = None
    extra_strides: float | None = None


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How detections are made for scoring.

    Attributes:
        name: as recorded with a result.
        family: that it belongs to.
        conf, iou, max_det, multi_label: options of the detector; of its boxes COCO's rules then take 100 a class.
        resize: from image to input.
        box_decimals, score_decimals: what predictions are rounded to; None: not at all.
        source: where it is written down.
        deviations: what is known to differ here from the source.
    """

    name: str
    family: str
    conf: float
    iou: float
    max_det: int
    multi_label: bool = True
    resize: Resize
    box_decimals: int | None = None
    score_decimals: int | None = None
    source: str
    deviations: tuple[str, ...] = ()


_YOLOV7 = "test.py of github.com/WongKinYiu/yolov7 at a207844"
_DAMO_YOLO = "configurations and tools/eval.py of github.com/tinyvision/DAMO-YOLO at 319572e"
_CLIPPED = "boxes are clipped to the image, which the source does not do"
_STRETCH = Resize(rule="stretch", pad_value=None)

PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            name="yolov7",
            family="yolov7",
            conf=0.001,
            iou=0.65,
            max_det=300,
            resize=Resize(rule="rectangular", shrink="area", group=32, extra_strides=0.5),
            box_decimals=3,
            score_decimals=5,
            source=f"{_YOLOV7}, batches of 32",
            deviations=(
                "images of equal height / width are taken in the order of their names; the source leaves it open",
            ),
        ),
        Protocol(
            name="yolov7-fixed",
            family="yolov7",
            conf=0.001,
            iou=0.65,
            max_det=300,
            resize=Resize(rule="letterbox"),
            box_decimals=3,
            score_decimals=5,
            source=f"thresholds of {_YOLOV7}, letterbox of its detect.py",
            deviations=("one size for all images, resized with INTER_LINEAR, in place of rectangular batches",),
        ),
        Protocol(
            name="damo-yolo",
            family="damo-yolo",
            conf=0.05,
            iou=0.7,
            max_det=500,
            resize=_STRETCH,
            source=f"{_DAMO_YOLO}, T to L",
            deviations=(_CLIPPED,),
        ),
        Protocol(
            name="damo-yolo-nano",
            family="damo-yolo",
            conf=0.03,
            iou=0.65,
            max_det=500,
            resize=_STRETCH,
            source=f"{_DAMO_YOLO}, Ns to N",
            deviations=(_CLIPPED,),
        ),
        Protocol(
            name="ultralytics",
            family="ultralytics",
            conf=0.001,
            iou=0.7,
            max_det=300,
            resize=Resize(rule="letterbox"),
            box_decimals=3,
            score_decimals=5,
            source="defaults of val in Ultralytics 8 for exports of a fixed size (rect=False)",
            deviations=(
                "the resized side is rounded to the nearest px, the source rounds it up",
                "models of open size have the same fixed size here; the source gives them rectangular batches",
            ),
        ),
    )
}
"""By name."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The protocol of an evaluation, and why it is this one.

    Attributes:
        protocol: as it will be applied.
        reason: in a few words.
    """

    protocol: Protocol
    reason: str


def choose(name: str, spec: ModelSpec, *, dynamic_size: bool, force: bool = False) -> Choice:
    """The protocol `name`; for "auto" the one of the detector's family.

    Args:
        name: a key of `PROTOCOLS`, or "auto".
        spec: the detector's description.
        dynamic_size: calls may choose a size, which rectangular batches need.
        force: accept a protocol whose geometry is not the model's; the result then keeps the model's own geometry, and
            is labelled as forced.

    Raises:
        InvalidArgument: the protocol contradicts the description and is not forced.
    """
    if name == "auto":
        return _of_the_family(spec, dynamic_size=dynamic_size)
    protocol = PROTOCOLS[name]
    fault = _contradiction(protocol, spec, dynamic_size=dynamic_size)
    if fault is None:
        return Choice(protocol=protocol, reason="asked for")
    if not force:
        raise InvalidArgument(
            f"protocol: {name} {fault}; take auto, or force it to have its thresholds with the model's own geometry, "
            f"labelled {name}{FORCED_SUFFIX}"
        )
    own = spec.preprocess
    forced = dataclasses.replace(
        protocol,
        name=name + FORCED_SUFFIX,
        resize=Resize(
            rule=own.mode,
            shrink=own.interpolation,
            enlarge=own.interpolation,
            pad_value=None if own.mode == "stretch" else own.pad_value,
        ),
        deviations=(*protocol.deviations, f"forced: {name} {fault}"),
    )
    return Choice(protocol=forced, reason="forced")


def _of_the_family(spec: ModelSpec, *, dynamic_size: bool) -> Choice:
    if spec.family == "yolov7":
        fault = _contradiction(PROTOCOLS["yolov7"], spec, dynamic_size=dynamic_size)
        if fault is None:
            return Choice(protocol=PROTOCOLS["yolov7"], reason="the model takes any size")
        protocol, reason = PROTOCOLS["yolov7-fixed"], f"yolov7 {fault}"
    elif spec.family == "damo-yolo" and spec.iou == PROTOCOLS["damo-yolo-nano"].iou:
        protocol, reason = PROTOCOLS["damo-yolo-nano"], "the model's IoU is that of the nano variants"
    else:
        protocol, reason = PROTOCOLS[spec.family], "that of the model's family"
    fault = _contradiction(protocol, spec, dynamic_size=dynamic_size)
    if fault is not None:
        raise InvalidArgument(f"protocol: that of the model's family, {protocol.name}, {fault}; name one, and force it")
    return Choice(protocol=protocol, reason=reason)


def _contradiction(protocol: Protocol, spec: ModelSpec, *, dynamic_size: bool) -> str | None:
    """What of the protocol's geometry the model cannot have, in words; None: nothing."""
    resize, own = protocol.resize, spec.preprocess
    rectangular = resize.rule == "rectangular"
    mode = "letterbox" if rectangular else resize.rule
    if own.mode != mode:
        return f"needs a model with {mode} pre-processing, this one has {own.mode}"
    if own.mode != "stretch" and own.pad_value != resize.pad_value:
        return f"pads with {resize.pad_value}, the model's description with {own.pad_value}"
    if rectangular:
        if not dynamic_size:
            return f"needs a model of open size, this one is fixed at {spec.imgsz[0]}x{spec.imgsz[1]}"
        if spec.imgsz[0] != spec.imgsz[1]:
            return f"needs a square size, got {spec.imgsz[0]}x{spec.imgsz[1]}"
    elif own.interpolation != resize.shrink:
        return f"resizes with {resize.shrink} interpolation, the model's description with {own.interpolation}"
    return None
