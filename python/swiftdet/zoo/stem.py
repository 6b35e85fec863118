"""What happens to every pixel before the network, moved into its first convolution.

A convolution is linear in its input: another order of the channels is another order of its kernel's columns, and a
divisor of the pixels divides the kernel. Zero padding stays zero under both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from swiftdet.zoo.network import Conv, Network

if TYPE_CHECKING:
    from swiftdet.zoo.parameters import State

_COLORS = 3


def reverse_channels(network: Network, state: State) -> State:
    """The weights of the network that computes from BGR what `state` computes from RGB.

    Exact: the same products, summed in another order. The rearrangement of 2x2 pixels to channels keeps the colours of
    a pixel together, so behind it the order changes inside each group of three.
    """
    key = _kernel_key(network)
    weight = np.asarray(state[key])
    by_pixel = weight.reshape(weight.shape[0], -1, _COLORS, *weight.shape[2:])
    return {**state, key: np.ascontiguousarray(by_pixel[:, :, ::-1]).reshape(weight.shape)}


def divide_pixels(network: Network, state: State, divisor: float) -> State:
    """The weights of the network that takes undivided pixels.

    Not exact in float32: each weight is rounded once more, and the pixels' quotients no more.
    """
    key = _kernel_key(network)
    return {**state, key: np.asarray(state[key]).astype(np.float64) / divisor}


def _kernel_key(network: Network) -> str:
    """Key of the kernel that reads the image; in both families a plain convolution is the first of them."""
    first = next(layer for layer in network.layers if isinstance(layer, Conv))
    return f"{first.kernel.key}.weight"
