"""What a file is recognised as: every layout of the official exports, and refusals where it could be two things."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import make_models
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import onnx_oracle
from swiftdet import model
from swiftdet.engines.signature import Port, Signature
from swiftdet.errors import InvalidArgument, ModelError
from swiftdet.model_files.graph import Graph
from swiftdet.model_files.metadata import Metadata
from swiftdet.model_files.names import COCO_80
from swiftdet.recognition import Evidence, recognise
from swiftdet.spec import METADATA_KEY, Head, ModelSpec, Preprocess

SIZE = (64, 96)
LETTERBOX = Preprocess(mode="letterbox", pad_value=114, divisor=255.0)
STRETCH = Preprocess(mode="stretch", pad_value=0, divisor=1.0)
ANCHORS = {
    "yolov7": ((12, 16), (19, 36), (40, 28), (36, 75), (76, 55), (72, 146), (142, 110), (192, 243), (459, 401)),
    "tiny": ((10, 13), (16, 30), (33, 23), (30, 61), (62, 45), (59, 119), (116, 90), (156, 198), (373, 326)),
}


def load(folder: Path, proto: onnx.ModelProto, **options) -> model.LoadedModel:
    path = folder / "model.onnx"
    onnx.save(proto, path)
    return model.load(path, inspect=onnx_oracle.inspect, **options)


def spec_of(folder: Path, layout: str, *, build: dict | None = None, **options) -> ModelSpec:
    proto = make_models.build(layout, **{"size": SIZE, **(build or {})})
    return load(folder, proto, **options).spec


# layout -> family, Head fields, preprocess
EXPECTED = {
    "yolov7-grid": ("yolov7", {"layout": "rows", "has_objectness": True, "outputs": ("output",)}, LETTERBOX),
    "yolov5-with-raw": ("ultralytics", {"layout": "rows", "has_objectness": True, "outputs": ("output",)}, LETTERBOX),
    "yolov7-raw": (
        "yolov7",
        {"layout": "anchor_maps", "anchors": ANCHORS["yolov7"], "strides": (8, 16, 32)},
        LETTERBOX,
    ),
    "yolov7-raw-flat": ("yolov7", {"layout": "anchor_maps", "anchors": ANCHORS["yolov7"]}, LETTERBOX),
    "yolov7-zoo": ("yolov7", {"layout": "anchor_maps", "outputs": ("p3", "p4", "p5")}, LETTERBOX),
    "yolov7x-raw": ("yolov7", {"layout": "anchor_maps", "anchors": ANCHORS["yolov7"]}, LETTERBOX),
    "yolov7-tiny-raw": ("yolov7", {"layout": "anchor_maps", "anchors": ANCHORS["tiny"]}, LETTERBOX),
    "yolov5-raw": ("yolov7", {"layout": "anchor_maps", "anchors": ANCHORS["tiny"]}, LETTERBOX),
    "damo-two-outputs": ("damo-yolo", {"layout": "scores_boxes", "box_format": "xyxy"}, STRETCH),
    "damo-two-outputs-swapped": ("damo-yolo", {"layout": "scores_boxes", "box_format": "xyxy"}, STRETCH),
    "damo-raw": (
        "damo-yolo",
        {
            "layout": "distribution_maps",
            "reg_max": 16,
            "scores_are_logits": True,
            "outputs": ("cls_p3", "cls_p4", "cls_p5", "reg_p3", "reg_p4", "reg_p5"),
        },
        STRETCH,
    ),
    "damo-benchmark": (
        "damo-yolo",
        {"layout": "distribution_maps", "reg_max": 16, "scores_are_logits": False},
        STRETCH,
    ),
    "ultralytics-columns": ("ultralytics", {"layout": "columns", "box_format": "cxcywh"}, LETTERBOX),
}


@pytest.mark.parametrize("layout", EXPECTED)
@pytest.mark.parametrize("classes", [1, 3, 80])
def test_a_layout_is_recognised(tmp_path, layout, classes):
    family, fields, preprocess = EXPECTED[layout]
    spec = spec_of(tmp_path, layout, build={"classes": classes})
    assert (spec.family, spec.preprocess, spec.imgsz, spec.stride) == (family, preprocess, SIZE, 32)
    assert {name: getattr(spec.head, name) for name in fields} == fields
    assert spec.head.num_classes == classes
    if layout != "yolov5-with-raw":
        assert spec.names == (COCO_80 if classes == 80 else tuple(f"class{i}" for i in range(classes)))
    assert spec.source.startswith("inferred: ")
    assert ModelSpec.from_json(spec.to_json()) == spec


def test_at_640_the_official_numbers_of_predictions_are_recognised():
    shapes = {
        ((1, 25200, 85),): ("rows", 80),
        ((1, 84, 8400),): ("columns", 80),
        ((1, 8400, 80), (1, 8400, 4)): ("scores_boxes", 80),
        ((1, 25500, 85),): ("rows", 80),
        ((4, 25200, 6),): ("rows", 1),
        ((1, 84, 34000),): ("columns", 80),
        ((1, 300, 6),): ("detections", 80),
    }
    for outputs, expected in shapes.items():
        spec = recognise(evidence(*outputs))
        assert (spec.head.layout, spec.head.num_classes) == expected
    assert recognise(evidence((1, 25500, 85))).stride == 64
    assert recognise(evidence((1, 102000, 85), size=(1280, 1280))).head.layout == "rows"
    assert recognise(evidence((1, 3549, 80), (1, 3549, 4), size=(416, 416))).family == "damo-yolo"


def evidence(
    *shapes: tuple[int, ...], size: tuple[int, int] = (640, 640), metadata: Metadata | None = None, **more
) -> Evidence:
    """Shapes alone, without a graph."""
    outputs = tuple(Port(f"out{i}", shape) for i, shape in enumerate(shapes))
    graph = Graph(nodes=(), inputs=("images",), outputs=tuple(o.name for o in outputs), constants={})
    signature = Signature((Port("images", (1, 3, *size)),), outputs)
    return Evidence(signature=signature, size=size, graph=graph, metadata=metadata or Metadata(), **more)


# --- raw anchor maps ---


def test_four_levels_have_the_p6_anchors_and_stride_64(tmp_path):
    spec = spec_of(tmp_path, "yolov7-w6-raw", build={"size": (128, 192)})
    assert (spec.stride, spec.head.strides, len(spec.head.anchors)) == (64, (8, 16, 32, 64), 12)
    assert spec.head.anchors[0] == (19, 27)
    assert spec.head.anchors[-1] == (925, 792)


def test_levels_are_ordered_by_stride_whatever_the_file_does(tmp_path):
    proto = make_models.build("yolov7-raw", size=SIZE)
    first, *rest = [onnx.ValueInfoProto.FromString(o.SerializeToString()) for o in proto.graph.output]
    del proto.graph.output[:]
    proto.graph.output.extend([*rest[::-1], first])
    assert load(tmp_path, proto).spec.head.outputs == ("output", rest[0].name, rest[1].name)


def test_leaky_relu_tells_a_tiny_of_other_widths(tmp_path):
    spec = spec_of(tmp_path, "yolov7-tiny-raw", build={"widths": (64, 96, 128)})
    assert spec.head.anchors == ANCHORS["tiny"]


def test_raw_maps_of_unknown_widths_need_the_family(tmp_path):
    build = {"widths": (16, 32, 64)}
    with pytest.raises(ModelError, match=r"do not carry their anchors.*--family yolov7 .*--family yolov7-tiny"):
        spec_of(tmp_path, "yolov7-raw", build=build)
    assert spec_of(tmp_path, "yolov7-raw", build=build, family="yolov7").head.anchors == ANCHORS["yolov7"]
    tiny = spec_of(tmp_path, "yolov7-raw", build=build, family="yolov7-tiny")
    assert (tiny.family, tiny.head.anchors) == ("yolov7", ANCHORS["tiny"])


def test_the_user_cannot_make_a_yolov7_a_tiny(tmp_path):
    with pytest.raises(ModelError, match="has the widths"):
        spec_of(tmp_path, "yolov7-raw", family="yolov7-tiny")


def test_unmerged_implicit_layers_do_not_hide_the_widths(tmp_path):
    """IDetect as trained: im * conv(x + ia)."""
    proto = make_models.build("yolov7-raw", size=SIZE)
    rng = np.random.default_rng(0)
    convolutions = [n for n in proto.graph.node if n.op_type == "Conv" and "105.m" in n.input[1]]
    for i, node in enumerate(convolutions):
        weight = next(t for t in proto.graph.initializer if t.name == node.input[1])
        for name, channels in ((f"ia{i}", weight.dims[1]), (f"im{i}", weight.dims[0])):
            value = rng.random((1, channels, 1, 1), np.float32)
            proto.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
        position = list(proto.graph.node).index(node)
        added = helper.make_node("Add", [node.input[0], f"ia{i}"], [f"biased{i}"])
        scaled = helper.make_node("Mul", [f"im{i}", f"plain{i}"], [node.output[0]])
        node.input[0], node.output[0] = f"biased{i}", f"plain{i}"
        nodes = list(proto.graph.node)
        nodes[position : position + 1] = [added, node, scaled]
        copies = [onnx.NodeProto.FromString(n.SerializeToString()) for n in nodes]
        del proto.graph.node[:]
        proto.graph.node.extend(copies)
    assert load(tmp_path, proto).spec.head.anchors == ANCHORS["yolov7"]


def test_three_maps_of_another_head_are_not_taken_for_anchors(tmp_path):
    """Ultralytics' undecoded maps: [N, 64+C, h, w], which also divides by three."""
    b = make_models.GraphBuilder(SIZE, seed=0)
    outputs = []
    for stride in (8, 16, 32):
        feature = b.feature(stride, 8)
        tensor = b.op("Concat", b.conv(feature, (8, 64)), b.conv(feature, (8, 80)), axis=1)
        outputs.append((tensor, [1, 144, *b.cells(stride)]))
    with pytest.raises(ModelError, match="no single 1x1 convolution"):
        load(tmp_path, b.finish(outputs))


