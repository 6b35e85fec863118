"""How an engine written in Python looks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
PortDescription = tuple[str, Sequence[int | str | None]]
"""(name, dimensions); an open dimension is -1, None or a name."""


@runtime_checkable
class PythonEngine(Protocol):
    """An engine that swiftdet drives through Python: any object with these three members.

    An optional attribute `description: str` names it in results; else its type's name does.

    Attributes:
        inputs: exactly one, the float32 image [N, 3, H, W].
        outputs: at least one, all float32.
    """

    @property
    def inputs(self) -> Sequence[PortDescription]:
        """(name, shape) of the one input."""
        ...

    @property
    def outputs(self) -> Sequence[PortDescription]:
        """(name, shape) of each output."""
        ...

    def run(self, inputs: dict[str, FloatArray], /) -> dict[str, FloatArray] | Sequence[FloatArray]:
        """Runs the network once.

        Called with the GIL, from any thread, and from several at once: release it in the long part, and keep
        no state between calls that is not guarded.

        Args:
            inputs: the input by name, float32 C-contiguous. A read-only view of memory that the next call may
                overwrite: copy what is kept.

        Returns:
            The outputs by name (a dict) or in the order of `outputs` (a list or tuple): C-contiguous float32
            arrays, not copied, which must not change before the next call from the same session.
        """
        ...
