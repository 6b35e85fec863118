"""Made-up weights: the right shapes and well-behaved numbers, for timing a network whose weights one does not have.

Kernels have zero mean and a gain that lets a signal fade slowly, while the terms of the batch norms keep feeding new
ones in: activations stay of order one at any depth, in every variant, and still depend on the image.
"""

from __future__ import annotations

import math
import zlib
from typing import TYPE_CHECKING

import numpy as np

from swiftdet.zoo.network import Activation, Conv, Network, RepConv
from swiftdet.zoo.parameters import Shape, required

if TYPE_CHECKING:
    import numpy.typing as npt

# Of a kernel, by what follows it: an activation halves the signal or more; a linear kernel ends a residual branch.
_GAIN: dict[Activation | None, float] = {"silu": 1.4, "relu": 1.2, "leaky": 1.2, None: 0.7}
_BETA = 0.4
_GAMMA_OF_BRANCH = 0.4
_RARE = -4.6
"""Logit of 1 %: next to nothing is found, as on an empty scene."""


def state(network: Network, *, input_range: float) -> dict[str, npt.NDArray[np.float32]]:
    """Seeded weights for every parameter: the same numbers for the same network.

    Args:
        network: the layers, in their deploy form.
        input_range: of the pixels, 1 or 255.
    """
    values = {key: _fill(key, shape) for key, shape in required(network).items()}
    stem = next(layer for layer in network.layers if isinstance(layer, Conv))
    values[f"{stem.kernel.key}.weight"] /= np.float32(input_range)
    for layer in network.layers:
        if isinstance(layer, RepConv):  # two branches are summed; together they should be no louder than one
            for kernel in (layer.dense, layer.pointwise):
                values[f"{kernel.norm}.weight"] *= np.float32(_GAMMA_OF_BRANCH)
        elif isinstance(layer, Conv):
            values[f"{layer.kernel.key}.weight"] *= np.float32(_GAIN[layer.activation])
            if layer.kernel.norm is None and layer.scaled_after is None:
                values[f"{layer.kernel.key}.bias"] += np.float32(_RARE)
    return values


def _fill(key: str, shape: Shape) -> npt.NDArray[np.float32]:
    """Uniform numbers that depend on the key alone."""
    leaf = key.rsplit(".", 1)[-1]
    if leaf == "weight" and len(shape) == 4:
        high = math.sqrt(3.0 / math.prod(shape[1:]))
        low = -high
    elif leaf in {"weight", "running_var", "scale"}:
        low, high = 0.8, 1.2
    else:
        low, high = -_BETA, _BETA
    unit = np.random.default_rng(zlib.crc32(key.encode())).random(shape, dtype=np.float32)
    return np.asarray(unit * np.float32(high - low) + np.float32(low), dtype=np.float32)