def test_raw_maps_after_a_sigmoid_are_refused(tmp_path):
    b = make_models.GraphBuilder(SIZE, seed=0)
    levels = [b.op("Sigmoid", b.conv(b.feature(s, w), (w, 24))) for s, w in ((8, 256), (16, 512), (32, 1024))]
    with pytest.raises(ModelError, match="sigmoid is already applied"):
        load(tmp_path, b.finish([(t, [1, 24, *b.cells(s)]) for t, s in zip(levels, (8, 16, 32), strict=True)]))


# --- DAMO-YOLO ---


def test_quantised_maps_keep_their_widths(tmp_path):
    """Explicit Q/DQ around the last convolutions and their weights."""
    proto = make_models.build("yolov7-raw", size=SIZE)
    values = {"scale": np.float32(0.1), "zero": np.int8(0)}
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(np.asarray(v), k) for k, v in values.items())
    nodes = []
    for node in [onnx.NodeProto.FromString(n.SerializeToString()) for n in proto.graph.node]:
        if node.op_type == "Conv" and "105.m" in node.input[1]:
            for i in (0, 1):
                name = node.input[i]
                quantised, restored = f"{name}_q_{node.name}", f"{name}_dq"
                nodes.append(helper.make_node("QuantizeLinear", [name, "scale", "zero"], [quantised]))
                nodes.append(helper.make_node("DequantizeLinear", [quantised, "scale", "zero"], [restored]))
                node.input[i] = restored
        nodes.append(node)
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    assert load(tmp_path, proto).spec.head.anchors == ANCHORS["yolov7"]


