"""Counts a network's parameters and multiply-accumulates from its ONNX graph alone."""

from __future__ import annotations

import math

import onnx


def cost(model: onnx.ModelProto) -> tuple[int, float]:
    """(parameters of the convolutions, GFLOPs: two per multiply-accumulate of a convolution and nothing else)."""
    dims = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    shapes = {value.name: shape(value) for value in inferred(model).graph.value_info}
    shapes |= {value.name: shape(value) for value in model.graph.output}
    parameters, macs = 0, 0
    for node in model.graph.node:
        if node.op_type != "Conv":
            continue
        weight, *biases = (dims[name] for name in node.input[1:])
        parameters += math.prod(weight) + sum(math.prod(bias) for bias in biases)
        macs += math.prod(weight) * math.prod(shapes[node.output[0]][2:])
    return parameters, 2 * macs / 1e9


def inferred(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the shapes of all tensors, and without its large constants, which would only be copied."""
    bare = onnx.ModelProto()
    bare.ir_version = model.ir_version
    bare.opset_import.extend(model.opset_import)
    bare.graph.name = model.graph.name
    bare.graph.node.extend(model.graph.node)
    bare.graph.input.extend(model.graph.input)
    bare.graph.output.extend(model.graph.output)
    for tensor in model.graph.initializer:
        if math.prod(tensor.dims) <= 8:
            bare.graph.initializer.append(tensor)
        else:
            value = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            bare.graph.input.append(value)
    return onnx.shape_inference.infer_shapes(bare, strict_mode=True, data_prop=True)


def shape(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    return tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
