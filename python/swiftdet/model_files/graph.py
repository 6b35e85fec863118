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
        """True for constants and for constants in another precision."""
        return self.constant_shape(tensor) is not None

    def constant_shape(self, tensor: str) -> tuple[int, ...] | None:
        """Shape of a constant, seen through the operations that only unpack it; None if it is not one."""
        for _ in range(8):
            tensor = self.aliases.get(tensor, tensor)
            if tensor in self.constants:
                return self.constants[tensor]
            node = self._producers.get(tensor)
            if node is None or node.op not in {"Cast", "Identity", "DequantizeLinear", "FakeQuantize"} or not node.inputs:
                return None
            tensor = node.inputs[0]
        return None

    def depends_on(self, tensor: str, ops: Iterable[str], *, limit: int = 16) -> bool:
        """True if one of the last operations before `tensor` (`limit` nodes, nearest first) is in `ops`."""
        wanted, queue, seen = frozenset(ops), [tensor], set[str]()
        for _ in range(limit):
            if not queue:
                return False
            node = self.producer(queue.pop(0))
            if node is None:
                continue
            if node.op in wanted:
                return True
            fresh = [name for name in node.inputs if name and name not in seen]
            seen.update(fresh)
            queue.extend(fresh)
        return False
