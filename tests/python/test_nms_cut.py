"""Cutting a suppression out of a graph: the cut model runs, and gives the tensors that its twin without one gives."""

from __future__ import annotations

from pathlib import Path

import make_models
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import onnx_oracle
from swiftdet import engines, model
from swiftdet.errors import ModelError

SIZE = (64, 96)
CLASSES = 3
YOLOV7 = ["yolov7-end2end", "yolov7-include-nms", "yolov7-end2end-ort"]
DAMO = ["damo-end2end-trt8", "damo-end2end-trt7", "damo-end2end-ort"]


def load(folder: Path, proto: onnx.ModelProto, **options) -> model.LoadedModel:
    path = folder / "model.onnx"
    onnx.save(proto, path)
    return model.load(path, inspect=onnx_oracle.inspect, **options)


def image(seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).random((1, 3, *SIZE), np.float32)


def corners(boxes: np.ndarray) -> np.ndarray:
    return np.concatenate([boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2], -1)


@pytest.mark.parametrize("layout", YOLOV7)
@pytest.mark.parametrize("classes", [1, CLASSES])
def test_a_cut_yolov7_gives_boxes_and_scores_of_its_grid_twin(tmp_path, layout, classes):
    loaded = load(tmp_path, make_models.build(layout, size=SIZE, classes=classes))
    head = loaded.spec.head
    assert (loaded.spec.family, head.layout, head.num_classes) == ("yolov7", "scores_boxes", classes)
    outputs = onnx_oracle.run(loaded.model, image())
    assert list(outputs) == list(head.outputs)
    scores, boxes = (outputs[name] for name in head.outputs)
    grid = onnx_oracle.run(make_models.build("yolov7-grid", size=SIZE, classes=classes).SerializeToString(), image())
    rows = grid["output"]
    np.testing.assert_array_equal(scores, rows[..., 4:5] * rows[..., 5:] if classes > 1 else rows[..., 4:5])
    np.testing.assert_array_equal(boxes, rows[..., :4])
    assert head.box_format == "cxcywh"


@pytest.mark.parametrize("layout", DAMO)
def test_a_cut_damo_yolo_gives_the_corners_of_its_plain_twin(tmp_path, layout):
    loaded = load(tmp_path, make_models.build(layout, size=SIZE, classes=CLASSES))
    head = loaded.spec.head
    assert (loaded.spec.family, head.layout, head.box_format) == ("damo-yolo", "scores_boxes", "xyxy")
    outputs = onnx_oracle.run(loaded.model, image())
    scores, boxes = (outputs[name] for name in head.outputs)
    plain = make_models.build("damo-two-outputs", size=SIZE, classes=CLASSES)
    expected_scores, expected_boxes = onnx_oracle.run(plain.SerializeToString(), image()).values()
    np.testing.assert_array_equal(scores, expected_scores)
    np.testing.assert_array_equal(boxes.reshape(expected_boxes.shape), expected_boxes)


