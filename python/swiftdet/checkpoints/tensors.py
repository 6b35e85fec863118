"""Tensors of a file before they are read: where the bytes lie and how they are laid out; then as arrays."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from swiftdet.checkpoints.checkpoint_file import CheckpointFile
from swiftdet.errors import ModelError

Array = npt.NDArray[Any]

MAX_RANK = 8  # a detector's own have six at most
_MAX_COUNT = 1 << 60
_ARRAYS_PER_FILE = 4  # bfloat16 doubles, and tied weights repeat
_ARRAYS_BESIDES = 16 << 20


@dataclass(frozen=True, slots=True)
class ElementType:
    """How an element is stored.

    Attributes:
        name: as torch calls it.
        size: bytes.
        dtype: NumPy's for the stored bits (little-endian); None where there is no such array.
    """

    name: str
    size: int
    dtype: str | None


ELEMENT_TYPES = {
    element.name: element
    for element in (
        ElementType("float64", 8, "<f8"),
        ElementType("float32", 4, "<f4"),
        ElementType("float16", 2, "<f2"),
        ElementType("bfloat16", 2, "<u2"),
        ElementType("int64", 8, "<i8"),
        ElementType("int32", 4, "<i4"),
        ElementType("int16", 2, "<i2"),
        ElementType("int8", 1, "|i1"),
        ElementType("uint64", 8, "<u8"),
        ElementType("uint32", 4, "<u4"),
        ElementType("uint16", 2, "<u2"),
        ElementType("uint8", 1, "|u1"),
        ElementType("bool", 1, "|u1"),
        ElementType("complex64", 8, None),
        ElementType("complex128", 16, None),
        ElementType("quint8", 1, None),
        ElementType("qint8", 1, None),
        ElementType("qint32", 4, None),
        ElementType("float8_e4m3fn", 1, None),
        ElementType("float8_e5m2", 1, None),
    )
}
"""By torch's name. Types without an array are known by their size, so that the tensors behind them can be found."""


@dataclass(slots=True, eq=False)
class Storage:
    """A run of elements in the file.

    Attributes:
        element: of which type.
        count: how many.
        start: offset in the file; negative while it is not known yet.
        crc32: of the bytes; None where the file has none.
    """

    element: ElementType
    count: int
    start: int = -1
    crc32: int | None = None

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return self.count * self.element.size


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """A view of a storage: `shape` and `strides` in elements of `element`, from element `offset` on."""

    storage: Storage
    element: ElementType
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def __post_init__(self) -> None:
        """Checks that every element lies in the storage.

        Raises:
            ModelError: it does not, or the numbers are none that a tensor can have.
        """
        numbers = (self.offset, *self.shape, *self.strides)
        if not all(type(n) is int and 0 <= n < _MAX_COUNT for n in numbers):
            raise ModelError("a tensor's offset, shape and strides: expected non-negative integers")
        if len(self.shape) != len(self.strides) or len(self.shape) > MAX_RANK:
            raise ModelError(
                f"a tensor of {len(self.shape)} dimensions and {len(self.strides)} strides; expected as many of each, "
                f"at most {MAX_RANK}"
            )
        if math.prod(n or 1 for n in self.shape) >= _MAX_COUNT >> 8:
            raise ModelError(f"a tensor of shape {list(self.shape)} is larger than any memory")
        last = self.offset + sum((n - 1) * stride for n, stride in zip(self.shape, self.strides, strict=True))
        held = self.storage.size // self.element.size
        if self.count and last >= held:
            raise ModelError(
                f"a tensor of shape {list(self.shape)} reaches element {last} of a storage of {held}: made to deceive, "
                "or damaged"
            )

    @property
    def count(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def size_in_file(self) -> int:
        """Bytes of its elements as stored, each counted once for every place it has in the tensor."""
        return self.count * self.element.size

    @property
    def size(self) -> int:
        """Bytes of the array that `read_arrays` makes of it."""
        return self.count * (4 if self.element.name == "bfloat16" else self.element.size)


def contiguous(storage: Storage, shape: tuple[int, ...]) -> Tensor:
    """The tensor that is its whole storage, in row-major order."""
    strides = tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))
    return Tensor(storage, storage.element, 0, shape, strides)


def read_arrays(file: CheckpointFile, tensors: Mapping[str, Tensor]) -> dict[str, Array]:
    """The tensors as arrays, in the order given. Each is row-major and owns its memory; two names never share any.

    One storage at a time is in memory besides the arrays. Dtypes are as stored; bfloat16, which NumPy lacks, becomes
    float32, in which every value of it is exact.

    Raises:
        ModelError: a tensor's type has no array, a checksum is wrong, or overlapping views would grow far beyond the
            file's size.
    """
    limit = _ARRAYS_PER_FILE * file.size + _ARRAYS_BESIDES
    if (total := sum(tensor.size for tensor in tensors.values())) > limit:
        raise ModelError(
            f"its tensors would take {total} bytes as arrays, from a file of {file.size}: views that repeat elements"
        )
    groups: dict[int, list[str]] = {}
    for name, tensor in tensors.items():
        groups.setdefault(id(tensor.storage), []).append(name)
    arrays: dict[str, Array] = {}
    for names in groups.values():
        storage = tensors[names[0]].storage
        data = file.read_array(storage.start, storage.size, storage.crc32)
        for name in names:
            arrays[name] = _as_array(name, data, tensors[name], alone=len(names) == 1)
    return {name: arrays[name] for name in tensors}


def _as_array(name: str, data: npt.NDArray[np.uint8], tensor: Tensor, *, alone: bool) -> Array:
    element = tensor.element
    if element.dtype is None:
        raise ModelError(f"tensor {name!r} of {element.name}; expected floating point, integers or bool")
    values: Array = data[: data.size // element.size * element.size].view(element.dtype)
    whole = tensor.count == values.size and tensor.strides == contiguous(tensor.storage, tensor.shape).strides
    if whole:
        view = values.reshape(tensor.shape)
    elif tensor.count:
        steps = [stride * element.size if n > 1 else 0 for n, stride in zip(tensor.shape, tensor.strides, strict=True)]
        view = np.lib.stride_tricks.as_strided(values[tensor.offset :], tensor.shape, steps, writeable=False)
    else:
        view = np.empty(tensor.shape, element.dtype)
    if element.name == "bfloat16":
        bits = view.astype(np.uint32, order="C")
        bits <<= 16
        return bits.view(np.float32)
    if element.name == "bool":
        return np.not_equal(view, 0, order="C")
    return view if whole and alone else np.array(view, order="C")