@pytest.mark.parametrize("layout", ["damo-two-outputs", "damo-two-outputs-swapped"])
def test_scores_of_four_classes_are_told_from_boxes_by_their_sigmoid(tmp_path, layout):
    assert spec_of(tmp_path, layout, build={"classes": 4}).head.outputs[0] == "output"


def test_scores_of_four_classes_are_told_from_boxes_by_name():
    found = evidence((1, 8400, 4), (1, 8400, 4))
    renamed = dataclasses.replace(
        found, signature=Signature(found.signature.inputs, (Port("pred_boxes", (1, 8400, 4)), found.outputs[1]))
    )
    assert recognise(renamed).head.outputs == ("out1", "pred_boxes")
    with pytest.raises(ModelError, match="could both be boxes"):
        recognise(found)


def test_a_nano_has_eight_bins(tmp_path):
    assert spec_of(tmp_path, "damo-raw", build={"reg_max": 7}).head.reg_max == 7


def test_unofficial_bins_need_the_family(tmp_path):
    with pytest.raises(ModelError, match="--family damo-yolo"):
        spec_of(tmp_path, "damo-raw", build={"reg_max": 11})
    assert spec_of(tmp_path, "damo-raw", build={"reg_max": 11}, family="damo-yolo").head.reg_max == 11


