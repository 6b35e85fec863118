"""A float16 graph as a float32 one that rounds where float16 would: engines on the CPU compute it so on their own.

ONNX Runtime and OpenVINO compute float16 nodes in float32 on most processors and leave out the roundings between them,
so that nothing overflows there which would on a GPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx


def rounded(half: bytes) -> bytes:
    """The graph in float32, each float16 tensor cast to float16 and back behind the node that makes it.

    Args:
        half: ONNX with its weights inside; its inputs and outputs float32.
    """
    import onnx  # noqa: PLC0415 - slow to import

    model = onnx.load_model_from_string(half)
    graph = model.graph
    known = onnx.shape_inference.infer_shapes(model).graph
    halves = {value.name for value in known.value_info if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT16}
    for tensor in graph.initializer:
        _widen(tensor)
    nodes = []
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                _widen(attribute.t)
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == onnx.TensorProto.FLOAT16:
                attribute.i = onnx.TensorProto.FLOAT  # rounded behind it, as every half
        nodes.append(node)
        for place, name in enumerate(node.output):
            if name not in halves:
                continue
            exact, short = f"{name}/exact", f"{name}/half"
            node.output[place] = exact
            nodes.append(onnx.helper.make_node("Cast", [exact], [short], to=onnx.TensorProto.FLOAT16))
            nodes.append(onnx.helper.make_node("Cast", [short], [name], to=onnx.TensorProto.FLOAT))
    ordered = [_copied(node) for node in nodes]
    del graph.node[:], graph.value_info[:]
    graph.node.extend(ordered)
    return bytes(model.SerializeToString())


def _widen(tensor: onnx.TensorProto) -> None:
    """Makes a float16 tensor float32."""
    import onnx  # noqa: PLC0415 - slow to import

    if tensor.data_type == onnx.TensorProto.FLOAT16:
        tensor.CopyFrom(
            onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor).astype(np.float32), tensor.name)
        )


def _copied(node: onnx.NodeProto) -> onnx.NodeProto:
    copy = type(node)()
    copy.CopyFrom(node)
    return copy
