"""The detectors that swiftdet knows: their names, sizes, published accuracy, and the networks themselves."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from swiftdet.errors import InvalidArgument
from swiftdet.zoo.catalog import COUNTING, DEMOS, VARIANTS, PublishedAP, VariantInfo

if TYPE_CHECKING:
    import onnx

    from swiftdet.spec import ChannelOrder
    from swiftdet.zoo.parameters import State

__all__ = ["COUNTING", "PublishedAP", "VariantInfo", "build", "demo_names", "identify", "info", "names", "nearest"]

_BY_NAME = {key: variant for variant in (*VARIANTS, *DEMOS) for key in (variant.name, *variant.aliases)}


def names() -> list[str]:
    """The official variants, family by family; aliases are left out."""
    return [variant.name for variant in VARIANTS]


def demo_names() -> list[str]:
    """The demos, whose weights are part of the package: `Detector("demo-yolov7")` needs no file."""
    return [variant.name for variant in DEMOS]


def info(name: str) -> VariantInfo:
    """Size, cost and published accuracy of a variant, by its name or alias.

    Raises:
        InvalidArgument: no such variant; the message names the nearest ones.
    """
    variant = _BY_NAME.get(name)
    if variant is None:
        near = difflib.get_close_matches(name.lower(), _BY_NAME, n=3) or names()
        raise InvalidArgument(f"unknown model {name!r}; did you mean {', '.join(near)}?")
    return variant


def build(
    name: str,
    state: State | None = None,
    *,
    imgsz: int | tuple[int, int] | Literal["dynamic"] | None = None,
    batch: int | Literal["dynamic"] = "dynamic",
    precision: str = "fp32",
    deploy: bool = True,
    head: Literal["raw", "decoded"] = "raw",
    num_classes: int | None = None,
    names: Sequence[str] | None = None,
    channel_order: ChannelOrder = "rgb",
    fold_divisor: bool = False,
) -> onnx.ModelProto:
    """Builds a detector of the zoo as an ONNX model (opset 17, IR version 8) that describes itself in its metadata.

    The input is `images`, float32 [N, 3, H, W], RGB, 0..1 for YOLOv7 and 0..255 for DAMO-YOLO. Raw outputs are float32
    logits: YOLOv7 `p3 p4 p5 [p6]` [N, 3 * (5 + C), h, w]; DAMO-YOLO `cls_p3 cls_p4 cls_p5` [N, C, h, w], then
    `reg_p3 reg_p4 reg_p5` [N, 4 * (reg_max + 1), h, w] with the level scale applied. Decoded outputs: YOLOv7 `output`
    [N, P, 5 + C], rows of cx cy w h (px of the input), objectness and classes; DAMO-YOLO `scores` [N, P, C] and `boxes`
    [N, P, 4], x1 y1 x2 y2 px.

    Args:
        name: a variant or an alias.
        state: a checkpoint's arrays by their official, unfused keys; of float type. Borrowed for the call. Training or
            deploy form is told by the keys; the class count by the head; anchors are taken from it where it has them;
            auxiliary heads and batch counters are ignored. Convolutions already merged with their batch norms or
            branches are taken as they are. None: made-up weights, the same every time, marked as synthetic.
        imgsz: side or (height, width) px, multiples of the largest stride; "dynamic" leaves it open; None: the
            variant's own.
        batch: images per call; "dynamic" leaves it open.
        precision: "fp32", or "fp16": weights and feature maps are float16, while the input, the outputs and a decoded
            head stay float32. Only for the deploy form.
        deploy: True gives the smallest graph that computes the same: batch norms, branches, implicit terms and scales
            merged in float64. False keeps them as nodes of their own, as the official exports do.
        head: "raw" maps, or "decoded" for runtimes without a decoder.
        num_classes: checked against the weights; needed for made-up weights with other classes than COCO's 80. One
            less than a DAMO-YOLO head has drops the last class, which older releases carry for nothing.
        names: of the classes; None: COCO's where there are 80.
        channel_order: of the input's planes. "bgr" turns the first convolution round, which is exact, so that pixels
            in OpenCV's order need no swap; the description tells `Detector`.
        fold_divisor: the first convolution divides by 255 itself, and the input is 0..255 (YOLOv7; DAMO-YOLO's is
            already). Not exact in float32, and labelled in the metadata `swiftdet.build`.

    Raises:
        InvalidArgument: an unknown variant, an option outside its range, or classes that the weights do not have.
        InvalidType: an option or array of the wrong type.
        ModelError: the weights are not those of the variant (says what differs and which variant would fit), or they
            are not finite.

    Thread-safe. Needs about three times the weights in memory.
    """
    from swiftdet.zoo import building  # noqa: PLC0415 - loads NumPy and ONNX, which the catalogue does not need

    return building.build(
        info(name),
        state,
        imgsz=imgsz,
        batch=batch,
        precision=precision,
        deploy=deploy,
        head=head,
        num_classes=num_classes,
        names=names,
        channel_order=channel_order,
        fold_divisor=fold_divisor,
    )


def identify(state: State) -> list[str]:
    """The variants whose layers a checkpoint's keys and shapes fit, YOLOv7 first; empty for none.

    `yolov7-tiny` and `yolov7-tiny-silu` differ in nothing that a checkpoint holds: the released file is the former.
    """
    from swiftdet.zoo import building  # noqa: PLC0415 - as in `build`

    return building.identify(state)


def nearest(state: State) -> tuple[str, str]:
    """The variant that a checkpoint comes closest to, and what differs, in one line."""
    from swiftdet.zoo import building  # noqa: PLC0415 - as in `build`

    return building.nearest(state)
