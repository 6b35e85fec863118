"""The keys and shapes that a network's checkpoint must hold, and how one that does not fit is described."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from swiftdet.zoo.network import Conv, Kernel, Network, RepConv

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Shape: TypeAlias = tuple[int, ...]
State: TypeAlias = "Mapping[str, npt.NDArray[np.generic]]"

_SHOWN = 3


def required(network: Network, keys: Collection[str] = ()) -> dict[str, Shape]:
    """Key and shape of every parameter that inference reads, in order of execution.

    Args:
        network: the layers.
        keys: of a checkpoint, which may hold convolutions already merged with their batch norms or branches.
    """
    shapes: dict[str, Shape] = {}
    for layer in network.layers:
        if isinstance(layer, Conv):
            shapes |= _of_kernel(layer.kernel, keys)
            if layer.added_before:
                shapes[layer.added_before] = (1, layer.kernel.c_in, 1, 1)
            if layer.scaled_after:
                shapes[layer.scaled_after] = () if layer.scale_is_scalar else (1, layer.kernel.c_out, 1, 1)
        elif isinstance(layer, RepConv):
            if is_merged(layer, keys):
                shapes[f"{layer.merged}.weight"] = (layer.dense.c_out, layer.dense.c_in, 3, 3)
                shapes[f"{layer.merged}.bias"] = (layer.dense.c_out,)
            else:
                shapes |= _of_kernel(layer.dense, keys) | _of_kernel(layer.pointwise, keys)
    return shapes


def is_folded(kernel: Kernel, keys: Collection[str]) -> bool:
    """Whether the kernel's own bias takes the place of a batch norm: always so without one."""
    return kernel.norm is None or (f"{kernel.key}.bias" in keys and f"{kernel.norm}.weight" not in keys)


def is_merged(layer: RepConv, keys: Collection[str]) -> bool:
    """Whether the two branches are already one convolution."""
    return f"{layer.merged}.weight" in keys


def _of_kernel(kernel: Kernel, keys: Collection[str]) -> dict[str, Shape]:
    weight = {f"{kernel.key}.weight": (kernel.c_out, kernel.c_in // kernel.groups, kernel.size, kernel.size)}
    if is_folded(kernel, keys):
        return weight | {f"{kernel.key}.bias": (kernel.c_out,)}
    leaves = ("weight", "bias", "running_mean", "running_var")
    return weight | {f"{kernel.norm}.{leaf}": (kernel.c_out,) for leaf in leaves}


@dataclass(frozen=True)
class Differences:
    """What keeps a checkpoint from fitting a network; falsy if nothing does.

    Attributes:
        missing: keys that are not there, with the shape expected.
        misshapen: keys with the shapes expected and found.
        unexpected: keys that the network does not have, with the shape found.
    """

    missing: dict[str, Shape]
    misshapen: dict[str, tuple[Shape, Shape]]
    unexpected: dict[str, Shape]

    @property
    def count(self) -> int:
        """Of keys that differ in any way."""
        return len(self.missing) + len(self.misshapen) + len(self.unexpected)

    def __bool__(self) -> bool:
        return self.count > 0

    def describe(self) -> str:
        """One line: the first few of each kind, and how many there are."""
        parts = [
            _listed("missing", [f"{key} {list(shape)}" for key, shape in self.missing.items()]),
            _listed(
                "of another shape",
                [f"{key} {list(found)} (expected {list(want)})" for key, (want, found) in self.misshapen.items()],
            ),
            _listed("unknown", [f"{key} {list(shape)}" for key, shape in self.unexpected.items()]),
        ]
        return "; ".join(part for part in parts if part)


def _listed(kind: str, entries: list[str]) -> str:
    if not entries:
        return ""
    more = f", ... and {len(entries) - _SHOWN} more" if len(entries) > _SHOWN else ""
    return f"{len(entries)} {kind}: {', '.join(entry[:160] for entry in entries[:_SHOWN])}{more}"


def differences(network: Network, state: State) -> Differences:
    """Compares a checkpoint with what the network reads; what inference never reads may be there or not."""
    expected = required(network, state.keys())
    found = {key: tuple(array.shape) for key, array in state.items()}
    return Differences(
        missing={key: shape for key, shape in expected.items() if key not in found},
        misshapen={
            key: (shape, found[key])
            for key, shape in expected.items()
            if key in found and not _same_shape(shape, found[key])
        },
        unexpected={
            key: shape
            for key, shape in found.items()
            if key not in expected and not key.endswith(".num_batches_tracked") and not key.startswith(network.ignored)
        },
    )


def _same_shape(expected: Shape, found: Shape) -> bool:
    return expected == found or (expected == () and found == (1,))
