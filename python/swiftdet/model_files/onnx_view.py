"""The format-neutral structure of an ONNX model."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from swiftdet.model_files.graph import AttributeValue, Graph, Node

_SMALL_CONSTANT = 64


def dimensions(tensor_type: onnx.TypeProto.Tensor) -> tuple[int, ...]:
    """Declared dimensions; -1 = open."""
    return tuple(d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else -1 for d in tensor_type.shape.dim)


def view(proto: onnx.ModelProto) -> Graph:
    """Nodes and constants of the main graph; holds on to `proto` for the values of constants."""
    graph = proto.graph
    tensors = {t.name: t for t in graph.initializer}
    scalars = dict[str, tuple[int, ...]]()
    for node in graph.node:
        if node.op_type == "Constant" and node.output and node.attribute:
            attribute = node.attribute[0]
            if attribute.HasField("t"):
                tensors[node.output[0]] = attribute.t
            else:  # value_float, value_ints and the like
                count = max(len(attribute.ints), len(attribute.floats))
                scalars[node.output[0]] = (count,) if count else ()
    nodes = tuple(
        Node(
            op=node.op_type,
            domain=node.domain,
            name=node.name,
            inputs=tuple(node.input),
            outputs=tuple(node.output),
            attributes={a.name: value for a in node.attribute if (value := _attribute(a)) is not None},
        )
        for node in graph.node
        if node.op_type != "Constant"
    )
    return Graph(
        nodes=nodes,
        inputs=tuple(i.name for i in graph.input if i.name not in tensors),
        outputs=tuple(o.name for o in graph.output),
        constants=scalars | {name: tuple(t.dims) for name, t in tensors.items()},
        read_constant=lambda name: _small_value(tensors.get(name)),
        scopes=(*(t.name for t in graph.initializer), *(node.name for node in graph.node)),
    )


def _attribute(attribute: onnx.AttributeProto) -> AttributeValue | None:
    kind = attribute.type
    if kind == onnx.AttributeProto.INT:
        return int(attribute.i)
    if kind == onnx.AttributeProto.FLOAT:
        return float(attribute.f)
    if kind == onnx.AttributeProto.INTS and len(attribute.ints) <= _SMALL_CONSTANT:
        return tuple(int(v) for v in attribute.ints)
    return None


def _small_value(tensor: onnx.TensorProto | None) -> npt.NDArray[np.generic] | None:
    if tensor is None or not 0 < math.prod(tensor.dims) <= _SMALL_CONSTANT or any(d < 0 for d in tensor.dims):
        return None
    try:
        return np.asarray(numpy_helper.to_array(tensor))
    except (ValueError, TypeError, KeyError):  # a corrupt constant proves nothing
        return None
