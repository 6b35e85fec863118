"""A zoo network as a torch module, for training: the very list of layers that the ONNX graph is written from.

So what is trained is what is shipped, and the weights come out under the official key names.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from swiftdet.zoo import network as zoo

_BN_MOMENTUM = 0.03


class TorchNetwork(nn.Module):
    """Executes a network's layers."""

    def __init__(self, net: zoo.Network) -> None:
        super().__init__()
        self._outputs = net.outputs
        self._layers = net.layers
        self.units = nn.ModuleList(_unit(layer) for layer in net.layers)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Raw head maps of images [B, 3, H, W]."""
        maps = {"images": images}
        for layer, unit in zip(self._layers, self.units, strict=True):
            sources = layer.sources if isinstance(layer, zoo.Concat | zoo.Add) else (layer.source,)
            maps[layer.output] = unit(*(maps[name] for name in sources))
        return [maps[name] for name in self._outputs]

    def official_state(self) -> dict[str, npt.NDArray[np.float32]]:
        """The parameters by their official, unfused keys."""
        state: dict[str, Tensor] = {}
        for unit in self.units:
            if isinstance(unit, _Conv | _RepConv):
                state |= unit.official_state()
        return {key: value.detach().contiguous().numpy() for key, value in state.items()}


class _KernelAndNorm(nn.Module):
    """One convolution kernel with its batch norm or bias."""

    def __init__(self, kernel: zoo.Kernel, stride: int) -> None:
        super().__init__()
        self._kernel = kernel
        self.conv = nn.Conv2d(
            kernel.c_in,
            kernel.c_out,
            kernel.size,
            stride,
            padding=kernel.size // 2,
            groups=kernel.groups,
            bias=kernel.norm is None,
        )
        self.norm = nn.BatchNorm2d(kernel.c_out, eps=zoo.BN_EPSILON, momentum=_BN_MOMENTUM) if kernel.norm else None

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return x if self.norm is None else self.norm(x)

    def official_state(self) -> dict[str, Tensor]:
        parts = {self._kernel.key: self.conv.state_dict()}
        if self.norm is not None and self._kernel.norm is not None:
            parts[self._kernel.norm] = self.norm.state_dict()
        return {
            f"{prefix}.{name}": value
            for prefix, part in parts.items()
            for name, value in part.items()
            if name != "num_batches_tracked"
        }


class _Conv(nn.Module):
    def __init__(self, layer: zoo.Conv) -> None:
        super().__init__()
        self._layer = layer
        self.kernel = _KernelAndNorm(layer.kernel, layer.stride)
        self.added = nn.Parameter(torch.zeros(1, layer.kernel.c_in, 1, 1)) if layer.added_before else None
        shape = () if layer.scale_is_scalar else (1, layer.kernel.c_out, 1, 1)
        self.scale = nn.Parameter(torch.ones(shape)) if layer.scaled_after else None

    def forward(self, x: Tensor) -> Tensor:
        if self.added is not None:
            x = x + self.added
        x = self.kernel(x)
        if self.scale is not None:
            x = x * self.scale
        return _activated(x, self._layer.activation)

    def official_state(self) -> dict[str, Tensor]:
        state = self.kernel.official_state()
        if self.added is not None:
            state[str(self._layer.added_before)] = self.added
        if self.scale is not None:
            state[str(self._layer.scaled_after)] = self.scale
        return state


class _RepConv(nn.Module):
    def __init__(self, layer: zoo.RepConv) -> None:
        super().__init__()
        self._activation = layer.activation
        self.dense = _KernelAndNorm(layer.dense, layer.stride)
        self.pointwise = _KernelAndNorm(layer.pointwise, layer.stride)

    def forward(self, x: Tensor) -> Tensor:
        return _activated(self.dense(x) + self.pointwise(x), self._activation)

    def official_state(self) -> dict[str, Tensor]:
        return self.dense.official_state() | self.pointwise.official_state()


class _MaxPool(nn.Module):
    def __init__(self, layer: zoo.MaxPool) -> None:
        super().__init__()
        self._size, self._stride = layer.size, layer.stride

    def forward(self, x: Tensor) -> Tensor:
        return functional.max_pool2d(x, self._size, self._stride, padding=self._size // 2 if self._stride == 1 else 0)


class _Upsample(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return functional.interpolate(x, scale_factor=2.0, mode="nearest")


class _SpaceToDepth(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x[..., row::2, column::2] for row, column in ((0, 0), (1, 0), (0, 1), (1, 1))], dim=1)


class _Concat(nn.Module):
    def forward(self, *sources: Tensor) -> Tensor:
        return torch.cat(sources, dim=1)


class _Add(nn.Module):
    def __init__(self, layer: zoo.Add) -> None:
        super().__init__()
        self._activation = layer.activation

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        return _activated(first + second, self._activation)


def _unit(layer: zoo.Layer) -> nn.Module:
    if isinstance(layer, zoo.Conv):
        return _Conv(layer)
    if isinstance(layer, zoo.RepConv):
        return _RepConv(layer)
    if isinstance(layer, zoo.MaxPool):
        return _MaxPool(layer)
    if isinstance(layer, zoo.Add):
        return _Add(layer)
    return {zoo.Upsample: _Upsample, zoo.SpaceToDepth: _SpaceToDepth, zoo.Concat: _Concat}[type(layer)]()


def _activated(x: Tensor, activation: zoo.Activation | None) -> Tensor:
    if activation == "silu":
        return functional.silu(x)
    if activation == "relu":
        return functional.relu(x)
    if activation == "leaky":
        return functional.leaky_relu(x, 0.1)
    return x
