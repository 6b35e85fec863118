"""`build`: from the name of a variant and its weights to a checked ONNX model."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from swiftdet import checks
from swiftdet.errors import InvalidArgument, InvalidType, ModelError
from swiftdet.model_files.names import default_names
from swiftdet.recognition.families import FAMILY_DEFAULTS
from swiftdet.spec import METADATA_KEY, ChannelOrder, Head, ModelSpec, Preprocess
from swiftdet.zoo import damo_yolo, decoding, stem, synthetic, yolov7
from swiftdet.zoo.catalog import VariantInfo
from swiftdet.zoo.parameters import Differences, State, differences

if TYPE_CHECKING:
    import onnx

    from swiftdet.recognition.anchor_maps import Anchors
    from swiftdet.zoo.network import Network
    from swiftdet.zoo.onnx_graph import Dims, Graph

ImageSize: TypeAlias = "int | tuple[int, int] | Literal['dynamic'] | None"
Batch: TypeAlias = "int | Literal['dynamic']"
HeadForm = Literal["raw", "decoded"]

BUILD_KEY = "swiftdet.build"
"""Key, in the metadata of a model, of what `build` did to it, as JSON."""

_MAX_SIDE = 16384
_COCO_CLASSES = 80
_NAMES = (*yolov7.ARCHITECTURES, *damo_yolo.ARCHITECTURES)


@dataclass(frozen=True)
class _Detector:
    """A variant with everything that its weights decide.

    Attributes:
        network: the layers, in the form of the weights.
        num_classes: of the head.
        strides: of the levels, px per cell.
        anchors: (width, height) px by level; empty for DAMO-YOLO.
        reg_max: of DAMO-YOLO's box distributions; 0 for YOLOv7.
    """

    network: Network
    num_classes: int
    strides: tuple[int, ...]
    anchors: Anchors = ()
    reg_max: int = 0


def build(
    variant: VariantInfo,
    state: State | None,
    *,
    imgsz: ImageSize,
    batch: Batch,
    precision: str,
    deploy: bool,
    head: HeadForm,
    num_classes: int | None,
    names: Sequence[str] | None,
    channel_order: ChannelOrder,
    fold_divisor: bool,
) -> onnx.ModelProto:
    """See `swiftdet.zoo.build`."""
    if precision not in ("fp32", "fp16"):
        raise InvalidArgument(f"precision: this version builds 'fp32' and 'fp16', got {precision!r}")
    if precision == "fp16" and not deploy:
        raise InvalidArgument("precision: 'fp16' is for the merged graph; leave deploy=True, or take 'fp32'")
    if head not in ("raw", "decoded"):
        raise InvalidArgument(f"head: expected 'raw' or 'decoded', got {head!r}")
    if channel_order not in ("rgb", "bgr"):
        raise InvalidArgument(f"channel_order: expected 'rgb' or 'bgr', got {channel_order!r}")
    checks.switch("fold_divisor", fold_divisor)
    if batch != "dynamic" and (isinstance(batch, bool) or not isinstance(batch, int) or batch < 1):
        raise InvalidArgument(f"batch: expected 'dynamic' or a number of images, got {batch!r}")
    if num_classes is not None and (isinstance(num_classes, bool) or not isinstance(num_classes, int)):
        raise InvalidType(f"num_classes: expected a number of classes, got {num_classes!r:.60}")
    if num_classes is not None and num_classes < 1:
        raise InvalidArgument(f"num_classes: expected 1 or more, got {num_classes}")
    names = None if names is None else tuple(names)
    wanted = num_classes if names is None or num_classes is not None else len(names)
    if state is None:
        detector = _without_weights(variant.name, wanted or _COCO_CLASSES)
        weights: State = synthetic.state(
            detector.network, input_range=255.0 / FAMILY_DEFAULTS[variant.family].preprocess.divisor
        )
    else:
        detector, weights = _with_weights(variant.name, state, wanted)
    size = _size(imgsz, variant, detector.strides[-1])
    preprocess = FAMILY_DEFAULTS[variant.family].preprocess
    label: dict[str, object] = {
        "precision": precision,
        "deploy": deploy,
        "channel_order": channel_order,
        "divisor_folded": 1.0,
    }
    if channel_order == "bgr":
        weights = stem.reverse_channels(detector.network, weights)
        preprocess = dataclasses.replace(preprocess, channel_order="bgr")
    if fold_divisor and preprocess.divisor != 1.0:
        weights = stem.divide_pixels(detector.network, weights, preprocess.divisor)
        label["divisor_folded"] = preprocess.divisor
        preprocess = dataclasses.replace(preprocess, divisor=1.0)
    spec = _describe(variant, detector, size, head, names, preprocess, is_synthetic=state is None)
    metadata = {METADATA_KEY: spec.to_json(), BUILD_KEY: json.dumps(label, separators=(",", ":"))}
    return _write(
        detector,
        weights,
        spec,
        metadata,
        variant.name,
        free_size=imgsz == "dynamic",
        batch=batch,
        deploy=deploy,
        half=precision == "fp16",
    )


def identify(state: State) -> list[str]:
    """The variants that a checkpoint fits; more than one where they differ in nothing that a checkpoint holds."""
    return [name for name in _NAMES if not _differences(name, state)]


def class_count(name: str, state: State) -> int:
    """Classes of the head of a checkpoint that fits the variant `name`."""
    return _in_form_of(name, state).num_classes


def nearest(state: State) -> tuple[str, str]:
    """The variant with the fewest keys and shapes that differ from a checkpoint's, and the differences in one line."""
    name, found = min(((name, _differences(name, state)) for name in _NAMES), key=lambda item: item[1].count)
    return name, found.describe()


