"""What a detector's file means: its classes, its pre-processing, the layout of its raw outputs.

A `ModelSpec` travels with the model (as one JSON value in the ONNX metadata), beside an engine, and in every result
file. When a file has none, `recognition` infers one from names, shapes and metadata.
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from typing import Any, Literal

from swiftdet.errors import ModelError

ResizeMode = Literal["letterbox", "letterbox-topleft", "stretch"]
Interpolation = Literal["linear", "area"]
ChannelOrder = Literal["rgb", "bgr"]
Layout = Literal["anchor_maps", "rows", "columns", "scores_boxes", "distribution_maps", "detections"]
BoxFormat = Literal["xyxy", "cxcywh"]

FAMILIES = ("yolov7", "damo-yolo", "ultralytics")

METADATA_KEY = "swiftdet.spec"
"""Key of the JSON form in the metadata of an ONNX model."""

_VERSION = 1
_MAX_JSON_CHARS = 4 << 20
MAX_SIDE = 16384
"""The largest side of a network's input, px."""


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """From source pixels to the network's float32 [3, H, W] input: `(u8 / divisor - mean) / std`.

    Attributes:
        mode: how the image fills the input: aspect kept and centred, kept and at the top left, or stretched.
        interpolation: OpenCV's INTER_LINEAR or INTER_AREA on uint8, reproduced exactly.
        pad_value: grey level of the border, 0..255.
        divisor: 255 for the 0..1 range of YOLOv7 and Ultralytics, 1 for DAMO-YOLO's 0..255.
        mean: subtracted after the division, in the network's channel order.
        std: divides last, in the network's channel order.
        channel_order: of the network's planes. All families are trained on RGB; "bgr" is for networks whose first
            convolution was turned round.
    """

    mode: ResizeMode = "letterbox"
    interpolation: Interpolation = "linear"
    pad_value: int = 114
    divisor: float = 255.0
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    channel_order: ChannelOrder = "rgb"


