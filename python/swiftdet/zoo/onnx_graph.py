"""From layers to an ONNX graph.

Built with `onnx.helper`, the plainest of the maintained libraries: `onnx` is a dependency already, `ModelProto` is what
`build` returns, and opset and IR version stay in our hands (current releases stamp an IR that onnxruntime refuses).
spox infers and checks types node by node, which costs seconds on a thousand nodes and buys nothing where the layer list
already knows every shape; onnx-ir is made for rewriting models, and these are written once in their final form.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from swiftdet.errors import ModelError
from swiftdet.zoo import folding
from swiftdet.zoo.network import (
    BN_EPSILON,
    Activation,
    Add,
    Concat,
    Conv,
    Kernel,
    Layer,
    MaxPool,
    Network,
    RepConv,
    SpaceToDepth,
    Upsample,
)
from swiftdet.zoo.parameters import State, is_folded, is_merged

Dims: TypeAlias = Sequence[int | str]
"""Dimensions of a tensor; a name is a free one."""

OPSET = 17
IR_VERSION = 8


class Graph:
    """Nodes and constants under construction."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}

    def node(self, op: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Appends a node with one output, called as that; returns the output."""
        self._nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def nodes(self, op: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> Sequence[str]:
        """Appends a node with several outputs, called as the first; returns them."""
        self._nodes.append(helper.make_node(op, inputs, outputs, name=outputs[0], **attributes))
        return outputs

    def constant(self, name: str, value: npt.ArrayLike, dtype: npt.DTypeLike = np.float32) -> str:
        """Adds a constant, once; returns its name."""
        if name not in self._constants:
            array = np.asarray(value, dtype=dtype)
            little_endian = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
            self._constants[name] = TensorProto(
                name=name,
                dims=array.shape,
                data_type=helper.np_dtype_to_tensor_dtype(array.dtype),
                raw_data=little_endian.tobytes(),
            )
        return name

    def to_half(self, image: str, results: Sequence[str]) -> None:
        """Turns what has been written so far to float16 inside; `image` and `results` stay float32.

        Engines with typed networks compute in the types of the graph, so precision is part of the file. What is written
        afterwards, such as a decoded head, is float32 again.

        Raises:
            ModelError: a constant is beyond float16's range.
        """
        inner = {name: f"{name}/half" for name in (image, *results)}
        scales = {node.input[2] for node in self._nodes if node.op_type == "Resize"}  # float32 by its definition
        for name, tensor in self._constants.items():
            if tensor.data_type == TensorProto.FLOAT and name not in scales:
                tensor.raw_data = _half(name, np.frombuffer(tensor.raw_data, "<f4")).tobytes()
                tensor.data_type = TensorProto.FLOAT16
        for node in self._nodes:
            node.input[:] = [inner.get(name, name) for name in node.input]
            node.output[:] = [inner.get(name, name) for name in node.output]
            node.name = node.output[0]
        body, self._nodes = self._nodes, []
        self.node("Cast", [image], inner[image], to=TensorProto.FLOAT16)
        self._nodes += body
        for name in results:
            self.node("Cast", [inner[name]], name, to=TensorProto.FLOAT)

    def finish(
        self, name: str, image: Dims, outputs: Sequence[tuple[str, Dims]], *, metadata: dict[str, str], version: str
    ) -> onnx.ModelProto:
        """The model: one input `images`, these outputs."""

        def value(tensor: str, dims: Dims) -> onnx.ValueInfoProto:
            return helper.make_tensor_value_info(tensor, TensorProto.FLOAT, list(dims))

        graph = helper.make_graph(
            self._nodes,
            name,
            [value(Network.input.name, image)],
            [value(tensor, dims) for tensor, dims in outputs],
            list(self._constants.values()),
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="swiftdet",
            producer_version=version,
        )
        helper.set_model_props(model, metadata)
        return model


def _half(name: str, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float16]:
    with np.errstate(over="ignore"):
        half = values.astype("<f2")
    if not np.isfinite(half).all():
        raise ModelError(
            f"{name}: {np.abs(values).max():.3g} is beyond float16, whose largest number is 65504; use precision='fp32'"
        )
    return half


def write(network: Network, state: State, graph: Graph, *, deploy: bool) -> None:
    """Writes the layers with their weights.

    Args:
        network: the layers.
        state: a checkpoint that fits the network.
        graph: to write into.
        deploy: True gives the smallest graph that computes the same; False one node for each official module.
    """
    writer: _Writer = _DeployWriter(state, graph) if deploy else _Writer(state, graph)
    for layer in network.layers:
        writer.write(layer)


class _Writer:
    """Writes layers as they are: convolution, batch norm, branches and head terms apart."""

    def __init__(self, state: State, graph: Graph) -> None:
        self._state = state
        self._graph = graph

    def write(self, layer: Layer) -> None:
        graph = self._graph
        if isinstance(layer, Conv):
            self._conv(layer)
        elif isinstance(layer, RepConv):
            self._rep_conv(layer)
        elif isinstance(layer, MaxPool):
            self._max_pool(layer)
        elif isinstance(layer, Upsample):
            scales = graph.constant("upsample.scales", [1, 1, 2, 2])
            graph.node(
                "Resize",
                [layer.source, "", scales],
                layer.output,
                mode="nearest",
                nearest_mode="floor",
                coordinate_transformation_mode="asymmetric",
            )
        elif isinstance(layer, SpaceToDepth):
            self._space_to_depth(layer)
        elif isinstance(layer, Concat):
            graph.node("Concat", layer.sources, layer.output, axis=1)
        else:
            self._add(layer)

    def _conv(self, layer: Conv) -> None:
        graph, source, linear = self._graph, layer.source, layer.activation is None
        if layer.added_before:
            term = graph.constant(layer.added_before, self._state[layer.added_before])
            source = graph.node("Add", [source, term], f"{layer.output}/shifted")
        if layer.scaled_after:
            out = self._kernel(layer.kernel, source, layer.stride, f"{layer.output}/unscaled")
            factor = graph.constant(layer.scaled_after, self._state[layer.scaled_after])
            graph.node("Mul", [out, factor], layer.output)
            return
        out = self._kernel(layer.kernel, source, layer.stride, layer.output if linear else f"{layer.output}/linear")
        self._activate(out, layer.activation, layer.output)

    def _rep_conv(self, layer: RepConv) -> None:
        linear = layer.output if layer.activation is None else f"{layer.output}/linear"
        if is_merged(layer, self._state.keys()):
            self._one_conv(layer, linear)
        else:
            dense = self._kernel(layer.dense, layer.source, layer.stride, f"{layer.output}/dense")
            pointwise = self._kernel(layer.pointwise, layer.source, layer.stride, f"{layer.output}/1x1")
            self._graph.node("Add", [dense, pointwise], linear)
        self._activate(linear, layer.activation, layer.output)

    def _one_conv(self, layer: Conv | RepConv, output: str) -> None:
        """The layer's kernels as a single convolution."""
        kernel, key = (layer.kernel, layer.kernel.key) if isinstance(layer, Conv) else (layer.dense, layer.merged)
        weight, bias = folding.fold(layer, self._state)
        inputs = [layer.source, *self._weights(key, weight, bias)]
        self._convolution(inputs, output, kernel.size, layer.stride, groups=kernel.groups)

    def _kernel(self, kernel: Kernel, source: str, stride: int, output: str) -> str:
        """A convolution and its batch norm, or its bias."""
        weight = self._graph.constant(f"{kernel.key}.weight", self._state[f"{kernel.key}.weight"])
        if is_folded(kernel, self._state.keys()):
            bias = self._graph.constant(f"{kernel.key}.bias", self._state[f"{kernel.key}.bias"])
            return self._convolution([source, weight, bias], output, kernel.size, stride, groups=kernel.groups)
        raw = self._convolution([source, weight], f"{output}/conv", kernel.size, stride, groups=kernel.groups)
        leaves = ("weight", "bias", "running_mean", "running_var")
        norm = [self._graph.constant(f"{kernel.norm}.{leaf}", self._state[f"{kernel.norm}.{leaf}"]) for leaf in leaves]
        return self._graph.node("BatchNormalization", [raw, *norm], output, epsilon=BN_EPSILON)

    def _weights(self, key: str, weight: folding.Float32, bias: folding.Float32) -> tuple[str, str]:
        return self._graph.constant(f"{key}.weight", weight), self._graph.constant(f"{key}.bias", bias)

    def _convolution(
        self, inputs: Sequence[str], output: str, size: int, stride: int, *, groups: int = 1, padding: int | None = None
    ) -> str:
        pad = size // 2 if padding is None else padding
        return self._graph.node(
            "Conv",
            inputs,
            output,
            kernel_shape=[size, size],
            strides=[stride, stride],
            pads=[pad] * 4,
            group=groups,
        )

    def _activate(self, source: str, activation: Activation | None, output: str) -> None:
        if activation == "silu":  # no operator of its own in this opset; engines fuse the pair
            gate = self._graph.node("Sigmoid", [source], f"{output}/sigmoid")
            self._graph.node("Mul", [source, gate], output)
        elif activation == "relu":
            self._graph.node("Relu", [source], output)
        elif activation == "leaky":
            self._graph.node("LeakyRelu", [source], output, alpha=0.1)

    def _add(self, layer: Add) -> None:
        linear = layer.output if layer.activation is None else f"{layer.output}/sum"
        self._graph.node("Add", layer.sources, linear)
        self._activate(linear, layer.activation, layer.output)

    def _max_pool(self, layer: MaxPool) -> None:
        self._graph.node(
            "MaxPool",
            [layer.source],
            layer.output,
            kernel_shape=[layer.size, layer.size],
            strides=[layer.stride, layer.stride],
            pads=[layer.size // 2 if layer.stride == 1 else 0] * 4,
        )

    def _space_to_depth(self, layer: SpaceToDepth) -> None:
        graph = self._graph
        end, step, axes = ((np.iinfo(np.int64).max,) * 2, (2, 2), (2, 3))
        phases = []
        for row, column in ((0, 0), (1, 0), (0, 1), (1, 1)):
            constants = [
                graph.constant(f"phase.{name}", value, np.int64)
                for name, value in ((f"{row}{column}", (row, column)), ("end", end), ("axes", axes), ("step", step))
            ]
            phases.append(graph.node("Slice", [layer.source, *constants], f"{layer.output}/{row}{column}"))
        graph.node("Concat", phases, layer.output, axis=1)


class _DeployWriter(_Writer):
    """Writes every convolution as one node with a bias, and leaves out what that makes needless."""

    def __init__(self, state: State, graph: Graph) -> None:
        super().__init__(state, graph)
        self._pixels: dict[str, str] = {}  # output of a SpaceToDepth not written -> its source

    def _conv(self, layer: Conv) -> None:
        linear = layer.output if layer.activation is None else f"{layer.output}/linear"
        if layer.source in self._pixels:
            weight, bias = folding.fold(layer, self._state)
            weights = self._weights(layer.kernel.key, folding.pixels_before_stem(weight), bias)
            self._convolution([self._pixels[layer.source], *weights], linear, 6, 2, padding=2)
        else:
            self._one_conv(layer, linear)
        self._activate(linear, layer.activation, layer.output)

    def _rep_conv(self, layer: RepConv) -> None:
        linear = layer.output if layer.activation is None else f"{layer.output}/linear"
        self._one_conv(layer, linear)
        self._activate(linear, layer.activation, layer.output)

    def _space_to_depth(self, layer: SpaceToDepth) -> None:
        """Both families have it on the image, before one 3x3 convolution; that reads the pixels itself."""
        self._pixels[layer.output] = layer.source
