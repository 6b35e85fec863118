"""Raw maps of anchor heads: YOLOv7 (three or four levels) and YOLOv5.

Such a file does not carry its anchors. They follow from the network: the width of the last convolutions and the
kernel before them differ between YOLOv7 (and x), YOLOv7-tiny and YOLOv5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from swiftdet.recognition.families import anchor_family, make_spec
from swiftdet.recognition.shapes import ANCHORS_PER_CELL, cells_of_level
from swiftdet.spec import Head

if TYPE_CHECKING:
    from swiftdet.engines.signature import Port
    from swiftdet.recognition.evidence import Evidence
    from swiftdet.spec import ModelSpec

Anchors: TypeAlias = tuple[tuple[float, float], ...]

# (width, height) px by level, finest first. Source: the official configuration files.
ANCHORS_YOLOV7: Anchors = (
    (12, 16), (19, 36), (40, 28), (36, 75), (76, 55), (72, 146), (142, 110), (192, 243), (459, 401),
)  # fmt: skip
ANCHORS_TINY: Anchors = (
    (10, 13), (16, 30), (33, 23), (30, 61), (62, 45), (59, 119), (116, 90), (156, 198), (373, 326),
)  # fmt: skip
ANCHORS_P6: Anchors = (
    (19, 27), (44, 40), (38, 94), (96, 68), (86, 152), (180, 137),
    (140, 301), (303, 264), (238, 542), (436, 615), (739, 380), (925, 792),
)  # fmt: skip

_STRIDES = ((8, 16, 32), (8, 16, 32, 64))
# Input channels of the last convolution of each level.
_YOLOV7_WIDTHS = {(256, 512, 1024): "yolov7", (320, 640, 1280): "yolov7x"}
_TINY_WIDTHS = (128, 256, 512)
_YOLOV5_WIDTHS = {(64, 128, 256), (128, 256, 512), (192, 384, 768), (256, 512, 1024), (320, 640, 1280)}


def read_anchor_maps(evidence: Evidence) -> ModelSpec:
    """Three or four levels of [N, 3, h, w, 5+C] or [N, 3*(5+C), h, w].

    Raises:
        ModelError: levels that do not fit the input, unequal channels, or anchors that nothing tells.
    """
    by_size = sorted(evidence.outputs, key=lambda port: -_height_width(port)[0])
    found = [_height_width(port) for port in by_size]
    strides = next((s for s in _STRIDES if found == [cells_of_level(evidence.size, stride) for stride in s]), None)
    if strides is None:
        raise evidence.refusal(f"maps of {found} cells, expected those of strides 8, 16, 32 (and 64)")
    widths = {_predictions_per_anchor(evidence, port) for port in by_size}
    if len(widths) != 1:
        raise evidence.refusal(f"the levels disagree about the values per anchor ({sorted(widths)})")
    values = widths.pop()
    if values < 6:
        raise evidence.refusal(f"{values} values per anchor; a box, objectness and a class need 6")
    if any(evidence.after_sigmoid(port.name) for port in by_size):
        raise evidence.refusal("the sigmoid is already applied to the raw maps", "export them before it, or --grid")
    anchors, family, because = _anchors(evidence, by_size)
    head = Head(
        layout="anchor_maps",
        num_classes=values - 5,
        outputs=tuple(port.name for port in by_size),
        has_objectness=True,
        scores_are_logits=True,
        strides=strides,
        anchors=anchors,
    )
    return make_spec(evidence, family, head, stride=strides[-1], because=f"raw anchor maps; {because}")


def _height_width(port: Port) -> tuple[int, int]:
    return (port.shape[2], port.shape[3])


def _predictions_per_anchor(evidence: Evidence, port: Port) -> int:
    if len(port.shape) == 5:
        if port.shape[1] != ANCHORS_PER_CELL:
            raise evidence.refusal(f"{port.shape[1]} anchors per cell, expected {ANCHORS_PER_CELL}")
        return port.shape[4]
    if port.shape[1] % ANCHORS_PER_CELL != 0:
        raise evidence.refusal(f"{port.shape[1]} channels do not divide among {ANCHORS_PER_CELL} anchors")
    return port.shape[1] // ANCHORS_PER_CELL


def _anchors(evidence: Evidence, levels: list[Port]) -> tuple[Anchors, str, str]:
    """Anchors, family and the reason, from what feeds the levels."""
    family = anchor_family(evidence)
    convolutions = [evidence.detect_convolution(port.name) for port in levels]
    known = [c for c in convolutions if c is not None]
    complete = len(known) == len(levels)
    if len(levels[0].shape) == 4 and not complete and evidence.family is None:
        raise evidence.refusal(
            "maps that no single 1x1 convolution makes: an anchor head or another one",
            "pass --family yolov7 (or yolov7-tiny) if it is one",
        )
    if len(levels) == 4:
        return ANCHORS_P6, family, "four levels: the anchors of the P6 models"
    widths = tuple(c.width for c in known)
    three = complete and all(c.fed_by == 3 for c in known)
    one = complete and all(c.fed_by == 1 for c in known)
    if evidence.variant == "yolov7-tiny":
        if three and widths in _YOLOV7_WIDTHS:
            raise evidence.refusal(f"yolov7-tiny was asked for, but the head has the widths {widths} of yolov7")
        return ANCHORS_TINY, family, "the anchors of yolov7-tiny, as asked for"
    if three and widths in _YOLOV7_WIDTHS:
        return ANCHORS_YOLOV7, family, f"head widths {widths} behind 3x3 convolutions: {_YOLOV7_WIDTHS[widths]}"
    if three and widths == _TINY_WIDTHS:
        return ANCHORS_TINY, family, f"head widths {widths} behind 3x3 convolutions: yolov7-tiny"
    if evidence.uses("LeakyRelu"):
        return ANCHORS_TINY, family, "leaky ReLU: yolov7-tiny"
    if one and (widths in _YOLOV5_WIDTHS or evidence.metadata.ultralytics):
        return ANCHORS_TINY, family, f"head widths {widths} behind 1x1 convolutions: YOLOv5"
    if evidence.variant == "yolov7":
        return ANCHORS_YOLOV7, family, "the anchors of yolov7, as asked for"
    raise evidence.refusal(
        f"raw maps do not carry their anchors, and this head (widths {widths or 'unknown'}) is of no known model",
        "pass --family yolov7 (anchors of yolov7 and yolov7x) or --family yolov7-tiny, or export with --grid",
    )