def test_maps_of_other_distribution_heads_are_refused():
    """Six maps with 64 channels are an undecoded Ultralytics head, whose anchor points lie half a cell further."""
    sizes = (80, 40, 20)
    maps = [(1, channels, s, s) for channels in (64, 80) for s in sizes]
    with pytest.raises(ModelError, match="DAMO-YOLO's regressions have 32 or 68"):
        recognise(evidence(*maps))
    with pytest.raises(ModelError, match="raw maps of an Ultralytics head"):
        recognise(evidence(*maps, metadata=Metadata(ultralytics=True)))
    uneven = [(1, channels, s, s) for channels in (68, 80) for s in (80, 40, 10)]
    with pytest.raises(ModelError, match="two for each of the strides 8, 16, 32"):
        recognise(evidence(*uneven))


@pytest.mark.parametrize("classes", [68, 32])
@pytest.mark.parametrize("layout", ["damo-raw", "damo-benchmark"])
def test_as_many_classes_as_bins_are_told_apart(tmp_path, layout, classes):
    """By name, or by the sigmoid on the scores."""
    reg_max = classes // 4 - 1
    head = spec_of(tmp_path, layout, build={"classes": classes, "reg_max": reg_max}).head
    assert (head.num_classes, head.reg_max) == (classes, reg_max)
    assert head.outputs[0] in {"cls_p3", "output"}


def test_scores_class_major_are_recognised():
    spec = recognise(evidence((1, 80, 8400), (1, 8400, 4)))
    assert (spec.head.scores_class_major, spec.head.num_classes) == (True, 80)


def test_a_built_in_division_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"divides its input by 255 itself.*--with-preprocess"):
        spec_of(tmp_path, "damo-with-preprocess")


# --- Ultralytics ---


def test_metadata_names_and_stride_are_used(tmp_path):
    metadata = make_models.ultralytics_metadata(["cat", "dog's", "bird"], stride="64")
    spec = spec_of(tmp_path, "ultralytics-columns", build={"metadata": metadata})
    assert (spec.names, spec.stride) == (("cat", "dog's", "bird"), 64)


def test_names_tell_objectness_in_columns(tmp_path):
    metadata = make_models.ultralytics_metadata(["a", "b", "c"])
    spec = spec_of(tmp_path, "ultralytics-columns", build={"metadata": metadata, "extra": 1})
    assert (spec.head.has_objectness, spec.head.num_classes) == (True, 3)


@pytest.mark.parametrize("count", [1, 2, 6])
def test_names_that_fit_no_reading_are_refused(tmp_path, count):
    metadata = make_models.ultralytics_metadata([f"n{i}" for i in range(count)])
    with pytest.raises(ModelError, match=f"names {count} classes, the outputs hold 4"):
        spec_of(tmp_path, "ultralytics-columns", build={"metadata": metadata, "classes": 4})


