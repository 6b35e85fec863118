"""Everything recognition may look at, and the questions it asks of a graph."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from swiftdet.errors import ModelError
from swiftdet.model_files.names import printable

if TYPE_CHECKING:
    from swiftdet.engines.signature import Port, Signature
    from swiftdet.model_files.graph import Graph, Node
    from swiftdet.model_files.metadata import Metadata
    from swiftdet.model_files.nms_cut import NmsCut

_QUANTISING_OPS = ("QuantizeLinear", "DequantizeLinear", "FakeQuantize")
_LAYOUT_OPS = ("Transpose", "Reshape", "Identity", "Cast", "Squeeze", "Unsqueeze", "Flatten", *_QUANTISING_OPS)
_PICKING_OPS = ("Slice", "Split", "Gather", "Concat")
_ACTIVATIONS = ("LeakyRelu", "Relu", "HardSwish", "HSwish", "Swish", "Clip", "Clamp", "Elu", "BatchNormalization")

# Module paths of the training frameworks, as they survive in names of weights and nodes.
_SCOPES = {
    "damo-yolo": re.compile(r"\bgfl_(?:cls|reg)\b|head\.gfl_|/head/gfl_"),
    "ultralytics": re.compile(r"(?:^|[/.])model[./]\d+[./](?:(?:one2one_)?cv[23]\.\d|dfl\b)"),
    "yolov7": re.compile(
        r"(?:^|[/.])model[./]\d+[./](?:rbr_reparam|rbr_dense|ia|im)\b|model[./]\d+[./]m[./]\d\.(?:weight|bias)$"
    ),
}


@dataclass(frozen=True)
class Evidence:
    """Everything recognition may look at.

    Attributes:
        signature: inputs and outputs at the concrete input shape (after a cut: of the cut graph).
        size: (height, width) px of that input.
        graph: structure of the network.
        metadata: what the exporter wrote.
        cut: the suppression that was cut away, if there was one.
        family: what the user says; overrides inference, not facts.
        variant: anchors the user names by "yolov7-tiny" or "yolov7"; None otherwise.
    """

    signature: Signature
    size: tuple[int, int]
    graph: Graph
    metadata: Metadata
    cut: NmsCut | None = None
    family: str | None = None
    variant: str | None = None

    @property
    def outputs(self) -> tuple[Port, ...]:
        """The outputs with their concrete shapes."""
        return self.signature.outputs

    def refusal(self, why: str, advice: str = "") -> ModelError:
        """An error that says what was found and what would help."""
        text = f"{why}; {self.described()}"
        return ModelError(f"{text}; {advice}" if advice else text)

    def described(self) -> str:
        """Inputs and outputs with their shapes, for messages."""
        ports = {"inputs": self.signature.inputs, "outputs": self.signature.outputs}
        return "; ".join(
            f"{kind}: {', '.join(_described(p) for p in ports[kind][:12])}" + (", ..." if len(ports[kind]) > 12 else "")
            for kind in ports
        )

    def scope_family(self) -> str | None:
        """The family that names of weights and nodes give away, if exactly one does."""
        found = {
            family for family, pattern in _SCOPES.items() if any(pattern.search(scope) for scope in self.graph.scopes)
        }
        return found.pop() if len(found) == 1 else None

    def after_sigmoid(self, tensor: str) -> bool:
        """True if `tensor` is a sigmoid's output, rearranged at most."""
        _, node = self.graph.upstream(tensor, (*_LAYOUT_OPS, *_PICKING_OPS))
        return node is not None and node.op == "Sigmoid"

    def slices_of_one_tensor(self, a: str, b: str) -> bool:
        """True if two tensors are parts of one, as in heads that predict boxes and classes together."""
        ops = (*_LAYOUT_OPS, "Slice", "Split", "Gather", "Mul", "MatMul")
        first, _ = self.graph.upstream(a, ops)
        second, _ = self.graph.upstream(b, ops)
        origin, other = self.graph.producer(first), self.graph.producer(second)
        return first == second or (origin is not None and origin is other)

    def uses(self, op: str) -> bool:
        """True if the network has an operation `op`."""
        return any(node.op == op for node in self.graph.nodes)

    def divides_its_input(self) -> bool:
        """True if the image is scaled by 1/255 inside the graph."""
        reach = set(self.graph.inputs)
        for node in self.graph.nodes[:64]:
            if not reach.intersection(node.inputs):
                continue
            if node.op in {"Div", "Mul"}:
                factors = [self.graph.read_constant(name) for name in node.inputs]
                scales = [float(f.reshape(-1)[0]) for f in factors if f is not None and f.size == 1]
                expected = 255.0 if node.op == "Div" else 1 / 255
                if any(abs(scale / expected - 1) < 1e-3 for scale in scales):
                    return True
            if node.op in {*_LAYOUT_OPS, *_PICKING_OPS}:
                reach.update(node.outputs)
        return False

    def detect_convolution(self, output: str) -> DetectConvolution | None:
        """The 1x1 convolution that ends a level of an anchor head; None if the output is not made by one."""
        _, node = self.graph.upstream(output, _LAYOUT_OPS)
        if node is not None and node.op == "Mul" and self._has_constant(node):  # ImplicitM, not merged
            _, node = self.graph.upstream(self.graph.data_input(node), ("Identity", "Cast"))
        if node is not None and node.op == "Add" and self._has_constant(node):  # OpenVINO keeps the bias apart
            _, node = self.graph.upstream(self.graph.data_input(node), ("Identity", "Cast"))
        weight = self._kernel(node)
        if node is None or weight is None or weight[2:] != (1, 1):
            return None
        feeding = self._feeding_kernel(self.graph.data_input(node))
        return DetectConvolution(width=weight[1], channels=weight[0], fed_by=feeding)

    def _has_constant(self, node: Node) -> bool:
        return any(self.graph.is_constant(name) for name in node.inputs if name)

    def _kernel(self, node: Node | None) -> tuple[int, ...] | None:
        """Weight shape (out, in, kh, kw) of a plain convolution."""
        if node is None or node.op != "Conv" or len(node.inputs) < 2:
            return None
        shape = self.graph.constant_shape(node.inputs[1])
        return shape if shape is not None and len(shape) == 4 else None

    def _feeding_kernel(self, tensor: str) -> int:
        """Side of the kernel of the convolution before `tensor`, through its activation; 0 if there is none."""
        for _ in range(16):
            node = self.graph.producer(tensor)
            if node is None or not node.inputs:
                return 0
            if (weight := self._kernel(node)) is not None:
                return weight[2]
            if node.op == "Mul":  # SiLU: x * sigmoid(x)
                plain = [
                    name
                    for name in node.inputs
                    if not self.graph.is_constant(name)
                    and (gate := self.graph.producer(name)) is not None
                    and gate.op not in {"Sigmoid", "HardSigmoid"}
                ]
                if not plain:
                    return 0
                tensor = plain[0]
            elif node.op in {*_ACTIVATIONS, *_QUANTISING_OPS, "Add", "Identity", "Cast", "Sigmoid"}:
                tensor = self.graph.data_input(node)
            else:
                return 0
        return 0


@dataclass(frozen=True)
class DetectConvolution:
    """The last convolution of a level: its input and output channels, and the kernel side of the one before it."""

    width: int
    channels: int
    fed_by: int


def _described(port: Port) -> str:
    return f"{printable(port.name[:80])!r} {list(port.shape)}"
