"""External data of ONNX tensors: files that a model names, read only from the model's own folder."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

import onnx

from swiftdet.errors import ModelError
from swiftdet.model_files.model_file import MAX_MODEL_BYTES


def load_external_data(proto: onnx.ModelProto, path: Path, model_bytes: int, digest: hashlib._Hash) -> bool:
    """Moves external data into the model.

    Args:
        proto: changed in place.
        path: of the model file; external data must lie in its folder or below, links resolved.
        model_bytes: size of that file, which counts towards the limit.
        digest: is fed with the data, in the order of the tensors.

    Returns:
        True if there was any.

    Raises:
        ModelError: names the tensor and its location, where that is unsafe, missing or of another size.
    """
    total, found = model_bytes, False
    for tensor in all_tensors(proto):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        found = True
        content = _external_bytes(tensor, path, MAX_MODEL_BYTES - total)
        total += len(content)
        digest.update(content)
        tensor.raw_data = content
        tensor.ClearField("external_data")
        tensor.data_location = onnx.TensorProto.DEFAULT
    return found


def _external_bytes(tensor: onnx.TensorProto, model: Path, budget: int) -> bytes:
    """The bytes of one external tensor, or ModelError naming the tensor and its location."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    what = f"model {model}: external data of tensor {tensor.name!r:.120}, location {location!r:.200}"
    posix, windows = PurePosixPath(location), PureWindowsPath(location)
    if not location or "\0" in location:
        raise ModelError(f"{what}: expected a path relative to the model's folder")
    if posix.is_absolute() or windows.is_absolute() or windows.drive or ".." in (*posix.parts, *windows.parts):
        raise ModelError(f"{what}: must be inside the model's folder, without '..' or an absolute path")
    folder = os.path.realpath(model.parent)
    try:
        target = os.path.realpath(model.parent / location)
        if os.path.commonpath([folder, target]) != folder:
            raise ModelError(f"{what}: a link leads outside the model's folder, to {target}")
        file = Path(target)
        if not file.exists():
            raise ModelError(f"{what}: no such file; keep it beside the model as it was exported")
        if not file.is_file():
            raise ModelError(f"{what}: expected a regular file")
        size = file.stat().st_size
        offset, length = int(entries.get("offset") or 0), int(entries.get("length") or 0)
        expected = _tensor_bytes(tensor)
        length = length or expected
        if expected != length or offset < 0 or offset + length > size:
            raise ModelError(
                f"{what}: {length} bytes at {offset} of a file of {size}, for a tensor of {expected} bytes; "
                "the file is truncated or belongs to another model"
            )
        if length > budget:
            raise ModelError(f"{what}: the model exceeds {MAX_MODEL_BYTES} bytes")
        with file.open("rb") as stream:
            stream.seek(offset)
            content = stream.read(length)
    except (OSError, ValueError) as e:
        raise ModelError(f"{what}: cannot be read ({e})") from e
    if len(content) != length:
        raise ModelError(f"{what}: changed while it was read")
    return content


def _tensor_bytes(tensor: onnx.TensorProto) -> int:
    """Size of a tensor from its dimensions and type."""
    dims = [int(d) for d in tensor.dims]
    if any(d < 0 for d in dims):
        raise ValueError(f"dimensions {dims}")
    try:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    except KeyError:
        raise ValueError(f"element type {tensor.data_type}") from None
    if tensor.data_type in {onnx.TensorProto.INT4, onnx.TensorProto.UINT4}:  # two values a byte in a file
        return (math.prod(dims) + 1) // 2
    return math.prod(dims) * int(dtype.itemsize)


def all_tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor of a model: initialisers, attributes of nodes, their branches, local functions."""
    yield from _graph_tensors(proto.graph)
    for function in proto.functions:
        yield from _node_tensors(function.node)


def _graph_tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _node_tensors(graph.node)


def _node_tensors(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)
            for graph in (attribute.g, *attribute.graphs):
                yield from _graph_tensors(graph)