def test_transposed_columns_are_told_by_their_names_or_the_family(tmp_path):
    with pytest.raises(ModelError, match=r"one per cell.*--family ultralytics"):
        spec_of(tmp_path, "ultralytics-transposed")
    metadata = make_models.ultralytics_metadata(["a", "b", "c"])
    for build, family in (({"metadata": metadata}, None), ({}, "ultralytics")):
        head = spec_of(tmp_path, "ultralytics-transposed", build=build, family=family).head
        assert (head.layout, head.num_classes, head.has_objectness) == ("rows", 3, False)
    head = spec_of(tmp_path, "ultralytics-transposed", family="yolov7").head
    assert (head.num_classes, head.has_objectness) == (2, True)


def test_yolox_like_rows_are_refused_without_the_family():
    with pytest.raises(ModelError, match="YOLOX"):
        recognise(evidence((1, 8400, 85)))
    assert recognise(evidence((1, 8400, 85), family="yolov7", variant="yolov7")).head.num_classes == 80


def test_end_to_end_detections_take_their_classes_from_the_names(tmp_path):
    metadata = make_models.ultralytics_metadata(["a", "b"], end2end="True")
    spec = spec_of(tmp_path, "ultralytics-end2end", build={"metadata": metadata})
    assert (spec.head.layout, spec.head.num_classes, spec.head.box_format) == ("detections", 2, "xyxy")
    assert "COCO's classes assumed" in spec_of(tmp_path, "ultralytics-end2end").source


@pytest.mark.parametrize("description", ["Ultralytics rtdetr-l model", "RT-DETR"])
def test_a_transformer_of_two_classes_is_not_taken_for_detections(description):
    """Its [N, 300, 6] are centres in units of the image and two scores."""
    with pytest.raises(ModelError, match="transformer detector"):
        recognise(evidence((1, 300, 6), metadata=Metadata(names=("a", "b"), description=description)))


def test_end_to_end_metadata_contradicts_columns(tmp_path):
    metadata = make_models.ultralytics_metadata(["a", "b", "c"], end2end="True")
    with pytest.raises(ModelError, match="final detections, the shape says they are not"):
        spec_of(tmp_path, "ultralytics-columns", build={"metadata": metadata})


@pytest.mark.parametrize("task", ["segment", "pose", "obb", "classify"])
def test_other_tasks_are_refused_by_their_metadata(tmp_path, task):
    metadata = make_models.ultralytics_metadata(["a", "b", "c"], task=task)
    with pytest.raises(ModelError, match=f"the task is '{task}', expected 'detect'"):
        spec_of(tmp_path, "ultralytics-columns", build={"metadata": metadata})


# --- refusals ---


@pytest.mark.parametrize(("layout", "words"), [("classifier", "a classifier"), ("segmentation", "segmentation model")])
def test_what_is_no_detector_is_named(tmp_path, layout, words):
    with pytest.raises(ModelError, match=rf"{words}.*inputs: 'images' \[1, 3, 64, 96\]; outputs: "):
        spec_of(tmp_path, layout)


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        (((1, 300, 80), (1, 300, 4)), "300 predictions: neither one nor three per cell"),
        (((1, 300, 84),), "neither one nor three predictions per cell"),
        (((1, 1), (1, 100, 4), (1, 100), (1, 100)), "detections after a suppression"),
        (
            ((1, 80, 80, 80), (1, 80, 40, 40), (1, 80, 20, 20), (1, 4, 80, 80), (1, 4, 40, 40), (1, 4, 20, 20)),
            "channels",
        ),
        (((1, 25200, 5),), "box, objectness and a class need 6"),
        (((1, 4, 8400),), "a box and a class need 5"),
        (((1, 3, 80, 80, 85), (1, 3, 40, 40, 85), (1, 3, 20, 20, 84)), "disagree about the values per anchor"),
        (((1, 2, 80, 80, 85), (1, 2, 40, 40, 85), (1, 2, 20, 20, 85)), "2 anchors per cell"),
        (((1, 3, 80, 80, 85), (1, 3, 40, 40, 85), (1, 3, 40, 40, 85)), "expected those of strides"),
        (((1, 8400, 80), (1, 8400, 5)), "neither of which holds boxes"),
        (((1, 8401, 80), (1, 8400, 4)), "no scores for 8400 boxes"),
        (((5, 7),), "a classifier"),
        (((1, 10647, 80), (1, 10647, 1, 4)), "no known detector"),
        (((1,),), "no known detector"),
        (((),), "no known detector"),
        (((-1, 6),), "stays open"),
        ((), "no known detector"),
    ],
)
def test_shapes_of_no_known_head_are_refused_with_a_list(shapes, words):
    with pytest.raises(ModelError, match=rf"{words}.*inputs: .*outputs: "):
        recognise(evidence(*shapes))