# --- Variant and weights ----------------------------------------------------------------------------------------------


def _without_weights(name: str, num_classes: int) -> _Detector:
    if name in yolov7.ARCHITECTURES:
        arch = yolov7.ARCHITECTURES[name]
        return _Detector(yolov7.network(arch, num_classes=num_classes), num_classes, arch.strides, anchors=arch.anchors)
    damo = damo_yolo.ARCHITECTURES[name]
    net = damo_yolo.network(damo, num_classes=num_classes)
    return _Detector(net, num_classes, damo_yolo.STRIDES, reg_max=damo.reg_max)


def _with_weights(name: str, state: State, num_classes: int | None) -> tuple[_Detector, State]:
    """The detector in the form of `state`, and the state to read.

    Raises:
        ModelError: the state does not fit the variant.
        InvalidArgument: the head has another number of classes than asked for.
    """
    state = {key: _array(key, value) for key, value in state.items()}
    detector = _in_form_of(name, state)
    if found := differences(detector.network, state):
        others = [other for other in identify(state) if other != name]
        advice = f"they fit {' and '.join(others)}" if others else "they fit no variant that swiftdet knows"
        raise ModelError(f"these weights are not those of {name}: {found.describe()}. {advice}")
    if num_classes is None or num_classes == detector.num_classes:
        return detector, state
    if name in damo_yolo.ARCHITECTURES and num_classes == detector.num_classes - 1:
        # Older releases carry one class more, which the project's code drops.
        state = damo_yolo.without_last_class(state)
        return _in_form_of(name, state), state
    raise InvalidArgument(f"{num_classes} classes were asked for, but the weights' head has {detector.num_classes}")


def _array(key: str, value: object) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise InvalidType(f"state: expected arrays of numbers by key, {key!r} is {type(value).__name__} {array.dtype}")
    return array


def _differences(name: str, state: State) -> Differences:
    return differences(_in_form_of(name, state).network, state)


