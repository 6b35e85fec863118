"""What a pickle becomes here: names of classes and functions, and records of objects. Nothing in this file can act.

A pickle names code (`models.yolo Model`, `torch._utils _rebuild_tensor_v2`, `os system`) and says what to do with it.
The reader never looks such a name up: it keeps the name, and where an object is built, the name with the parts.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from swiftdet.model_files.names import printable


@dataclass(frozen=True, slots=True)
class Global:
    """The name of a class or function in a pickle; only ever compared, never imported."""

    module: str
    name: str

    def __str__(self) -> str:
        return printable(f"{self.module}.{self.name}")


@dataclass(slots=True, eq=False)
class Record:
    """An object of a class that was not looked up.

    Attributes:
        type: the class's name.
        state: what the pickle hands to the object's `__setstate__`, usually its `__dict__`.
        items: entries, where the class is a mapping.
    """

    type: Global
    state: object = None
    items: dict[object, object] = field(default_factory=dict)

    def attributes(self) -> dict[object, object]:
        """The object's `__dict__`, empty where its state is something else."""
        state = self.state[0] if isinstance(self.state, tuple) and self.state else self.state
        return state if isinstance(state, dict) else {}


class OddKey:
    """Stands for a mapping's key that is neither text nor a small number.

    Foreign keys are not hashed: tuples and large integers can be chosen so that all hashes collide.
    """

    __slots__ = ()


def mapping_of(value: object) -> dict[object, object] | None:
    """The entries of a dict or of a record of a dict-like class; None for anything else."""
    if isinstance(value, dict):
        return value
    return value.items if isinstance(value, Record) and value.items else None


def kind_of(value: object) -> str:
    """What to call a value in a message; never its content, which may be huge or recursive."""
    if isinstance(value, Record):
        return f"an object of {value.type}"
    if isinstance(value, Global):
        return f"the name {value}"
    return type(value).__name__
