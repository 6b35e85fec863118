"""Structure of a network, the same for ONNX and OpenVINO IR, as far as recognition asks for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

AttributeValue: TypeAlias = int | float | str | tuple[int, ...]


@dataclass(frozen=True)
class Node:
    """One operation. `op` is ONNX's name for it, in both formats."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    name: str = ""
    domain: str = ""
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)


_UNPACKING = frozenset({"Cast", "Identity", "QuantizeLinear", "DequantizeLinear", "FakeQuantize"})
_RESHAPING = frozenset({"Reshape", "Squeeze", "Unsqueeze"})


def _no_value(_name: str) -> npt.NDArray[np.generic] | None:
    return None


@dataclass(frozen=True)
class Graph:
    """Nodes and constants by tensor name.

    Attributes:
        nodes: in file order.
        inputs: names of the network's inputs.
        outputs: names of the network's outputs.
        constants: shape of every constant tensor.
        aliases: other names of tensors (an OpenVINO output has several).
        read_constant: value of a small constant; None where it is large or not a constant.
        scopes: names of layers and weights, which often keep the module names of the training framework.
    """

    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    constants: Mapping[str, tuple[int, ...]]
    aliases: Mapping[str, str] = field(default_factory=dict)
    read_constant: Callable[[str], npt.NDArray[np.generic] | None] = _no_value
    scopes: tuple[str, ...] = ()

    @cached_property
    def _producers(self) -> dict[str, Node]:
        return {output: node for node in self.nodes for output in node.outputs if output}

    def producer(self, tensor: str) -> Node | None:
        """The node that computes `tensor`; None for inputs, constants and unknown names."""
        return self._producers.get(self.aliases.get(tensor, tensor))

    def upstream(self, tensor: str, through: Iterable[str], *, limit: int = 64) -> tuple[str, Node | None]:
        """Follows the data input of every operation in `through`; the tensor where that ends, and its producer."""
        ops = frozenset(through)
        node = self.producer(tensor)
        for _ in range(limit):
            if node is None or node.op not in ops:
                break
            tensor = self.data_input(node)
            node = self.producer(tensor)
        return tensor, node

    def data_input(self, node: Node) -> str:
        """The first input that is not a constant (the first one if all are)."""
        moving = (name for name in node.inputs if name and not self.is_constant(name))
        return next(moving, node.inputs[0] if node.inputs else "")

    def is_constant(self, tensor: str) -> bool:
        """True for constants, also in another precision or shape (OpenVINO adds a reshaped bias)."""
        return self._first_source(tensor, _UNPACKING | _RESHAPING) in self.constants

    def constant_shape(self, tensor: str) -> tuple[int, ...] | None:
        """Shape of a constant, seen through the operations that only unpack it; None if it is not one."""
        return self.constants.get(self._first_source(tensor, _UNPACKING))

    def _first_source(self, tensor: str, through: frozenset[str]) -> str:
        """Follows the first input of every operation in `through`."""
        tensor = self.aliases.get(tensor, tensor)
        for _ in range(8):
            node = self._producers.get(tensor)
            if node is None or node.op not in through or not node.inputs:
                break
            tensor = node.inputs[0]
        return tensor