@dataclass(frozen=True, kw_only=True)
class Head:
    """Layout of the raw outputs. N = batch, P = predictions, C = classes, A = anchors per cell.

    Attributes:
        layout: one of
            `anchor_maps` - per level logits [N, A*(5+C), h, w] or [N, A, h, w, 5+C] (YOLOv7 raw);
            `rows` - [N, P, 5+C] with objectness or [N, P, 4+C] without (YOLOv7 --grid, YOLOv5);
            `columns` - [N, 4+C, P], or [N, 5+C, P] with objectness (Ultralytics v8, 11);
            `scores_boxes` - scores [N, P, C] or [N, C, P], then boxes [N, P, 4] (DAMO-YOLO, cut end-to-end graphs);
            `distribution_maps` - per level scores [N, C, h, w], then per level [N, 4*(reg_max+1), h, w] (ZeroHead);
            `detections` - [N, M, 6] x1 y1 x2 y2 score class, NMS already done.
        num_classes: C.
        outputs: tensor names in the order above, levels by ascending stride.
        box_format: of rows, columns and scores_boxes; boxes are in network px.
        has_objectness: score = objectness * class; with C = 1 the objectness alone.
        scores_are_logits: the sigmoid is still to be applied.
        scores_class_major: scores_boxes with scores [N, C, P].
        strides: px per cell of each level, for the maps.
        anchors: (width, height) px, level by level, for anchor_maps.
        reg_max: bins of a side minus 1, for distribution_maps.
    """

    layout: Layout
    num_classes: int
    outputs: tuple[str, ...]
    box_format: BoxFormat = "cxcywh"
    has_objectness: bool = False
    scores_are_logits: bool = False
    scores_class_major: bool = False
    strides: tuple[int, ...] = ()
    anchors: tuple[tuple[float, float], ...] = ()
    reg_max: int = 0


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """Everything about a detector that its weights do not say.

    Attributes:
        family: "yolov7", "damo-yolo" or "ultralytics".
        names: class names; index = class id.
        imgsz: (height, width) px of the network's input.
        stride: the input's sides are multiples of this where they are free.
        preprocess: from image to input.
        head: from outputs to boxes.
        conf, iou, max_det: what the family's own demo uses; an evaluation protocol brings its own.
        multi_label: a prediction may yield several classes.
        source: how this description came about: "metadata", "inferred: ...".
        synthetic: the weights are made up; fit for latency, not for accuracy.
    """

    family: str
    names: tuple[str, ...]
    imgsz: tuple[int, int]
    stride: int
    preprocess: Preprocess
    head: Head
    conf: float = 0.25
    iou: float = 0.7
    max_det: int = 300
    multi_label: bool = False
    source: str = "metadata"
    synthetic: bool = False
    version: int = _VERSION

    def to_json(self) -> str:
        """The description as one line of JSON; `from_json` restores it."""
        return json.dumps(dataclasses.asdict(self), separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> ModelSpec:
        """Restores a description.

        Raises:
            ModelError: not JSON, fields missing or unknown, a value outside its range.
        """
        if len(text) > _MAX_JSON_CHARS:
            raise ModelError(f"model description: {len(text)} characters; at most {_MAX_JSON_CHARS} are read")
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as e:
            raise ModelError(f"model description: expected JSON, got {text[:60]!r} ({e})") from e
        if not isinstance(data, dict):
            raise ModelError(f"model description: expected a JSON object, got {type(data).__name__}")
        spec: ModelSpec = _build(cls, data, "")
        spec.check()
        return spec

    def check(self) -> None:
        """Checks the description against itself.

        Raises:
            ModelError: two fields contradict each other, or a value is outside its range.
        """
        if self.version != _VERSION:
            raise _error(f"version {self.version}; this swiftdet reads version {_VERSION}: update it")
        if self.family not in FAMILIES:
            raise _error(f"family must be one of {', '.join(FAMILIES)}, got {self.family!r:.40}")
        if not all(1 <= side <= MAX_SIDE for side in self.imgsz):
            raise _error(f"imgsz must be 1 to {MAX_SIDE} px a side, got {self.imgsz}")
        if not 1 <= self.stride <= MAX_SIDE:
            raise _error(f"stride must be 1 to {MAX_SIDE}, got {self.stride}")
        if not (0.0 <= self.conf <= 1.0 and 0.0 <= self.iou <= 1.0 and self.max_det >= 1):
            raise _error(
                f"conf and iou must be in [0, 1] and max_det positive, got {self.conf}, {self.iou}, {self.max_det}"
            )
        for text in (*self.names, self.source):  # they end up on terminals, where they could carry commands
            if not text.isprintable():
                raise _error(f"class names and source must be printable text, got {text!r:.60}")
        _check_preprocess(self.preprocess)
        _check_head(self.head, len(self.names))


def _error(what: str) -> ModelError:
    return ModelError(f"model description: {what}")


def _check_preprocess(preprocess: Preprocess) -> None:
    if not 0 <= preprocess.pad_value <= 255:
        raise _error(f"pad_value must be 0 to 255, got {preprocess.pad_value}")
    if not (math.isfinite(preprocess.divisor) and preprocess.divisor > 0):
        raise _error(f"divisor must be a positive number, got {preprocess.divisor}")
    if not all(math.isfinite(v) for v in (*preprocess.mean, *preprocess.std)) or 0.0 in preprocess.std:
        raise _error(f"mean must be finite and std not zero, got {preprocess.mean} and {preprocess.std}")


def _check_head(head: Head, num_names: int) -> None:
    if head.num_classes < 1 or num_names != head.num_classes:
        raise _error(f"{num_names} class names for a head of {head.num_classes} classes")
    levels = len(head.strides)
    expected = {"anchor_maps": levels, "distribution_maps": 2 * levels, "scores_boxes": 2}.get(head.layout, 1)
    if expected < 1 or len(head.outputs) != expected:
        raise _error(
            f"layout {head.layout!r} needs {max(expected, 1)} outputs, got {len(head.outputs)} "
            f"({', '.join(head.outputs)})"
        )
    if len(set(head.outputs)) != len(head.outputs):
        raise _error(f"an output is named twice ({', '.join(head.outputs)})")
    ascending = all(a < b for a, b in zip(head.strides, head.strides[1:], strict=False))
    if not ascending or any(not 1 <= s <= MAX_SIDE for s in head.strides):
        raise _error(f"strides must be positive and ascending, got {head.strides}")
    if head.layout == "anchor_maps":
        if not head.anchors or len(head.anchors) % levels != 0:
            raise _error(f"{len(head.anchors)} anchors do not divide among {levels} levels")
        if not all(math.isfinite(side) and side > 0 for anchor in head.anchors for side in anchor):
            raise _error(f"anchors must be positive, got {head.anchors}")
    if head.layout == "distribution_maps" and not 1 <= head.reg_max <= 255:
        raise _error(f"reg_max must be 1 to 255, got {head.reg_max}")


def _build(cls: type[Any], data: dict[str, Any], where: str) -> Any:
    """Makes the frozen dataclass `cls` from parsed JSON, checking each field's type."""
    fields = {f.name: f for f in dataclasses.fields(cls)}
    unknown = sorted(set(data) - set(fields))
    if unknown:
        raise ModelError(f"model description: unknown field {where}{unknown[0]}; written by a newer swiftdet?")
    values: dict[str, Any] = {}
    for name, f in fields.items():
        if name not in data:
            if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING:
                raise ModelError(f"model description: field {where}{name} is missing")
            continue
        values[name] = _convert(str(f.type), data[name], f"{where}{name}")
    return cls(**values)


_CHOICES: dict[str, tuple[str, ...]] = {
    "ResizeMode": ("letterbox", "letterbox-topleft", "stretch"),
    "Interpolation": ("linear", "area"),
    "ChannelOrder": ("rgb", "bgr"),
    "Layout": ("anchor_maps", "rows", "columns", "scores_boxes", "distribution_maps", "detections"),
    "BoxFormat": ("xyxy", "cxcywh"),
}


def _convert(kind: str, value: Any, where: str) -> Any:
    """One JSON value as the field type `kind` (the annotation's text)."""
    if kind == "Preprocess" and isinstance(value, dict):
        return _build(Preprocess, value, where + ".")
    if kind == "Head" and isinstance(value, dict):
        return _build(Head, value, where + ".")
    if kind in _CHOICES and value in _CHOICES[kind]:
        return value
    if kind == "bool" and isinstance(value, bool):
        return value
    if kind == "int" and isinstance(value, int) and not isinstance(value, bool):
        return value
    if kind == "float" and isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e30:
        return float(value)
    if kind == "str" and isinstance(value, str):
        return value
    if kind.startswith("tuple[") and isinstance(value, list):
        inner = kind.removeprefix("tuple[").removesuffix("]")
        if inner.endswith(", ..."):
            return tuple(_convert(inner.removesuffix(", ..."), v, where) for v in value)
        kinds = inner.split(", ")
        if len(kinds) == len(value):
            return tuple(_convert(k, v, where) for k, v in zip(kinds, value, strict=True))
    expected = " | ".join(_CHOICES[kind]) if kind in _CHOICES else kind
    raise ModelError(f"model description: field {where}: expected {expected}, got {value!r:.60}")
