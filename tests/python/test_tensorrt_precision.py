"""Foreign float32 graphs brought to float16, by onnxconverter-common for real and by ModelOpt's interface as a fake."""

from __future__ import annotations

import sys
import types

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from swiftdet import zoo
from swiftdet.engines.tensorrt.precision import decoding_nodes, is_half, to_half
from swiftdet.errors import BackendUnavailable, ModelError

SIDE = 64


def foreign(name: str) -> onnx.ModelProto:
    """An export with its head decoded, as other tools write it: no description, and nodes without names."""
    model = zoo.build(name, imgsz=SIDE, head="decoded", batch=1)
    del model.metadata_props[:]
    for node in model.graph.node:
        node.ClearField("name")
    return model


def run(model: bytes, images: np.ndarray) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL  # every node rounds to float16
    options.log_severity_level = 4
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"]).run(None, {"images": images})


@pytest.mark.parametrize("name", ["yolov7-tiny", "damo-yolo-ns"])
def test_weights_become_half_and_the_decoding_stays_single(name):
    single = foreign(name)
    content = single.SerializeToString()
    half = to_half(content)
    model = onnx.load_model_from_string(half)
    onnx.checker.check_model(model, full_check=True)
    assert is_half(model)
    assert not is_half(single)
    ends = [*model.graph.input, *model.graph.output]
    assert {end.type.tensor_type.elem_type for end in ends} == {TensorProto.FLOAT}
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    assert {kinds[node.input[1]] for node in convolutions} == {TensorProto.FLOAT16}
    inferred = onnx.shape_inference.infer_shapes(model)
    types_ = {value.name: value.type.tensor_type.elem_type for value in inferred.graph.value_info}
    behind = [node for node in model.graph.node if node.op_type in {"Softmax", "ReduceSum", "Split", "Sub"}]
    assert behind
    assert {types_[node.output[0]] for node in behind} == {TensorProto.FLOAT}
    scale = 255.0 if name.startswith("damo") else 1.0
    images = (np.random.default_rng(2).random((1, 3, SIDE, SIDE)) * scale).astype(np.float32)
    for got, want in zip(run(half, images), run(content, images), strict=True):
        np.testing.assert_allclose(got, want, rtol=0.003, atol=0.1)  # px of boxes, and scores
    assert to_half(half) == half


def test_what_is_half_already_stays_as_it_is():
    model = zoo.build("damo-yolo-ns", imgsz=SIDE, precision="fp16").SerializeToString()
    assert to_half(model) is model


def test_the_description_survives():
    model = zoo.build("damo-yolo-ns", imgsz=SIDE)
    before = {entry.key: entry.value for entry in model.metadata_props}
    after = onnx.load_model_from_string(to_half(model.SerializeToString())).metadata_props
    assert {entry.key: entry.value for entry in after} == before


def graph_of(*nodes: onnx.NodeProto, weights: dict[str, tuple[int, ...]]) -> onnx.ModelProto:
    tensors = [numpy_helper.from_array(np.zeros(dims, np.float32), name) for name, dims in weights.items()]
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 8, 8])
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, ["a", "b", "c", "d"])
    return helper.make_model(helper.make_graph(list(nodes), "g", [images], [out], tensors))


def test_what_lies_behind_the_last_kernel():
    node = helper.make_node
    model = graph_of(
        node("Div", ["images", "k"], ["scaled"], name="scale"),
        node("Conv", ["scaled", "w"], ["a"], name="conv"),
        node("Sigmoid", ["a"], ["s"], name="gate"),
        node("Mul", ["a", "s"], ["b"], name="silu"),
        node("Conv", ["b", "w2"], ["c"]),
        node("Softmax", ["c"], ["d"], name="distribution"),
        node("Conv", ["d", "dfl"], ["e"], name="expectation"),
        node("Sigmoid", ["c"], ["f"], name="scores"),
        node("Concat", ["e", "f"], ["out"], axis=1),
        weights={"k": (), "w": (16, 3, 1, 1), "w2": (16, 16, 1, 1), "dfl": (1, 16, 1, 1)},
    )
    assert decoding_nodes(model) == [5, 6, 7, 8]


def test_kernels_in_constant_nodes_count_too():
    node = helper.make_node
    weight = numpy_helper.from_array(np.zeros((4, 3, 1, 1), np.float32))
    model = graph_of(
        node("Constant", [], ["w"], value=weight, name="weight"),
        node("Relu", ["images"], ["a"], name="first"),
        node("Conv", ["a", "w"], ["b"], name="conv"),
        node("Relu", ["b"], ["out"], name="last"),
        weights={},
    )
    assert decoding_nodes(model) == [3]


def test_a_constant_that_both_halves_read_keeps_both_types():
    node = helper.make_node
    model = graph_of(
        node("Add", ["images", "k"], ["a"]),
        node("Conv", ["a", "w"], ["b"]),
        node("Mul", ["b", "k"], ["out"]),
        weights={"k": (1,), "w": (4, 3, 1, 1)},
    )
    model.ir_version, model.opset_import[0].version = 8, 17
    half = onnx.load_model_from_string(to_half(model.SerializeToString()))
    kinds = {tensor.name: tensor.data_type for tensor in half.graph.initializer}
    assert kinds == {"k": TensorProto.FLOAT16, "w": TensorProto.FLOAT16, "decoding/k": TensorProto.FLOAT}
    (out,) = run(half.SerializeToString(), np.ones((1, 3, 8, 8), np.float32))
    assert (out.shape, out.dtype) == ((1, 4, 8, 8), np.float32)


def test_without_a_converter_it_says_what_to_install(monkeypatch):
    for module in ("modelopt", "modelopt.onnx.autocast", "onnxconverter_common", "onnxconverter_common.float16"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(BackendUnavailable, match="pip install onnxconverter-common, or use fp32"):
        to_half(foreign("damo-yolo-ns").SerializeToString())


@pytest.fixture
def modelopt(monkeypatch):
    """ModelOpt as far as we call it (nvidia-modelopt 0.47); it wants a file."""
    calls = []

    def convert_to_mixed_precision(onnx_path, low_precision_type="fp16", nodes_to_exclude=None, *, keep_io_types=False):
        model = onnx.load(onnx_path)
        calls.append((low_precision_type, keep_io_types, {node.op_type for node in model.graph.node}))
        if calls[0] == "broken":
            model.graph.node[0].op_type = ""
        return model

    module = types.ModuleType("modelopt.onnx.autocast")
    module.convert_to_mixed_precision = convert_to_mixed_precision
    for name in ("modelopt", "modelopt.onnx"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "modelopt.onnx.autocast", module)
    return calls


def test_modelopt_is_preferred_and_gets_the_network_alone(modelopt):
    to_half(foreign("damo-yolo-ns").SerializeToString())
    ((precision, keeps_ends, operators),) = modelopt
    assert (precision, keeps_ends) == ("fp16", True)
    assert "Conv" in operators
    assert not operators & {"Softmax", "ReduceSum", "Transpose"}


def test_a_converter_that_fails_is_one_clear_error(modelopt):
    modelopt.append("broken")
    with pytest.raises(ModelError, match="cannot be converted to float16"):
        to_half(foreign("damo-yolo-ns").SerializeToString())
