"""The safetensors form: the length of a JSON header (uint64), the header, the tensors' bytes.

Read here and not by the `safetensors` package, for three reasons: its NumPy interface knows no bfloat16, its limit for
the header (100 MB, which becomes a gigabyte of objects) is far above ours, and the format is small enough that reading
it strictly, with errors that say what to do, is shorter than wrapping it. The tests compare with that package.
"""

from __future__ import annotations

import json
from typing import NoReturn, TypeGuard

from swiftdet.checkpoints.checkpoint_file import CheckpointFile
from swiftdet.checkpoints.containers import Content
from swiftdet.checkpoints.tensors import ELEMENT_TYPES, MAX_RANK, Storage, Tensor, contiguous
from swiftdet.errors import ModelError

_MAX_HEADER_BYTES = 1 << 20  # a detector has some thousand tensors, of a hundred bytes each
_LENGTH_BYTES = 8
_TYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "C64": "complex64",
}


def read_safetensors(file: CheckpointFile) -> Content:
    """The tensors by name, as a state dict.

    Raises:
        ModelError: truncated, damaged, or tensors that do not fill the file exactly, one after the other.
    """
    size = int.from_bytes(file.read(0, _LENGTH_BYTES), "little")
    if size > _MAX_HEADER_BYTES:
        raise ModelError(f"a safetensors header of {size} bytes; at most {_MAX_HEADER_BYTES} are read")
    header = _parse(file.read(_LENGTH_BYTES, size))
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ModelError("safetensors metadata: expected text for every key")
    data = _LENGTH_BYTES + size
    tensors = {name: _tensor(name, entry, data) for name, entry in header.items()}
    position = data
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].storage.start, item[1].storage.size)):
        if tensor.storage.start != position:
            raise ModelError(f"safetensors: tensor {name!r} overlaps another or leaves a gap: the file is damaged")
        position += tensor.storage.size
    if position != file.size:
        raise ModelError(
            f"safetensors: the tensors end at byte {position} of a file of {file.size}: it is truncated or damaged"
        )
    return Content("safetensors", tensors, metadata)


def _tensor(name: str, entry: object, data: int) -> Tensor:
    """A tensor from its entry in the header; `data` is the offset of the first tensor."""
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise ModelError(f"safetensors: tensor {name!r}: expected dtype, shape and data_offsets")
    kind, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(kind, str) or kind not in _TYPES:
        raise ModelError(f"safetensors: tensor {name!r} of type {kind!r:.40}; expected one of {', '.join(_TYPES)}")
    if not _are_sizes(shape, at_most=MAX_RANK) or not _are_sizes(offsets, at_most=2) or len(offsets) != 2:
        raise ModelError(
            f"safetensors: tensor {name!r}: expected at most {MAX_RANK} dimensions and two offsets, none negative"
        )
    element = ELEMENT_TYPES[_TYPES[kind]]
    begin, end = offsets
    storage = Storage(element, (end - begin) // element.size, data + begin)
    tensor = contiguous(storage, tuple(shape))
    if tensor.size_in_file != end - begin:
        raise ModelError(
            f"safetensors: tensor {name!r} of {kind} {shape} has {end - begin} bytes, expected {tensor.size_in_file}"
        )
    return tensor


def _are_sizes(values: object, *, at_most: int) -> TypeGuard[list[int]]:
    return isinstance(values, list) and len(values) <= at_most and all(type(n) is int and n >= 0 for n in values)


def _parse(header: bytes) -> dict[str, object]:
    try:
        parsed = json.loads(
            header.decode(),
            object_pairs_hook=_without_duplicates,
            parse_int=_integer,
            parse_float=_no_number,
            parse_constant=_no_number,
        )
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as e:
        raise ModelError(f"a safetensors header that is not JSON ({e}): the file is damaged") from e
    if not isinstance(parsed, dict):
        raise ModelError("a safetensors header that is not a JSON object")
    return parsed


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    entries = dict(pairs)
    if len(entries) != len(pairs):
        raise ModelError("a safetensors header with a name twice: made to deceive, or damaged")
    return entries


def _integer(text: str) -> int:
    if len(text) > 19:
        raise ModelError("a safetensors header with a number that no file can have")
    return int(text)


def _no_number(text: str) -> NoReturn:
    raise ModelError(f"a safetensors header with the number {text:.40}; expected integers")
