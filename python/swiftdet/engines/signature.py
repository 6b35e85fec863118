"""What a network takes and gives, as its file says it: the raw material of model recognition."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Port:
    """A named input or output of a network.

    Attributes:
        name: the tensor's name in the file; `input_<i>` or `output_<i>` where the file gives none.
        shape: dimensions; -1 where the network leaves one open. Empty for a scalar, and for an output whose
            very number of dimensions is open.
    """

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Signature:
    """All ports of a network, in the order of its file."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
