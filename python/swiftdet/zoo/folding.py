"""Re-parameterisation: what stands between convolutions, and branches beside them, merged into one kernel and bias.

All arithmetic is float64; only the result is rounded to float32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from swiftdet.errors import ModelError
from swiftdet.zoo.network import BN_EPSILON, Conv, Kernel, RepConv
from swiftdet.zoo.parameters import is_folded, is_merged

if TYPE_CHECKING:
    from swiftdet.zoo.parameters import State

Float64: TypeAlias = npt.NDArray[np.float64]
Float32: TypeAlias = npt.NDArray[np.float32]
Folded: TypeAlias = tuple[Float32, Float32]
"""Weight [c_out, c_in / groups, k, k] and bias [c_out] of the one convolution that is left."""


def fold(layer: Conv | RepConv, state: State) -> Folded:
    """The one convolution that computes what the layer does before its activation.

    Raises:
        ModelError: the result is not finite.
    """
    weight, bias = _fold_rep_conv(layer, state) if isinstance(layer, RepConv) else _fold_conv(layer, state)
    with np.errstate(over="ignore"):
        folded = weight.astype(np.float32), bias.astype(np.float32)
    if not all(np.isfinite(part).all() for part in folded):
        raise ModelError(
            f"weights of {layer.output}: not finite after folding its batch norm; the checkpoint is damaged or its "
            "training diverged"
        )
    return folded


def _fold_conv(layer: Conv, state: State) -> tuple[Float64, Float64]:
    weight, bias = _fold_norm(layer.kernel, state)
    if layer.added_before:  # W (x + a) + b = W x + (W a + b); with the weight as it is before any scaling
        bias = bias + weight.sum(axis=(2, 3)) @ _read(state, layer.added_before).ravel()
    if layer.scaled_after:
        scale = _read(state, layer.scaled_after).ravel()
        weight, bias = weight * scale[:, None, None, None], bias * scale
    return weight, bias


def _fold_rep_conv(layer: RepConv, state: State) -> tuple[Float64, Float64]:
    if is_merged(layer, state.keys()):
        return _read(state, f"{layer.merged}.weight"), _read(state, f"{layer.merged}.bias")
    weight, bias = _fold_norm(layer.dense, state)
    pointwise_weight, pointwise_bias = _fold_norm(layer.pointwise, state)
    weight[:, :, 1, 1] += pointwise_weight[:, :, 0, 0]
    return weight, bias + pointwise_bias


def _fold_norm(kernel: Kernel, state: State) -> tuple[Float64, Float64]:
    weight = _read(state, f"{kernel.key}.weight")
    if is_folded(kernel, state.keys()):
        return weight, _read(state, f"{kernel.key}.bias")
    gamma, beta, mean, variance = (
        _read(state, f"{kernel.norm}.{leaf}") for leaf in ("weight", "bias", "running_mean", "running_var")
    )
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):  # `fold` refuses what is not finite
        gain = gamma / np.sqrt(variance + BN_EPSILON)
        weight *= gain[:, None, None, None]
        return weight, beta - mean * gain


def _read(state: State, key: str) -> Float64:
    """A copy, in double precision."""
    array: npt.NDArray[Any] = np.asarray(state[key])
    return array.astype(np.float64)


def pixels_before_stem(weight: Float32) -> Float32:
    """A 3x3 kernel on 2x2 pixels as channels, as the 6x6 kernel of stride 2 on the pixels themselves.

    Exactly the same products: input channel `phase * 3 + c`, phase = row + 2 * column, at (i, j) is pixel channel `c`
    at (2i + row, 2j + column). The padding of 1 becomes 2.
    """
    out = weight.shape[0]
    by_phase = weight.reshape(out, 2, 2, 3, 3, 3)  # out, column, row, c, i, j
    return np.ascontiguousarray(by_phase.transpose(0, 3, 4, 2, 5, 1)).reshape(out, 3, 6, 6)