@pytest.mark.parametrize("layout", ["yolov7-end2end-ort", "damo-end2end-ort"])
def test_constants_may_be_nodes(tmp_path, layout):
    """As exporters write them that do not fold constants into initialisers, in each of the forms that ONNX has."""
    proto = make_models.build(layout, size=SIZE, classes=CLASSES)
    expected = onnx_oracle.run(load(tmp_path, proto).model, image())
    nodes = []
    for tensor in [t for t in proto.graph.initializer if t.name.startswith("constant")]:
        value = onnx.numpy_helper.to_array(tensor)
        form = {"value": onnx.numpy_helper.from_array(value)}
        if value.dtype == np.int64:
            form = {"value_ints": value.tolist()}
        elif value.ndim == 0:
            form = {"value_float": float(value)}
        nodes.append(helper.make_node("Constant", [], [tensor.name], **form))
        proto.graph.initializer.remove(tensor)
    nodes += [onnx.NodeProto.FromString(node.SerializeToString()) for node in proto.graph.node]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    loaded = load(tmp_path, proto)
    outputs = onnx_oracle.run(loaded.model, image())
    assert list(outputs) == list(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(outputs[name], value)


def test_the_mistaken_coding_would_have_given_other_boxes(tmp_path):
    """The corners that DAMO-YOLO declares as centres are corners: x2 > x1 in most boxes only when read so."""
    loaded = load(tmp_path, make_models.build("damo-end2end-trt8", size=SIZE, classes=CLASSES))
    boxes = onnx_oracle.run(loaded.model, image())[loaded.spec.head.outputs[1]]
    assert np.mean(boxes[..., 2:] > boxes[..., :2]) == 1.0
    assert not np.allclose(corners(boxes), boxes)


@pytest.mark.parametrize("layout", [*YOLOV7, *DAMO])
def test_nothing_of_the_suppression_is_left(tmp_path, layout):
    loaded = load(tmp_path, make_models.build(layout, size=SIZE, classes=CLASSES))
    cut = onnx.load_from_string(loaded.model)
    assert onnx_oracle.session(loaded.model).get_inputs()[0].shape == [1, 3, *SIZE]
    assert {opset.domain for opset in cut.opset_import} == {""}
    used = {name for node in cut.graph.node for name in node.input}
    assert {t.name for t in cut.graph.initializer} <= used
    reachable = used | {output.name for output in cut.graph.output}
    assert all(set(node.output) & reachable for node in cut.graph.node)
    assert not any("NMS" in node.op_type or "NonMax" in node.op_type for node in cut.graph.node)


@pytest.mark.parametrize("layout", [*YOLOV7, *DAMO])
def test_the_default_engine_takes_the_cut_model(tmp_path, layout):
    path = tmp_path / "model.onnx"
    onnx.save(make_models.build(layout, size=SIZE, classes=CLASSES), path)
    loaded = model.load(path)
    assert loaded.spec == load(tmp_path, onnx.load(path)).spec
    ports = engines.inspect(loaded.model, input_shape=loaded.input_shape).outputs
    assert {p.name for p in ports} == set(loaded.spec.head.outputs)


def test_the_original_ort_form_runs_and_picks_from_the_cut_tensors(tmp_path):
    """The mimic is a real end-to-end graph: each of its rows is a box and the best score of the cut tensors."""
    proto = make_models.build("yolov7-end2end-ort", size=SIZE, classes=CLASSES)
    rows = onnx_oracle.run(proto.SerializeToString(), image())["output"]
    assert rows.shape[0] > 0
    assert rows.shape[1] == 7
    loaded = load(tmp_path, proto)
    outputs = onnx_oracle.run(loaded.model, image())
    scores, boxes = (outputs[name][0] for name in loaded.spec.head.outputs)
    for row in rows:
        same = np.flatnonzero(np.isclose(corners(boxes), row[1:5], atol=1e-3).all(-1))
        assert any(scores[i].max() == row[6] and scores[i].argmax() == row[5] for i in same)


def test_the_names_of_include_nms_are_not_believed(tmp_path):
    """The tensor called `boxes` holds scores there."""
    loaded = load(tmp_path, make_models.build("yolov7-include-nms-intermediate", size=SIZE, classes=CLASSES))
    assert loaded.spec.head.outputs == ("boxes", "classes")
    assert loaded.spec.head.box_format == "xyxy"
    assert loaded.spec.family == "yolov7"


def change_nms(proto: onnx.ModelProto, **attributes: object) -> onnx.ModelProto:
    node = next(n for n in proto.graph.node if "NMS" in n.op_type)
    kept = [a for a in node.attribute if a.name not in attributes]
    del node.attribute[:]
    node.attribute.extend([*kept, *(helper.make_attribute(k, v) for k, v in attributes.items())])
    return proto


def test_logits_for_a_suppression_with_activation_are_read_as_logits(tmp_path):
    proto = change_nms(make_models.build("yolov7-end2end", size=SIZE, classes=CLASSES), score_activation=1)
    assert load(tmp_path, proto).spec.head.scores_are_logits


def test_integer_attributes_are_understood_in_both_forms(tmp_path):
    proto = make_models.build("yolov7-end2end", size=SIZE, classes=CLASSES)
    assert load(tmp_path, change_nms(proto, box_coding=1)).spec.head.box_format == "cxcywh"
    assert load(tmp_path, change_nms(proto, box_coding=[0])).spec.head.box_format == "xyxy"


def test_corner_boxes_of_one_per_cell_need_the_family(tmp_path):
    """A repaired DAMO-YOLO export and a third-party Ultralytics one look alike, but want other pixels."""
    proto = make_models.build("damo-end2end-trt8", size=SIZE, classes=CLASSES, coding=0)
    with pytest.raises(ModelError, match=r"--family damo-yolo .* or --family ultralytics"):
        load(tmp_path, proto)
    for family, divisor in (("damo-yolo", 1.0), ("ultralytics", 255.0)):
        spec = load(tmp_path, proto, family=family).spec
        assert (spec.family, spec.head.box_format, spec.preprocess.divisor) == (family, "xyxy", divisor)


def test_names_of_weights_tell_the_family(tmp_path):
    """Exporters keep module paths of convolutions without a normalisation, such as the last ones of a head."""
    for scope, family in (("head.gfl_cls.0.weight", "damo-yolo"), ("model.22.cv3.0.2.weight", "ultralytics")):
        proto = make_models.build("damo-end2end-trt8", size=SIZE, classes=CLASSES, coding=0)
        for node in proto.graph.node:
            node.input[:] = [scope if name == "level0.cls.weight" else name for name in node.input]
        next(t for t in proto.graph.initializer if t.name == "level0.cls.weight").name = scope
        assert load(tmp_path, proto).spec.family == family


def test_an_ultralytics_graph_behind_a_suppression_keeps_its_declared_boxes(tmp_path):
    proto = make_models.build("damo-end2end-trt8", size=SIZE, classes=CLASSES)
    helper.set_model_props(proto, make_models.ultralytics_metadata(["a", "b", "c"]))
    spec = load(tmp_path, proto).spec
    assert (spec.family, spec.head.box_format, spec.names) == ("ultralytics", "cxcywh", ("a", "b", "c"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"isNormalized": 1}, "isNormalized"),
        ({"shareLocation": 0}, "a box per class"),
    ],
)
def test_boxes_in_other_units_are_refused(tmp_path, changes, words):
    proto = change_nms(make_models.build("damo-end2end-trt7", size=SIZE, classes=CLASSES), **changes)
    with pytest.raises(ModelError, match=words):
        load(tmp_path, proto)


