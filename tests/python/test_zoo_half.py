"""`zoo.build(precision="fp16")`: float16 inside, float32 at the ends, close to the float32 network.

onnxruntime runs without its optimisations here, so that every node's result is rounded to float16, as on a GPU; with
them it would join nodes in float32 and show a smaller error than there is.
"""

from __future__ import annotations

import json

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto

import swiftdet
from network_states import random_fill, state_of
from swiftdet import zoo
from swiftdet.cli import main
from swiftdet.errors import InvalidArgument, ModelError

LARGE = 20e6
CASES = [
    pytest.param(name, head, marks=pytest.mark.slow if zoo.info(name).params > LARGE else ())
    for name in zoo.names()
    for head in ("raw", "decoded")
    if head == "raw" or zoo.info(name).params < LARGE  # the decoding is the same for all of a family
]
SIDE = 128


def run(model: onnx.ModelProto, images: np.ndarray) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"images": images})


def pictures(name: str, count: int = 1) -> np.ndarray:
    scale = 255.0 if zoo.info(name).family == "damo-yolo" else 1.0
    return (np.random.default_rng(11).random((count, 3, SIDE, SIDE)) * scale).astype(np.float32)


def types(values) -> set[int]:
    return {value.type.tensor_type.elem_type for value in values}


@pytest.mark.parametrize(("name", "head"), CASES)
def test_half_precision_is_close_to_single(name, head):
    """Made-up weights keep every map of order one, like trained ones; float16 has 11 bits, a step of 0.002 at 4."""
    single = zoo.build(name, imgsz=SIDE, head=head)
    half = zoo.build(name, imgsz=SIDE, head=head, precision="fp16")
    onnx.checker.check_model(half, full_check=True)
    inferred = onnx.shape_inference.infer_shapes(half, strict_mode=True, data_prop=True)
    assert types(inferred.graph.input) == types(inferred.graph.output) == {TensorProto.FLOAT}
    for got, want in zip(run(half, pictures(name)), run(single, pictures(name)), strict=True):
        assert got.dtype == np.float32
        if head == "raw":  # logits
            np.testing.assert_allclose(got, want, rtol=0.003, atol=0.02)
        else:  # px of a box, and scores
            np.testing.assert_allclose(got, want, rtol=0.003, atol=0.1)


@pytest.mark.parametrize("name", ["yolov7-tiny", "yolov7-w6", "damo-yolo-t"])
def test_weights_and_maps_are_half_and_nothing_else(name):
    model = zoo.build(name, precision="fp16", head="decoded")
    inferred = {
        value.name: value.type.tensor_type.elem_type
        for value in onnx.shape_inference.infer_shapes(model).graph.value_info
    }
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Conv":
            assert {kinds[name] for name in node.input[1:]} == {TensorProto.FLOAT16}
            assert inferred[node.output[0]] == TensorProto.FLOAT16
    decoding = [node for node in model.graph.node if node.op_type in {"Softmax", "Split", "ReduceSum", "Sub"}]
    assert decoding
    assert {inferred[node.output[0]] for node in decoding} == {TensorProto.FLOAT}
    raw = zoo.build(name, precision="fp16").graph
    casts = {node.output[0]: node.attribute[0].i for node in raw.node if node.op_type == "Cast"}
    assert casts == {"images/half": TensorProto.FLOAT16} | {o.name: TensorProto.FLOAT for o in raw.output}
    single = zoo.build(name, head="decoded").ByteSize()
    assert model.ByteSize() < 0.51 * single + 500_000  # the grids of the decoding stay as they are


@pytest.mark.parametrize("name", ["yolov7-tiny", "damo-yolo-ns"])
def test_a_dynamic_half_network_takes_any_batch_and_size(name):
    model = zoo.build(name, imgsz="dynamic", precision="fp16")
    one = run(model, pictures(name)[:, :, :64, :96])
    two = run(model, np.repeat(pictures(name)[:, :, :64, :96], 2, axis=0))
    for single, double in zip(one, two, strict=True):
        assert double.shape[0] == 2
        np.testing.assert_allclose(double[1], single[0], rtol=0, atol=0.01)


def test_a_weight_beyond_half_precision_is_refused():
    state = state_of("yolov7-tiny", random_fill)
    state["model.77.m.0.bias"] = np.full(255, 1e6, np.float32)
    zoo.build("yolov7-tiny", state)
    with pytest.raises(ModelError, match=r"model\.77\.m\.0\.bias: 1e\+06 is beyond float16"):
        zoo.build("yolov7-tiny", state, precision="fp16")


def test_half_precision_is_for_the_merged_graph():
    with pytest.raises(InvalidArgument, match="leave deploy=True"):
        zoo.build("yolov7-tiny", precision="fp16", deploy=False)


def test_an_exported_half_network_detects_what_the_single_one_does(tmp_path, capsys):
    picture = np.random.default_rng(5).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    found = {}
    for precision in ("fp32", "fp16"):
        path = tmp_path / f"{precision}.onnx"
        options = ["--weights", "synthetic", "--imgsz", str(SIDE), "--precision", precision, "--json"]
        assert main(["export", "damo-yolo-ns", "-o", str(path), *options]) == 0
        assert json.loads(capsys.readouterr().out)["build"]["precision"] == precision
        with swiftdet.Detector(path, conf=0.001, max_det=10) as detector:
            found[precision] = detector(picture)
    assert len(found["fp32"]) == 10
    np.testing.assert_allclose(found["fp16"].conf, found["fp32"].conf, rtol=0.01)
