"""Networks as lists of layers: the one form that both families' descriptions expand to.

A layer says what it reads, what it computes and under which keys its parameters stand in an official checkpoint. From
this list follow the keys that a checkpoint must hold (`parameters`), made-up weights (`synthetic`) and the ONNX graph
(`onnx_graph`); nothing here knows ONNX, NumPy or a family.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

Activation = Literal["silu", "relu", "leaky"]

BN_EPSILON = 1e-3
"""Of every batch norm in both families: set by their training code, stored in no checkpoint."""


@dataclass(frozen=True)
class Tensor:
    """A feature map between layers: its name and its number of channels."""

    name: str
    channels: int


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """One convolution kernel and where its numbers stand.

    Attributes:
        key: `<key>.weight` [c_out, c_in / groups, size, size]; `<key>.bias` [c_out] where there is no norm.
        norm: of the batch norm behind it, `<norm>.weight`, `.bias`, `.running_mean`, `.running_var`; None: a bias.
    """

    key: str
    norm: str | None
    c_in: int
    c_out: int
    size: int
    groups: int = 1


@dataclass(frozen=True, kw_only=True)
class Conv:
    """Convolution with "same" padding, then its batch norm, then the activation.

    Attributes:
        added_before: key of a tensor [1, c_in, 1, 1] that is added to the input (YOLOv7's ImplicitA).
        scaled_after: key of a tensor [1, c_out, 1, 1], or of one number, that multiplies the result (YOLOv7's
            ImplicitM, DAMO-YOLO's level scale).
    """

    output: str
    source: str
    kernel: Kernel
    stride: int
    activation: Activation | None
    added_before: str | None = None
    scaled_after: str | None = None
    scale_is_scalar: bool = False


@dataclass(frozen=True, kw_only=True)
class RepConv:
    """The sum of a 3x3 and a 1x1 convolution, each with its batch norm, then the activation.

    Attributes:
        merged: key of the one 3x3 convolution with bias that replaces both in a re-parameterised checkpoint.
    """

    output: str
    source: str
    dense: Kernel
    pointwise: Kernel
    merged: str
    stride: int
    activation: Activation | None


@dataclass(frozen=True, kw_only=True)
class MaxPool:
    """Stride 1: padded to the same size with minus infinity. Stride 2: no padding."""

    output: str
    source: str
    size: int
    stride: int


@dataclass(frozen=True, kw_only=True)
class Upsample:
    """Every pixel becomes 2x2."""

    output: str
    source: str


@dataclass(frozen=True, kw_only=True)
class SpaceToDepth:
    """Every 2x2 pixels become one; channel groups (row, column): (0, 0), (1, 0), (0, 1), (1, 1).

    Not the order of ONNX's operator of that name, which has the row slowest. YOLOv7's ReOrg, DAMO-YOLO's Focus.
    """

    output: str
    source: str


@dataclass(frozen=True, kw_only=True)
class Concat:
    """Along the channels, in this order."""

    output: str
    sources: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Add:
    """Sum of two maps of one shape, then the activation."""

    output: str
    sources: tuple[str, str]
    activation: Activation | None


Layer: TypeAlias = Conv | RepConv | MaxPool | Upsample | SpaceToDepth | Concat | Add


class Network:
    """A list of layers under construction. Each method appends one and returns the map that it makes.

    Attributes:
        layers: in order of execution.
        outputs: names of the raw heads' maps, in the order that the model has them.
        ignored: prefixes of keys that a checkpoint of this network may hold and inference never reads.
    """

    input = Tensor("images", 3)

    def __init__(self) -> None:
        self.layers: list[Layer] = []
        self.outputs: list[str] = []
        self.ignored: tuple[str, ...] = ()

    def conv(
        self,
        source: Tensor,
        kernel_key: str,
        c_out: int,
        size: int,
        *,
        norm: str | None,
        activation: Activation | None,
        stride: int = 1,
        groups: int = 1,
        name: str | None = None,
        added_before: str | None = None,
        scaled_after: str | None = None,
        scale_is_scalar: bool = False,
    ) -> Tensor:
        """Appends a convolution; its output is called after its key unless `name` says otherwise."""
        kernel = Kernel(key=kernel_key, norm=norm, c_in=source.channels, c_out=c_out, size=size, groups=groups)
        layer = Conv(
            output=name or kernel_key,
            source=source.name,
            kernel=kernel,
            stride=stride,
            activation=activation,
            added_before=added_before,
            scaled_after=scaled_after,
            scale_is_scalar=scale_is_scalar,
        )
        return self._append(layer, c_out)

    def rep_conv(
        self,
        source: Tensor,
        key: str,
        c_out: int,
        *,
        dense: tuple[str, str],
        pointwise: tuple[str, str],
        activation: Activation | None,
        stride: int = 1,
    ) -> Tensor:
        """Appends a RepConv. `dense` and `pointwise`: (convolution, batch norm) below `key`."""

        def kernel(names: tuple[str, str], size: int) -> Kernel:
            return Kernel(
                key=f"{key}.{names[0]}", norm=f"{key}.{names[1]}", c_in=source.channels, c_out=c_out, size=size
            )

        layer = RepConv(
            output=key,
            source=source.name,
            dense=kernel(dense, 3),
            pointwise=kernel(pointwise, 1),
            merged=f"{key}.rbr_reparam",
            stride=stride,
            activation=activation,
        )
        return self._append(layer, c_out)

    def max_pool(self, source: Tensor, name: str, size: int, *, stride: int) -> Tensor:
        """Appends a pooling."""
        return self._append(MaxPool(output=name, source=source.name, size=size, stride=stride), source.channels)

    def upsample(self, source: Tensor, name: str) -> Tensor:
        """Appends an upsampling by two."""
        return self._append(Upsample(output=name, source=source.name), source.channels)

    def space_to_depth(self, source: Tensor, name: str) -> Tensor:
        """Appends the 2x2 rearrangement: half the size, four times the channels."""
        return self._append(SpaceToDepth(output=name, source=source.name), 4 * source.channels)

    def concat(self, sources: Sequence[Tensor], name: str) -> Tensor:
        """Appends a concatenation; the first source has the lowest channels."""
        layer = Concat(output=name, sources=tuple(source.name for source in sources))
        return self._append(layer, sum(source.channels for source in sources))

    def add(self, first: Tensor, second: Tensor, name: str, *, activation: Activation | None = None) -> Tensor:
        """Appends a sum."""
        layer = Add(output=name, sources=(first.name, second.name), activation=activation)
        return self._append(layer, first.channels)

    def kernels(self) -> Iterator[Kernel]:
        """Every convolution kernel, in order of execution, RepConvs with both of theirs."""
        for layer in self.layers:
            if isinstance(layer, Conv):
                yield layer.kernel
            elif isinstance(layer, RepConv):
                yield from (layer.dense, layer.pointwise)

    def _append(self, layer: Layer, channels: int) -> Tensor:
        self.layers.append(layer)
        return Tensor(layer.output, channels)