def rename_op(proto: onnx.ModelProto, name: str) -> onnx.ModelProto:
    next(n for n in proto.graph.node if "NMS" in n.op_type).op_type = name
    return proto


def test_an_unknown_suppression_is_refused_by_name(tmp_path):
    proto = rename_op(make_models.build("yolov7-end2end", size=SIZE, classes=CLASSES), "EfficientIdxNMS_TRT")
    with pytest.raises(ModelError, match="EfficientIdxNMS_TRT: a suppression that swiftdet does not know"):
        load(tmp_path, proto)


def test_two_suppressions_are_refused(tmp_path):
    proto = make_models.build("yolov7-end2end", size=SIZE, classes=CLASSES)
    twin = proto.graph.node.add()
    twin.CopyFrom(next(n for n in proto.graph.node if "NMS" in n.op_type))
    twin.output[:] = [f"{name}_2" for name in twin.output]
    with pytest.raises(ModelError, match="2 non-maximum suppressions"):
        load(tmp_path, proto)


def test_a_suppression_of_constants_is_refused(tmp_path):
    proto = make_models.build("yolov7-end2end", size=SIZE, classes=CLASSES)
    node = next(n for n in proto.graph.node if "NMS" in n.op_type)
    proto.graph.initializer.add(name="fixed", dims=[1, 4, 4], data_type=TensorProto.FLOAT, float_data=[0.0] * 16)
    node.input[0] = "fixed"
    with pytest.raises(ModelError, match="'fixed' is not computed by the network"):
        load(tmp_path, proto)


def test_another_plugin_is_refused_by_name(tmp_path):
    proto = rename_op(make_models.build("yolov7-end2end", size=SIZE, classes=CLASSES), "MyDecode_TRT")
    with pytest.raises(ModelError, match="TRT::MyDecode_TRT is a plugin"):
        load(tmp_path, proto)


def test_final_detections_keep_the_suppression_inside(tmp_path):
    """Ultralytics' nms=True: [N, M, 6] is a layout of its own."""
    b = make_models.GraphBuilder(SIZE, seed=0)
    detector = make_models.ultralytics_end2end(b, CLASSES)
    boxes = numpy_boxes = np.zeros((1, 4, 4), np.float32)
    proto = detector
    proto.graph.initializer.add().CopyFrom(onnx.numpy_helper.from_array(boxes, "b"))
    proto.graph.initializer.add().CopyFrom(onnx.numpy_helper.from_array(numpy_boxes[:, :1], "s"))
    proto.graph.node.add().CopyFrom(helper.make_node("NonMaxSuppression", ["b", "s"], ["selected"]))
    loaded = load(tmp_path, proto)
    assert loaded.spec.head.layout == "detections"
    assert loaded.model == (tmp_path / "model.onnx").read_bytes()
