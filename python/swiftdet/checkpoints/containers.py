"""What every form of checkpoint file is read into."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from swiftdet.checkpoints.unpickler import Budget

OBJECT_BYTES = 40 << 20
"""What the objects besides the tensors may take; a training checkpoint of the largest detector needs a third of it."""


@dataclass(frozen=True)
class Content:
    """A file's content, its tensors not read yet.

    Attributes:
        container: "torch zip", "torch legacy" or "safetensors".
        root: the object that was saved; tensors in it are `Tensor`, objects `Record`.
        metadata: the file's own notes, text to text.
    """

    container: str
    root: object
    metadata: Mapping[str, str] = field(default_factory=dict)


def new_budget() -> Budget:
    """For the objects of one file."""
    return Budget(OBJECT_BYTES)
