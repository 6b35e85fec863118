"""Checks of options, shared by everything that takes them: the canonical value, or an error in one form of words."""

from __future__ import annotations

import math
import numbers
import operator
import os
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from swiftdet.errors import InvalidArgument, InvalidType
from swiftdet.spec import MAX_SIDE

_INT32_MAX = 2**31 - 1

Size: TypeAlias = tuple[int, int]


def fraction(name: str, value: Any) -> float:
    """A number from 0 to 1."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise InvalidType(f"{name}: expected a number from 0 to 1, got {shown(value)}")
    try:
        number = float(value)
    except OverflowError:  # an integer or a fraction beyond all floats
        number = math.inf
    if math.isnan(number) or not 0.0 <= number <= 1.0:
        raise InvalidArgument(f"{name}: expected a number from 0 to 1, got {shown(value)}")
    return number


def whole(name: str, value: Any, *, lowest: int = 1, highest: int = _INT32_MAX) -> int:
    """An integer (NumPy's too, a bool is none) from `lowest` to `highest`."""
    if not is_integer(value):
        raise InvalidType(f"{name}: expected an integer, got {shown(value)}")
    number = operator.index(value)
    if not lowest <= number <= highest:
        span = f"at least {lowest} and less than 2**31" if highest == _INT32_MAX else f"{lowest} to {highest}"
        raise InvalidArgument(f"{name}: expected {span}, got {shown(number)}")
    return number


def switch(name: str, value: Any) -> bool:
    """True or False; nothing else, since the text "false" is true in Python."""
    if not isinstance(value, bool | np.bool_):
        raise InvalidType(f"{name}: expected True or False, got {shown(value)}")
    return bool(value)


def choice(name: str, value: Any, choices: Sequence[str]) -> str:
    """One of some words."""
    expected = ", ".join(map(repr, choices))
    if not isinstance(value, str):
        raise InvalidType(f"{name}: expected one of {expected}, got {shown(value)}")
    if value not in choices:
        raise InvalidArgument(f"{name}: expected one of {expected}, got {shown(value)}")
    return value


def network_size(value: Any) -> Size | None:
    """The option `imgsz`, a side or (height, width) in px, as (height, width); None stays None."""
    if value is None:
        return None
    sides = (value, value) if is_integer(value) else value
    if not isinstance(sides, tuple | list) or len(sides) != 2 or not all(map(is_integer, sides)):
        raise InvalidType(f"imgsz: expected an int or (height, width), got {shown(value)}")
    height, width = (operator.index(side) for side in sides)
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
        raise InvalidArgument(f"imgsz: expected 1 to {MAX_SIDE} px a side, got {shown(value)}")
    return height, width


def path(name: str, value: Any) -> str:
    """A path in words: text, or an object that stands for text; bytes are none."""
    text = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(text, str):
        raise InvalidType(f"{name}: expected a path, got {shown(value)}")
    return text


def shown(value: object) -> str:
    """The beginning of a value's `repr` for a message, and of what has none (an integer of 5000 digits) its type."""
    try:
        return f"{value!r:.60}"
    except ValueError:
        return f"a value of type {type(value).__name__}"


def is_integer(value: object) -> bool:
    """True for integers, NumPy's included, and not for bool."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)