def _in_form_of(name: str, state: State) -> _Detector:
    """The variant with the classes, anchors and form that the state's keys and shapes tell."""
    if name in damo_yolo.ARCHITECTURES:
        return _without_weights(name, _channels(state, damo_yolo.CLASS_WEIGHT) or _COCO_CLASSES)
    arch = yolov7.ARCHITECTURES[name]
    training = yolov7.is_training_form(state)
    head = yolov7.head_index(arch, training=training)
    anchors = yolov7.anchors_in(state, arch, head) or arch.anchors
    per_cell = len(anchors) // len(arch.head)
    channels = _channels(state, f"model.{head}.m.0.weight")
    num_classes = max(1, (channels // per_cell if channels else 5 + _COCO_CLASSES) - 5)
    net = yolov7.network(
        arch,
        num_classes=num_classes,
        anchors_per_cell=per_cell,
        training=training,
        implicit_is_merged=yolov7.is_fused(state),
    )
    return _Detector(net, num_classes, arch.strides, anchors=anchors)


def _channels(state: State, key: str) -> int:
    """Output channels of a convolution; 0 where it is missing."""
    return int(state[key].shape[0]) if key in state and state[key].ndim else 0


# --- Description ------------------------------------------------------------------------------------------------------


def _size(imgsz: ImageSize, variant: VariantInfo, stride: int) -> tuple[int, int]:
    if imgsz is None or imgsz == "dynamic":
        return variant.imgsz
    sides = (imgsz, imgsz) if isinstance(imgsz, int) else imgsz
    if (
        not isinstance(sides, tuple | list)
        or len(sides) != 2
        or not all(isinstance(side, int) and not isinstance(side, bool) for side in sides)
    ):
        raise InvalidType(f"imgsz: expected a side, (height, width), 'dynamic' or None, got {imgsz!r:.60}")
    if any(side % stride or not stride <= side <= _MAX_SIDE for side in sides):
        raise InvalidArgument(
            f"imgsz: {variant.name} takes multiples of {stride} px up to {_MAX_SIDE}, got {sides[0]}x{sides[1]}"
        )
    return (sides[0], sides[1])


def _describe(
    variant: VariantInfo,
    detector: _Detector,
    size: tuple[int, int],
    form: HeadForm,
    names: tuple[str, ...] | None,
    preprocess: Preprocess,
    *,
    is_synthetic: bool,
) -> ModelSpec:
    names = default_names(detector.num_classes) if names is None else names
    if len(names) != detector.num_classes:
        raise InvalidArgument(f"names: {len(names)} were given, but the head has {detector.num_classes} classes")
    if any(not isinstance(name, str) for name in names):
        raise InvalidType(f"names: expected strings, got {names!r:.60}")
    defaults = FAMILY_DEFAULTS[variant.family]
    damo = damo_yolo.ARCHITECTURES.get(variant.name)
    spec = ModelSpec(
        family=variant.family,
        names=names,
        imgsz=size,
        stride=detector.strides[-1],
        preprocess=preprocess,
        head=_raw_head(detector) if form == "raw" else _decoded_head(detector),
        iou=damo.iou if damo else defaults.iou,
        max_det=defaults.max_det,
        synthetic=is_synthetic,
    )
    spec.check()
    return spec


def _raw_head(detector: _Detector) -> Head:
    outputs, strides = tuple(detector.network.outputs), detector.strides
    if detector.reg_max:
        return Head(
            layout="distribution_maps",
            num_classes=detector.num_classes,
            outputs=outputs,
            box_format="xyxy",
            scores_are_logits=True,
            strides=strides,
            reg_max=detector.reg_max,
        )
    return Head(
        layout="anchor_maps",
        num_classes=detector.num_classes,
        outputs=outputs,
        has_objectness=True,
        scores_are_logits=True,
        strides=strides,
        anchors=detector.anchors,
    )


def _decoded_head(detector: _Detector) -> Head:
    if detector.reg_max:
        return Head(
            layout="scores_boxes",
            num_classes=detector.num_classes,
            outputs=("scores", "boxes"),
            box_format="xyxy",
        )
    return Head(layout="rows", num_classes=detector.num_classes, outputs=("output",), has_objectness=True)


# --- Graph ------------------------------------------------------------------------------------------------------------


def _write(
    detector: _Detector,
    state: State,
    spec: ModelSpec,
    metadata: dict[str, str],
    name: str,
    *,
    free_size: bool,
    batch: Batch,
    deploy: bool,
    half: bool,
) -> onnx.ModelProto:
    import onnx  # noqa: PLC0415 - slow to import, and the catalogue needs it not

    from swiftdet.zoo.onnx_graph import Graph, write  # noqa: PLC0415

    graph = Graph()
    write(detector.network, state, graph, deploy=deploy)
    if half:
        graph.to_half(detector.network.input.name, detector.network.outputs)
    fixed = None if free_size else spec.imgsz
    first: int | str = "batch" if batch == "dynamic" else batch
    outputs = _outputs(graph, detector, spec.head, fixed, first)
    image: Dims = (first, 3, *(fixed or ("height", "width")))
    model = graph.finish(name, image, outputs, metadata=metadata, version=_version())
    onnx.checker.check_model(model)
    return model


def _outputs(
    graph: Graph, detector: _Detector, head: Head, size: tuple[int, int] | None, batch: int | str
) -> list[tuple[str, Dims]]:
    """Writes the decoding where the head is decoded; names and dimensions of the model's outputs."""
    maps, levels = detector.network.outputs, len(detector.strides)
    per_cell = len(detector.anchors) // levels
    if head.layout in ("anchor_maps", "distribution_maps"):
        channels = (per_cell * (5 + head.num_classes),) * levels
        if detector.reg_max:
            channels = (head.num_classes,) * levels + (4 * (detector.reg_max + 1),) * levels
        strides = detector.strides * (len(maps) // levels)
        return [
            (name, (batch, c, *_cells(size, stride))) for name, c, stride in zip(maps, channels, strides, strict=True)
        ]
    points: int | str = "predictions"
    if size is not None:
        points = (per_cell or 1) * sum((size[0] // s) * (size[1] // s) for s in detector.strides)
    if head.layout == "rows":
        decoding.anchor_rows(
            graph,
            maps,
            strides=detector.strides,
            anchors=detector.anchors,
            num_classes=head.num_classes,
            size=size,
            output=head.outputs[0],
        )
        return [(head.outputs[0], (batch, points, 5 + head.num_classes))]
    scores, boxes = head.outputs
    decoding.scores_and_boxes(
        graph,
        maps[:levels],
        maps[levels:],
        strides=detector.strides,
        reg_max=detector.reg_max,
        size=size,
        outputs=(scores, boxes),
    )
    return [(scores, (batch, points, head.num_classes)), (boxes, (batch, points, 4))]


def _version() -> str:
    try:
        return importlib.metadata.version("swiftdet")
    except importlib.metadata.PackageNotFoundError:  # run from a source tree
        return ""


def _cells(size: tuple[int, int] | None, stride: int) -> tuple[int | str, int | str]:
    if size is None:
        return (f"height_{stride}", f"width_{stride}")
    return (size[0] // stride, size[1] // stride)
