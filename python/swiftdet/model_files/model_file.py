"""What reading a model file yields, whatever its format."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from swiftdet.errors import ModelError

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from swiftdet.model_files.graph import Graph
    from swiftdet.model_files.metadata import Metadata

_PRECISIONS = {
    **dict.fromkeys(("float", "f32", "fp32"), "fp32"),
    **dict.fromkeys(("float16", "f16", "fp16"), "fp16"),
    **dict.fromkeys(("bfloat16", "bf16"), "bf16"),
    **dict.fromkeys(("int8", "uint8", "i8", "u8", "int4", "uint4", "i4", "u4"), "int8"),
}

MAX_MODEL_BYTES = (1 << 31) - 1
"""Protobuf's own limit, and so that of an ONNX model with its external data loaded."""


@dataclass(frozen=True)
class InputInfo:
    """The image input: its name, dimensions (-1 = open) and element type in NumPy's words."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class ModelFile:
    """A model as read, nothing interpreted yet.

    Attributes:
        path: as given.
        format: which reader made it.
        model: the bytes to compile: the file itself, or a re-serialised model where it had to be changed.
        weights: content of the `.bin` of an OpenVINO IR; empty for ONNX.
        sha256: hex digest over everything that was read: the file, then its weights or external data in file order.
        image_input: the only input.
        graph: the structure, for recognition.
        metadata: what the exporter wrote beside the graph.
        weights_precision: "fp32", "fp16", "bf16" or "int8": what most numbers of its constants are.
    """

    path: Path
    format: Literal["onnx", "openvino"]
    model: bytes
    weights: bytes
    sha256: str
    image_input: InputInfo
    graph: Graph
    metadata: Metadata
    weights_precision: str


def weights_precision(counts: Mapping[str, int]) -> str:
    """What most numbers of a network's constants are; "fp32" where it has none of the types that weights have.

    Args:
        counts: how many numbers there are of each element type, in the words of ONNX or OpenVINO.
    """
    known: dict[str, int] = dict.fromkeys(("fp32", "fp16", "bf16", "int8"), 0)
    for name, count in counts.items():
        precision = _PRECISIONS.get(name.lower())
        if precision is not None:
            known[precision] += count
    return max(known, key=lambda precision: known[precision])


def read_bounded(path: str | os.PathLike[str], *, limit: int = MAX_MODEL_BYTES) -> bytes:
    """Content of a regular file of 1 to `limit` bytes.

    Raises:
        ModelError: no such file, a directory, a device or pipe, unreadable, empty, or larger than `limit`.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise ModelError(f"model {path}: expected a file, got a directory")
        if not path.exists():
            raise ModelError(f"model {path}: no such file")
        if not path.is_file():
            raise ModelError(f"model {path}: expected a regular file, got a device, pipe or socket")
        size = path.stat().st_size
        if size == 0:
            raise ModelError(f"model {path}: the file is empty (0 bytes); was its download interrupted?")
        if size > limit:
            raise ModelError(f"model {path}: {size} bytes; at most {limit} are read")
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except (OSError, ValueError) as e:
        raise ModelError(f"model {path}: cannot be read ({e})") from e
    if len(data) > limit:
        raise ModelError(f"model {path}: grew beyond {limit} bytes while it was read")
    return data