def test_an_impossible_family_is_refused(tmp_path):
    with pytest.raises(ModelError, match="family 'damo-yolo' was asked for, but the outputs are those of 'yolov7'"):
        spec_of(tmp_path, "yolov7-grid", family="damo-yolo")
    with pytest.raises(ModelError, match="family 'yolov7' was asked for"):
        spec_of(tmp_path, "ultralytics-columns", family="yolov7")
    with pytest.raises(InvalidArgument, match="family: expected one of yolov7"):
        spec_of(tmp_path, "yolov7-grid", family="yolo")


def test_yolov7_rows_may_be_called_ultralytics(tmp_path):
    assert spec_of(tmp_path, "yolov7-grid", family="ultralytics").family == "ultralytics"


# --- our own description ---


def described(layout: str, **changes) -> onnx.ModelProto:
    """A model that carries its own description, with changes to it."""
    proto = make_models.build(layout, size=SIZE, classes=3)
    head = Head(layout="columns", num_classes=3, outputs=("output0",))
    spec = ModelSpec(
        family="ultralytics", names=("a", "b", "c"), imgsz=SIZE, stride=32, preprocess=STRETCH, head=head, conf=0.5
    )
    helper.set_model_props(proto, {METADATA_KEY: dataclasses.replace(spec, **changes).to_json()})
    return proto


def test_our_own_description_wins_over_inference(tmp_path):
    spec = load(tmp_path, described("ultralytics-columns")).spec
    assert (spec.names, spec.preprocess, spec.conf, spec.source) == (("a", "b", "c"), STRETCH, 0.5, "metadata")


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (Head(layout="columns", num_classes=3, outputs=("other",)), "output 'other' is not in the file"),
        (Head(layout="rows", num_classes=3, outputs=("output0",)), r"should be \['\?', '\?', 7\].*has \[1, 7, 126\]"),
        (Head(layout="columns", num_classes=3, outputs=("output0",), has_objectness=True), "should be"),
    ],
)
def test_a_description_of_another_model_is_refused(tmp_path, head, words):
    with pytest.raises(ModelError, match=words):
        load(tmp_path, described("ultralytics-columns", head=head))


def test_a_description_of_another_size_or_family_is_refused(tmp_path):
    with pytest.raises(ModelError, match="its description says 640x640"):
        load(tmp_path, described("ultralytics-columns", imgsz=(640, 640)))
    with pytest.raises(ModelError, match="the file describes itself as 'ultralytics'"):
        load(tmp_path, described("ultralytics-columns"), family="yolov7")


@pytest.mark.parametrize("layout", ["yolov7-raw", "yolov7-raw-flat", "damo-raw", "damo-two-outputs", "yolov7-grid"])
def test_an_inferred_description_is_accepted_once_written_down(tmp_path, layout):
    proto = make_models.build(layout, size=SIZE)
    inferred = load(tmp_path, proto).spec
    helper.set_model_props(proto, {METADATA_KEY: inferred.to_json()})
    assert load(tmp_path, proto).spec == dataclasses.replace(inferred, source="metadata")


# --- input and size ---


