"""Tiny seeded detectors in ONNX, one for every layout that exporters emit; their heads have real shapes and arithmetic.

    model = build("yolov7-grid", size=(64, 96), classes=3)     # -> onnx.ModelProto, float32 [1, 3, 64, 96] -> ...
    LAYOUTS                                                    # every name that `build` takes

The "network" is one strided convolution per level; what follows it mimics the structure of the official exports (see
the comment at each builder), so that an end-to-end export and its `--grid` twin built with the same seed hold the same
predictions. Nothing here is taken from an exporter, nothing is trained.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ANCHORS_YOLOV7 = [[12, 16, 19, 36, 40, 28], [36, 75, 76, 55, 72, 146], [142, 110, 192, 243, 459, 401]]
STRIDES = (8, 16, 32)
STRIDES_P6 = (8, 16, 32, 64)
CENTRE_TO_CORNERS = np.array([[1, 0, 1, 0], [0, 1, 0, 1], [-0.5, 0, 0.5, 0], [0, -0.5, 0, 0.5]], np.float32)
IR_VERSION = 8
OPSET = 17


class GraphBuilder:
    """Appends nodes to a graph under generated tensor names."""

    def __init__(self, size: tuple[int, int], *, seed: int, batch: int | str = 1, dynamic_size: bool = False) -> None:
        self.size = size
        self.batch = batch
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.dims: list[int | str] = [batch, 3, *(("height", "width") if dynamic_size else size)]
        self.input = "images"
        self._count = 0

    def op(
        self, kind: str, *inputs: str, outputs: int = 1, name: str | None = None, domain: str = "", **attributes: object
    ) -> str:
        """Adds a node; the name of its (first) output."""
        self._count += 1
        # Bare numbers, as the legacy torch exporter gives to tensors without a name of their own.
        names = [name or str(300 + self._count)] + [f"{300 + self._count}_{i}" for i in range(1, outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, domain=domain, **attributes))
        return names[0]

    def constant(self, value: object, *, dtype: type = np.float32, name: str | None = None) -> str:
        """Adds an initialiser; its name."""
        self._count += 1
        name = name or f"constant_{self._count}"
        self.initializers.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def ints(self, *values: int) -> str:
        """Adds an int64 vector; its name."""
        return self.constant(values, dtype=np.int64)

    def conv(
        self, tensor: str, channels: tuple[int, int], *, kernel: int = 1, stride: int = 1, name: str | None = None
    ) -> str:
        """Convolution with bias, (in, out) channels, random weights of a scale that keeps logits small."""
        fan_in = channels[0] * kernel * kernel
        weight = self.rng.standard_normal((channels[1], channels[0], kernel, kernel)) / np.sqrt(fan_in)
        bias = self.rng.standard_normal(channels[1])
        scope = name or f"conv_{self._count}"
        inputs = (tensor, self.constant(weight, name=f"{scope}.weight"), self.constant(bias, name=f"{scope}.bias"))
        pad = kernel // 2
        return self.op("Conv", *inputs, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[pad] * 4)

    def silu(self, tensor: str) -> str:
        """x * sigmoid(x)."""
        return self.op("Mul", tensor, self.op("Sigmoid", tensor))

    def feature(self, stride: int, width: int, *, kernel: int = 3, activation: str = "silu") -> str:
        """A level's feature map [N, width, h, w]: a strided convolution, then one of `kernel` (as before a head)."""
        stem = self.conv(self.input, (3, 4), kernel=3, stride=stride)
        hidden = self.conv(stem, (4, width), kernel=kernel)
        return self.silu(hidden) if activation == "silu" else self.op(activation, hidden, alpha=0.1)

    def slice(self, tensor: str, start: int, end: int, axis: int) -> str:
        """tensor[..., start:end, ...] along `axis`."""
        return self.op("Slice", tensor, self.ints(start), self.ints(end), self.ints(axis))

    def cells(self, stride: int) -> tuple[int, int]:
        """(h, w) of a level."""
        return -(-self.size[0] // stride), -(-self.size[1] // stride)

    def finish(
        self,
        outputs: Sequence[tuple[str, Sequence[int | str] | None]],
        *,
        metadata: dict[str, str] | None = None,
        types: Sequence[int] | None = None,
    ) -> onnx.ModelProto:
        """The model with `outputs` as (name, declared shape)."""
        kinds = types or [TensorProto.FLOAT] * len(outputs)
        graph = helper.make_graph(
            self.nodes,
            "tiny",
            [helper.make_tensor_value_info("images", TensorProto.FLOAT, self.dims)],
            [
                helper.make_tensor_value_info(name, kind, shape)
                for (name, shape), kind in zip(outputs, kinds, strict=True)
            ],
            self.initializers,
        )
        domains = sorted({node.domain for node in self.nodes} - {""})
        opsets = [helper.make_opsetid("", OPSET), *(helper.make_opsetid(domain, 1) for domain in domains)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="tiny")
        helper.set_model_props(model, metadata or {})
        return model


def ultralytics_metadata(names: Sequence[str], **more: str) -> dict[str, str]:
    """The keys of an Ultralytics export."""
    return {
        "description": "Ultralytics tiny model",
        "author": "Ultralytics",
        "stride": "32",
        "task": "detect",
        "batch": "1",
        "imgsz": "[64, 96]",
        "names": str(dict(enumerate(names))),
        **more,
    }


# --- YOLOv7 and YOLOv5 ---


def _raw_levels(
    b: GraphBuilder, classes: int, strides: Sequence[int], widths: Sequence[int], **feature: object
) -> list[str]:
    """Per level [N, 3*(5+C), h, w]."""
    return [
        b.conv(b.feature(stride, width, **feature), (width, 3 * (5 + classes)), name=f"model.105.m.{i}")
        for i, (stride, width) in enumerate(zip(strides, widths, strict=True))
    ]


def _split_anchors(b: GraphBuilder, level: str, classes: int, stride: int, name: str | None = None) -> str:
    """[N, 3*(5+C), h, w] -> [N, 3, h, w, 5+C]."""
    shape = b.ints(-1 if isinstance(b.batch, str) else b.batch, 3, 5 + classes, *b.cells(stride))
    return b.op("Transpose", b.op("Reshape", level, shape), perm=[0, 1, 3, 4, 2], name=name)


def yolov7_raw(
    b: GraphBuilder,
    classes: int,
    *,
    widths: Sequence[int] = (256, 512, 1024),
    strides: Sequence[int] = STRIDES,
    split: bool = True,
    names: Sequence[str] | None = None,
    **feature: object,
) -> onnx.ModelProto:
    """`export.py` without --grid: only the first output has a name of its own."""
    outputs = []
    for i, (level, stride) in enumerate(zip(_raw_levels(b, classes, strides, widths, **feature), strides, strict=True)):
        name = names[i] if names else ("output" if i == 0 else None)
        h, w = b.cells(stride)
        if split:
            tensor = _split_anchors(b, level, classes, stride, name)
            outputs.append((tensor, [b.batch, 3, h, w, 5 + classes]))
        else:
            tensor = b.op("Identity", level, name=name)
            outputs.append((tensor, [b.batch, 3 * (5 + classes), h, w]))
    return b.finish(outputs)


def _grid(b: GraphBuilder, classes: int, name: str | None = None) -> tuple[str, int]:
    """Decoded rows [N, P, 5+C] and P."""
    rows, total = [], 0
    for level, stride, anchors in zip(
        _raw_levels(b, classes, STRIDES, (8, 8, 8)), STRIDES, ANCHORS_YOLOV7, strict=True
    ):
        h, w = b.cells(stride)
        probabilities = b.op("Sigmoid", _split_anchors(b, level, classes, stride))
        grid = np.stack(np.meshgrid(np.arange(w), np.arange(h)), -1)[None, None].astype(np.float32)
        xy = b.slice(probabilities, 0, 2, 4)
        xy = b.op("Add", b.op("Mul", xy, b.constant(2.0)), b.constant(grid - 0.5))
        xy = b.op("Mul", xy, b.constant(float(stride)))
        wh = b.op("Mul", b.slice(probabilities, 2, 4, 4), b.constant(2.0))
        wh = b.op("Mul", b.op("Mul", wh, wh), b.constant(np.reshape(anchors, (1, 3, 1, 1, 2))))
        rest = b.slice(probabilities, 4, 5 + classes, 4)
        decoded = b.op("Concat", xy, wh, rest, axis=4)
        rows.append(
            b.op("Reshape", decoded, b.ints(-1 if isinstance(b.batch, str) else b.batch, 3 * h * w, 5 + classes))
        )
        total += 3 * h * w
    return b.op("Concat", *rows, axis=1, name=name), total


def yolov7_grid(b: GraphBuilder, classes: int, *, metadata: dict[str, str] | None = None) -> onnx.ModelProto:
    """`--grid`."""
    output, total = _grid(b, classes, "output")
    return b.finish([(output, [b.batch, total, 5 + classes])], metadata=metadata)


def _boxes_and_scores(b: GraphBuilder, rows: str, classes: int) -> tuple[str, str]:
    """Slices of the rows: boxes [N, P, 4] as centres, scores [N, P, C] = objectness * class (one class: objectness)."""
    boxes, confidence = b.slice(rows, 0, 4, 2), b.slice(rows, 4, 5, 2)
    if classes == 1:
        return boxes, confidence
    return boxes, b.op("Mul", b.slice(rows, 5, 5 + classes, 2), confidence)


def _tensorrt_outputs(b: GraphBuilder, topk: int) -> list[tuple[str, list[int | str]]]:
    # The official script writes sizes into dim_param, so that fixed dimensions look symbolic.
    return [
        ("num_dets", [str(b.batch), "1"]),
        ("det_boxes", [str(b.batch), str(topk), "4"]),
        ("det_scores", [str(b.batch), str(topk)]),
        ("det_classes", [str(b.batch), str(topk)]),
    ]


_TENSORRT_TYPES = (TensorProto.INT32, TensorProto.FLOAT, TensorProto.FLOAT, TensorProto.INT32)


def _efficient_nms(b: GraphBuilder, boxes: str, scores: str, coding: int, **more: object) -> onnx.ModelProto:
    outputs = _tensorrt_outputs(b, 100)
    attributes = {"background_class": [-1], "box_coding": [coding], "iou_threshold": 0.45, "max_output_boxes": 100}
    attributes |= {"plugin_version": "1", "score_activation": 0, "score_threshold": 0.25, **more}
    b.nodes.append(
        helper.make_node("EfficientNMS_TRT", [boxes, scores], [name for name, _ in outputs], domain="TRT", **attributes)
    )
    return b.finish(outputs, types=_TENSORRT_TYPES)


def yolov7_end2end(b: GraphBuilder, classes: int) -> onnx.ModelProto:
    """`--grid --end2end`: EfficientNMS_TRT on centres."""
    rows, _ = _grid(b, classes)
    boxes, scores = _boxes_and_scores(b, rows, classes)
    return _efficient_nms(b, boxes, scores, coding=1)


def yolov7_include_nms(b: GraphBuilder, classes: int, *, plugin: bool = True) -> onnx.ModelProto:
    """`--grid --include-nms`: corners; the tensors called `classes` and `boxes` hold boxes and scores."""
    rows, total = _grid(b, classes)
    boxes, scores = _boxes_and_scores(b, rows, classes)
    boxes = b.op("MatMul", boxes, b.constant(CENTRE_TO_CORNERS), name="classes")
    scores = b.op("Identity", scores, name="boxes")
    if plugin:
        return _efficient_nms(b, boxes, scores, coding=0)
    return b.finish([(boxes, [1, total, 4]), (scores, [1, total, classes])])


def yolov7_end2end_ort(b: GraphBuilder, classes: int) -> onnx.ModelProto:
    """`--grid --end2end --max-wh 640`: the best class of a box, boxes shifted by class; output [M, 7]."""
    rows, _ = _grid(b, classes)
    boxes, scores = _boxes_and_scores(b, rows, classes)
    boxes = b.op("MatMul", boxes, b.constant(CENTRE_TO_CORNERS))
    best = b.op("ReduceMax", scores, axes=[2], keepdims=1)
    category = b.op("Cast", b.op("ArgMax", scores, axis=2, keepdims=1), to=TensorProto.FLOAT)
    shifted = b.op("Add", boxes, b.op("Mul", category, b.constant(640.0)))
    selected = _onnx_nms(b, shifted, b.op("Transpose", best, perm=[0, 2, 1]))
    image = b.op("Gather", selected, b.ints(0), axis=1)
    index = b.op("Gather", selected, b.ints(2), axis=1)
    where = b.op("Concat", image, index, axis=1)
    picked = [b.op("GatherND", tensor, where) for tensor in (boxes, category, best)]
    columns = [b.op("Cast", image, to=TensorProto.FLOAT), *picked]
    return b.finish([(b.op("Concat", *columns, axis=1, name="output"), ["M", 7])])


def _onnx_nms(b: GraphBuilder, boxes: str, scores: str) -> str:
    thresholds = (b.constant([0.45]), b.constant([0.25]))
    return b.op("NonMaxSuppression", boxes, scores, b.ints(100), *thresholds)


def yolov5_with_raw(b: GraphBuilder, classes: int) -> onnx.ModelProto:
    """Older YOLOv5 exports: rows, then the raw maps."""
    output, total = _grid(b, classes, "output")
    levels = [node.output[0] for node in b.nodes if node.op_type == "Transpose"]
    maps = [(b.op("Identity", level), None) for level in levels]
    names = [f"n{i}" for i in range(classes)]
    metadata = {"stride": "32", "names": str(names)}
    return b.finish([(output, [b.batch, total, 5 + classes]), *maps], metadata=metadata)


# --- DAMO-YOLO ---


def _zero_head(b: GraphBuilder, classes: int, reg_max: int, *, sigmoid: bool) -> tuple[list[str], list[str]]:
    """Per level class maps and distributions."""
    scores, distributions = [], []
    for i, stride in enumerate(STRIDES):
        feature = b.feature(stride, 8)
        score = b.conv(feature, (8, classes), kernel=3, name=f"level{i}.cls")
        scores.append(b.op("Sigmoid", score) if sigmoid else score)
        regression = b.conv(feature, (8, 4 * (reg_max + 1)), kernel=3, name=f"level{i}.reg")
        distributions.append(b.op("Mul", regression, b.constant(0.9 + 0.1 * i)))
    return scores, distributions


def damo_raw(
    b: GraphBuilder, classes: int, *, reg_max: int = 16, sigmoid: bool = False, named: bool = True
) -> onnx.ModelProto:
    """Six maps: our own raw head (logits, named), or `--benchmark` (scores after the sigmoid, the first one named)."""
    scores, distributions = _zero_head(b, classes, reg_max, sigmoid=sigmoid)
    wanted = [f"{kind}_p{level}" for kind in ("cls", "reg") for level in (3, 4, 5)]
    outputs = []
    for i, tensor in enumerate(scores + distributions):
        name = wanted[i] if named else ("output" if i == 0 else None)
        channels = classes if i < 3 else 4 * (reg_max + 1)
        outputs.append((b.op("Identity", tensor, name=name), [b.batch, channels, *b.cells(STRIDES[i % 3])]))
    return b.finish(outputs)


def _damo_decoded(b: GraphBuilder, classes: int, reg_max: int = 16) -> tuple[str, str, int]:
    """Scores [N, P, C], corner boxes [N, P, 4], P."""
    scores, distributions = _zero_head(b, classes, reg_max, sigmoid=True)
    score_rows, distance_rows, centres, total = [], [], [], 0
    bins = reg_max + 1
    batch = -1 if isinstance(b.batch, str) else b.batch
    for score, distribution, stride in zip(scores, distributions, STRIDES, strict=True):
        h, w = b.cells(stride)
        flat = b.op("Reshape", score, b.ints(batch, classes, h * w))
        score_rows.append(b.op("Transpose", flat, perm=[0, 2, 1]))
        shaped = b.op("Reshape", distribution, b.ints(batch, 4, bins, h * w))
        probabilities = b.op("Transpose", b.op("Softmax", shaped, axis=2), perm=[0, 3, 1, 2])
        project = b.constant(np.arange(bins, dtype=np.float32)[:, None])
        distances = b.op("Squeeze", b.op("MatMul", probabilities, project), b.ints(3))
        distance_rows.append(b.op("Mul", distances, b.constant(float(stride))))
        centres.append(np.stack(np.meshgrid(np.arange(w), np.arange(h)), -1).reshape(-1, 2) * stride)
        total += h * w
    distances = b.op("Concat", *distance_rows, axis=1)
    points = b.constant(np.concatenate(centres)[None])
    corners = (
        b.op("Sub", points, b.slice(distances, 0, 2, 2)),
        b.op("Add", points, b.slice(distances, 2, 4, 2)),
    )
    return b.op("Concat", *score_rows, axis=1), b.op("Concat", *corners, axis=2), total


def damo_two_outputs(
    b: GraphBuilder, classes: int, *, swapped: bool = False, names: tuple[str, str] | None = None
) -> onnx.ModelProto:
    """The default export: `output` (scores) and an auto-numbered second output (boxes)."""
    scores, boxes, total = _damo_decoded(b, classes)
    scores = b.op("Identity", scores, name=names[0] if names else "output")
    boxes = b.op("Identity", boxes, name=names[1] if names else None)
    outputs = [(scores, [b.batch, total, classes]), (boxes, [b.batch, total, 4])]
    return b.finish(outputs[::-1] if swapped else outputs)


def damo_end2end_trt8(b: GraphBuilder, classes: int, *, coding: int = 1) -> onnx.ModelProto:
    """`--end2end` for TensorRT 8: corners that are declared as centres."""
    scores, boxes, _ = _damo_decoded(b, classes)
    return _efficient_nms(b, boxes, scores, coding=coding)


def damo_end2end_trt7(b: GraphBuilder, classes: int) -> onnx.ModelProto:
    """`--end2end` for TensorRT 7: BatchedNMSDynamic_TRT on boxes [N, P, 1, 4]."""
    scores, boxes, _ = _damo_decoded(b, classes)
    outputs = _tensorrt_outputs(b, 100)
    names = [name for name, _ in outputs[:3]] + ["float_classes"]
    b.nodes.append(
        helper.make_node(
            "BatchedNMSDynamic_TRT",
            [b.op("Unsqueeze", boxes, b.ints(2)), scores],
            names,
            domain="TRT",
            shareLocation=1,
            backgroundLabelId=-1,
            numClasses=classes,
            topK=1000,
            keepTopK=100,
            scoreThreshold=0.05,
            iouThreshold=0.65,
            isNormalized=0,
            clipBoxes=0,
            scoreBits=16,
            plugin_version="1",
        )
    )
    b.op("Cast", "float_classes", to=TensorProto.INT32, name="det_classes")
    return b.finish(outputs, types=_TENSORRT_TYPES)


def damo_end2end_ort(b: GraphBuilder, classes: int) -> onnx.ModelProto:
    """`--end2end --ort`: NonMaxSuppression per class on corners converted as if they were centres."""
    scores, boxes, _ = _damo_decoded(b, classes)
    boxes = b.op("MatMul", boxes, b.constant(CENTRE_TO_CORNERS))
    selected = _onnx_nms(b, boxes, b.op("Transpose", scores, perm=[0, 2, 1]))
    image, index = (b.op("Gather", selected, b.ints(i), axis=1) for i in (0, 2))
    b.op("GatherND", boxes, b.op("Concat", image, index, axis=1), name="det_boxes")
    b.op("Gather", selected, b.ints(1), axis=1, name="det_classes")
    return b.finish([("det_boxes", ["M", 4]), ("det_classes", ["M", 1])], types=[TensorProto.FLOAT, TensorProto.INT64])


def damo_with_preprocess(b: GraphBuilder, classes: int) -> onnx.ModelProto:
    """`--end2end --with-preprocess`: swaps channels and divides by 255 inside, which the training did not."""
    swapped = b.op("Gather", "images", b.ints(2, 1, 0), axis=1)
    b.input = b.op("Mul", swapped, b.constant(1 / 255))
    return damo_end2end_trt8(b, classes)


# --- Ultralytics ---


def ultralytics_columns(
    b: GraphBuilder,
    classes: int,
    *,
    metadata: dict[str, str] | None = None,
    extra: int = 0,
    transposed: bool = False,
    name: str = "output0",
) -> onnx.ModelProto:
    """[N, 4+C, P], boxes as centres; `extra` more rows, as of an objectness."""
    parts, total = [], 0
    for stride in STRIDES:
        h, w = b.cells(stride)
        level = b.conv(b.feature(stride, 8), (8, 4 + extra + classes))
        level = b.op("Reshape", level, b.ints(-1 if isinstance(b.batch, str) else b.batch, 4 + extra + classes, h * w))
        parts.append(level)
        total += h * w
    joined = b.op("Concat", *parts, axis=2)
    boxes = b.op("Mul", b.op("Exp", b.slice(joined, 0, 4, 1)), b.constant(20.0))
    scores = b.op("Sigmoid", b.slice(joined, 4, 4 + extra + classes, 1))
    if not transposed:
        output = b.op("Concat", boxes, scores, axis=1, name=name)
        return b.finish([(output, [b.batch, 4 + extra + classes, total])], metadata=metadata)
    rows = b.op("Transpose", b.op("Concat", boxes, scores, axis=1), perm=[0, 2, 1], name=name)
    return b.finish([(rows, [b.batch, total, 4 + extra + classes])], metadata=metadata)


def ultralytics_end2end(b: GraphBuilder, classes: int, *, metadata: dict[str, str] | None = None) -> onnx.ModelProto:
    """[N, 300, 6]: x1 y1 x2 y2 score class, nothing left to suppress."""
    del classes
    pooled = b.op("GlobalAveragePool", b.feature(8, 8))
    values = b.conv(pooled, (8, 1800))
    output = b.op("Reshape", values, b.ints(1, 300, 6), name="output0")
    return b.finish([(output, [1, 300, 6])], metadata=metadata)


# --- no detectors ---


def classifier(b: GraphBuilder, classes: int) -> onnx.ModelProto:
    """One vector per image."""
    pooled = b.op("GlobalAveragePool", b.conv(b.feature(8, 8), (8, classes)))
    output = b.op("Softmax", b.op("Flatten", pooled), axis=1, name="probabilities")
    return b.finish([(output, [1, classes])])


def segmentation(b: GraphBuilder, classes: int) -> onnx.ModelProto:
    """Ultralytics' instance segmentation: columns with 32 coefficients, and prototypes."""
    model = ultralytics_columns(b, classes, extra=32)
    prototypes = b.conv(b.feature(4, 8), (8, 32))
    shapes = [d.dim_value for d in model.graph.output[0].type.tensor_type.shape.dim]
    return b.finish([("output0", shapes), (prototypes, [1, 32, *b.cells(4)])])


_P6 = {"strides": STRIDES_P6, "widths": (256, 512, 768, 1024)}
_TINY = {"widths": (128, 256, 512), "activation": "LeakyRelu"}
LAYOUTS: dict[str, tuple[Callable[..., onnx.ModelProto], dict[str, object]]] = {
    "yolov7-raw": (yolov7_raw, {}),
    "yolov7-raw-flat": (yolov7_raw, {"split": False}),
    "yolov7-zoo": (yolov7_raw, {"split": False, "names": ("p3", "p4", "p5")}),
    "yolov7x-raw": (yolov7_raw, {"widths": (320, 640, 1280)}),
    "yolov7-tiny-raw": (yolov7_raw, _TINY),
    "yolov7-w6-raw": (yolov7_raw, _P6),
    "yolov5-raw": (yolov7_raw, {"widths": (256, 512, 1024), "kernel": 1}),
    "yolov7-grid": (yolov7_grid, {}),
    "yolov7-end2end": (yolov7_end2end, {}),
    "yolov7-include-nms": (yolov7_include_nms, {}),
    "yolov7-include-nms-intermediate": (yolov7_include_nms, {"plugin": False}),
    "yolov7-end2end-ort": (yolov7_end2end_ort, {}),
    "yolov5-with-raw": (yolov5_with_raw, {}),
    "damo-two-outputs": (damo_two_outputs, {}),
    "damo-two-outputs-swapped": (damo_two_outputs, {"swapped": True}),
    "damo-raw": (damo_raw, {}),
    "damo-benchmark": (damo_raw, {"sigmoid": True, "named": False}),
    "damo-end2end-trt8": (damo_end2end_trt8, {}),
    "damo-end2end-trt7": (damo_end2end_trt7, {}),
    "damo-end2end-ort": (damo_end2end_ort, {}),
    "damo-with-preprocess": (damo_with_preprocess, {}),
    "ultralytics-columns": (ultralytics_columns, {}),
    "ultralytics-transposed": (ultralytics_columns, {"transposed": True}),
    "ultralytics-end2end": (ultralytics_end2end, {}),
    "classifier": (classifier, {}),
    "segmentation": (segmentation, {}),
}


def build(
    layout: str,
    *,
    size: tuple[int, int] = (64, 96),
    classes: int = 3,
    seed: int = 0,
    batch: int | str = 1,
    dynamic_size: bool = False,
    **options: object,
) -> onnx.ModelProto:
    """A model of one of `LAYOUTS`.

    Args:
        layout: its name.
        size: (height, width) px of the input.
        classes: number of classes.
        seed: of the weights; equal seeds give equal predictions within a family.
        batch: fixed, or the name of a free dimension (not for the end-to-end layouts).
        dynamic_size: declare H and W free; the graph stays that of `size` where it holds constants of it.
        **options: of the layout's builder.
    """
    builder, defaults = LAYOUTS[layout]
    return builder(
        GraphBuilder(size, seed=seed, batch=batch, dynamic_size=dynamic_size), classes, **{**defaults, **options}
    )


def main() -> None:
    """Writes every layout into the folder given, one file each, 80 classes at 640 x 640."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for layout in LAYOUTS:
        onnx.save(build(layout, size=(640, 640), classes=80), folder / f"{layout}.onnx")


if __name__ == "__main__":
    main()
