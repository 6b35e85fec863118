"""Graphs that an engine's parser crashes on, or never returns from, are refused before it sees them."""

from __future__ import annotations

import make_models
import onnx
import pytest
from onnx import TensorProto, helper

import swiftdet
from swiftdet.errors import ModelError
from swiftdet.model_files.onnx_checks import check_graph


def graph(*nodes, functions=(), version=17):
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    body = helper.make_graph(nodes, "g", ports[:1], ports[1:])
    return helper.make_model(body, functions=functions, opset_imports=[helper.make_opsetid("", version)])


def node(operator, inputs, outputs, **attributes):
    return helper.make_node(operator, inputs, outputs, **attributes)


def branch(*nodes):
    return helper.make_graph(nodes, "branch", [], [helper.make_tensor_value_info("b", TensorProto.FLOAT, [1])])


def function(name, *nodes):
    return helper.make_function("d", name, ["x"], ["y"], nodes, [helper.make_opsetid("", 17)])


SOUND = node("Relu", ["x"], ["y"])
DAMAGED = {
    "no output": (graph(SOUND, node("Relu", ["x"], [])), "operator Relu has no output"),
    "no output, of nobody's operator": (graph(SOUND, node("Odd", ["x"], [], domain="z")), "operator Odd has no output"),
    "no output in a branch": (
        graph(node("If", ["x"], ["y"], then_branch=branch(node("Relu", ["x"], [])), else_branch=branch())),
        "operator Relu has no output",
    ),
    "no output in a function": (
        graph(node("f", ["x"], ["y"], domain="d"), functions=[function("f", SOUND, node("Relu", ["x"], []))]),
        "operator Relu has no output",
    ),
    "too few inputs": (graph(node("Add", ["x"], ["y"])), "operator Add needs at least 2 inputs, got 1"),
    "an input without a name": (graph(node("Add", ["x", ""], ["y"])), "operator Add needs at least 2 inputs, got 1"),
    "computed twice": (graph(SOUND, SOUND), "tensor 'y' is computed twice"),
    "an input computed": (graph(SOUND, node("Relu", ["y"], ["x"])), "tensor 'x' is computed twice, or is an input"),
    "a circle": (graph(node("Relu", ["a"], ["b"]), node("Relu", ["b"], ["a"])), "is computed from itself"),
    "the far future": (graph(SOUND, version=4 * 10**18), "operator set version 4000000000000000000 does not exist"),
    "a function that calls itself": (
        graph(
            node("f", ["x"], ["y"], domain="d"),
            functions=[function("f", node("f", ["x"], ["y"], domain="d"))],
        ),
        "function 'd::f' calls itself",
    ),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_graph_is_refused(name):
    damaged, message = DAMAGED[name]
    with pytest.raises(ModelError, match=message) as error:
        check_graph(damaged)
    assert "export or download it again" in str(error.value)


def test_sound_graphs_pass():
    check_graph(graph(SOUND))
    check_graph(graph(node("Relu", ["a"], ["y"]), node("Relu", ["x"], ["a"])))  # unsorted, which engines can read
    then = branch(node("Relu", ["x"], ["b"]))
    check_graph(graph(node("If", ["x"], ["y"], then_branch=then, else_branch=then)))
    for layout in make_models.LAYOUTS:
        size = (128, 192) if "w6" in layout else (64, 96)
        check_graph(make_models.build(layout, size=size, classes=3, seed=3))


def test_a_node_without_outputs_does_not_end_the_process(tmp_path):
    """OpenVINO's parser crashes on it."""
    model = make_models.build("ultralytics-columns", size=(64, 96), classes=3, seed=3)
    extra = model.graph.node.add()
    extra.CopyFrom(next(one for one in model.graph.node if one.op_type == "Conv"))
    del extra.output[:]
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(ModelError, match="operator Conv has no output"):
        swiftdet.Detector(tmp_path / "model.onnx", device="cpu")