def with_input(elem_type: int, shape: list[int | str]) -> onnx.ModelProto:
    node = helper.make_node("Identity", ["images"], ["output"])
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("images", elem_type, shape)],
        [helper.make_tensor_value_info("output", elem_type, shape)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize(
    ("elem_type", "shape", "words"),
    [
        (TensorProto.UINT8, [1, 3, 64, 64], "is uint8.*expected float32"),
        (TensorProto.FLOAT, [1, 64, 64, 3], "channels last"),
        (TensorProto.FLOAT, [1, 1, 64, 64], "1 channels; expected an RGB image"),
        (TensorProto.FLOAT, [1, 3, 64], r"expected float32 \[N, 3, H, W\]"),
        (TensorProto.FLOAT, [1, 3, 64, 10**6], "at most 16384 px"),
        (TensorProto.INT64, [1, 3, 64, 64], "is int64"),
    ],
)
def test_other_inputs_are_refused(tmp_path, elem_type, shape, words):
    with pytest.raises(ModelError, match=words):
        load(tmp_path, with_input(elem_type, shape))


def test_two_inputs_are_refused(tmp_path):
    proto = make_models.build("yolov7-grid", size=SIZE)
    proto.graph.input.append(helper.make_tensor_value_info("scale_factor", TensorProto.FLOAT, [1, 2]))
    with pytest.raises(ModelError, match=r"expected one input.*'images' \[1, 3, 64, 96\], 'scale_factor' \[1, 2\]"):
        load(tmp_path, proto)


def test_a_fixed_input_is_compiled_as_it_is(tmp_path):
    loaded = load(tmp_path, make_models.build("yolov7-grid", size=SIZE, batch=2))
    assert (loaded.input_shape, loaded.dynamic_batch, loaded.dynamic_size) == ((2, 3, 64, 96), False, False)
    assert load(tmp_path, make_models.build("yolov7-grid", size=SIZE), imgsz=SIZE).input_shape == (1, 3, 64, 96)
    with pytest.raises(InvalidArgument, match=r"fixed at \[1, 3, 64, 96\]"):
        load(tmp_path, make_models.build("yolov7-grid", size=SIZE), imgsz=64)


def test_a_free_batch_is_compiled_for_one_image(tmp_path):
    loaded = load(tmp_path, make_models.build("yolov7-grid", size=SIZE, batch="batch"))
    assert (loaded.input_shape, loaded.dynamic_batch) == ((1, 3, 64, 96), True)


def dynamic(layout: str, **more) -> onnx.ModelProto:
    """Free height and width; only raw flat maps hold no constants of the size."""
    proto = make_models.build(layout, size=(64, 64), batch="batch", dynamic_size=True, **more)
    for output in proto.graph.output:
        for axis in (2, 3):
            output.type.tensor_type.shape.dim[axis].dim_param = f"{output.name}{axis}"
    return proto


def test_a_free_size_defaults_to_the_family_and_takes_imgsz(tmp_path):
    proto = dynamic("yolov7-raw-flat", widths=(128, 256, 512))
    loaded = load(tmp_path, proto)
    assert (loaded.input_shape, loaded.spec.imgsz) == ((1, 3, 640, 640), (640, 640))
    assert loaded.dynamic_size
    assert load(tmp_path, proto, imgsz=(96, 160)).spec.imgsz == (96, 160)
    with pytest.raises(InvalidArgument, match="multiples of 32; try 128x160"):
        load(tmp_path, proto, imgsz=(100, 160))


def test_a_free_p6_model_defaults_to_1280(tmp_path):
    proto = dynamic("yolov7-w6-raw", split=False)
    assert load(tmp_path, proto).input_shape == (1, 3, 1280, 1280)
    with pytest.raises(InvalidArgument, match="multiples of 64"):
        load(tmp_path, proto, imgsz=672)


def test_a_free_size_takes_that_of_the_metadata(tmp_path):
    proto = dynamic("yolov7-raw-flat")
    helper.set_model_props(proto, make_models.ultralytics_metadata(["a", "b", "c"], imgsz="[96, 128]"))
    assert load(tmp_path, proto).spec.imgsz == (96, 128)


def test_our_own_description_follows_a_free_size(tmp_path):
    proto = dynamic("yolov7-raw-flat")
    spec = load(tmp_path, proto, imgsz=64).spec
    helper.set_model_props(proto, {METADATA_KEY: spec.to_json()})
    assert load(tmp_path, proto).spec.imgsz == (64, 64)
    assert load(tmp_path, proto, imgsz=(96, 64)).spec.imgsz == (96, 64)
