"""Safe reading of ONNX files, their external data, and the rewriting that some exports need.

Nothing is resolved outside the model's folder, nothing is executed, sizes are bounded.
"""

from __future__ import annotations

import hashlib
import math
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnx
from google.protobuf.message import DecodeError, EncodeError
from onnx import numpy_helper

from swiftdet.errors import ModelError
from swiftdet.model_files.graph import AttributeValue, Graph, Node
from swiftdet.model_files.metadata import Metadata, parse_metadata
from swiftdet.model_files.model_file import MAX_MODEL_BYTES, InputInfo, ModelFile, read_bounded
from swiftdet.model_files.names import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from google.protobuf.internal.containers import RepeatedCompositeFieldContainer

_SMALL_CONSTANT = 64
_TYPE_NAMES = {number: name.lower() for name, number in onnx.TensorProto.DataType.items()}
_STANDARD_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
_EXPORT_ADVICE = "export the network without it, or ask the exporter for plain ONNX operators"


@dataclass
class OnnxFile:
    """An ONNX model in memory, with its external data loaded."""

    path: Path
    proto: onnx.ModelProto
    graph: Graph
    metadata: Metadata
    _data: bytes
    _digest: str
    _changed: bool

    def has_final_detections(self) -> bool:
        """True for one output declared as [N, M, 6]: what follows a suppression inside is already a known layout."""
        outputs = [_dimensions(output.type.tensor_type) for output in self.proto.graph.output]
        return len(outputs) == 1 and len(outputs[0]) == 3 and outputs[0][2] == 6

    def cut(self, outputs: Sequence[str]) -> None:
        """Makes the tensors `outputs` the outputs of the graph and drops everything that only served others.

        Raises:
            ModelError: a tensor is not computed by a node of the graph.
        """
        graph = self.proto.graph
        nodes = list(graph.node)
        producers = {name: i for i, node in enumerate(nodes) for name in node.output if name}
        types = {v.name: v.type.SerializeToString() for v in graph.value_info}
        kept, needed, queue = set[int](), set(outputs), list(outputs)
        while queue:
            name = queue.pop()
            if name not in producers:
                if name in outputs:
                    raise ModelError(f"model {self.path}: tensor {name!r} is not computed by the network")
                continue
            index = producers[name]
            if index not in kept:
                kept.add(index)
                fresh = _tensors_read(nodes[index]) - needed
                needed |= fresh
                queue.extend(fresh)
        nodes = [node for i, node in enumerate(nodes) if i in kept]
        produced = {name for node in nodes for name in node.output}
        _drop(graph.node, [i not in kept for i in range(len(graph.node))])
        _drop(graph.initializer, [t.name not in needed for t in graph.initializer])
        _drop(graph.sparse_initializer, [t.values.name not in needed for t in graph.sparse_initializer])
        _drop(graph.value_info, [v.name not in produced or v.name in outputs for v in graph.value_info])
        del graph.output[:]
        for name in outputs:
            declared = graph.output.add(name=name).type
            declared.tensor_type.elem_type = onnx.TensorProto.FLOAT
            if name in types:  # else without a shape, which engines infer
                declared.ParseFromString(types[name])
        domains = {"", *(node.domain for node in nodes), *(f.domain for f in self.proto.functions)}
        domains |= {node.domain for f in self.proto.functions for node in f.node}
        _drop(self.proto.opset_import, [o.domain not in domains for o in self.proto.opset_import])
        self._changed = True

    def use_float32_boundary(self) -> None:
        """Puts casts behind a float16 input and before float16 outputs: engines are fed and read in float32."""
        graph = self.proto.graph
        image = self._image_input()
        tensor_type = image.type.tensor_type
        if tensor_type.elem_type == onnx.TensorProto.FLOAT16:
            inner = self._fresh_name(image.name)
            _rename(graph.node, image.name, inner)
            tensor_type.elem_type = onnx.TensorProto.FLOAT
            cast = onnx.helper.make_node("Cast", [image.name], [inner], to=onnx.TensorProto.FLOAT16)
            graph.node.insert(0, cast)
            half_graph = True
        else:
            half_graph = False
        for output in graph.output:
            half_output = output.type.tensor_type.elem_type == onnx.TensorProto.FLOAT16
            # The type of a tensor that became an output by a cut is unknown; in a float16 graph, cast it anyway.
            if half_output or (half_graph and self._changed):
                inner = self._fresh_name(output.name)
                _rename(graph.node, output.name, inner)
                graph.node.append(onnx.helper.make_node("Cast", [inner], [output.name], to=onnx.TensorProto.FLOAT))
                output.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
                self._changed = True
        self._changed = self._changed or half_graph

    def finish(self) -> ModelFile:
        """The model as bytes; those of the file where nothing was changed.

        Raises:
            ModelError: the input is not a float image, an operator is not ONNX's, or the model is too large.
        """
        image = self._image_input()
        self._refuse_custom_operators()
        data = self._data
        if self._changed:
            try:
                data = self.proto.SerializeToString()
            except (EncodeError, ValueError) as e:
                raise ModelError(
                    f"model {self.path}: more than {MAX_MODEL_BYTES} bytes with its external data; export it in float16"
                ) from e
        tensor_type = image.type.tensor_type
        return ModelFile(
            path=self.path,
            format="onnx",
            model=data,
            weights=b"",
            sha256=self._digest,
            image_input=InputInfo(
                image.name, _dimensions(tensor_type), _TYPE_NAMES.get(tensor_type.elem_type, "of an unknown type")
            ),
            graph=_view(self.proto) if self._changed else self.graph,
            metadata=self.metadata,
        )

    def _image_input(self) -> onnx.ValueInfoProto:
        constants = {t.name for t in self.proto.graph.initializer}
        inputs: list[onnx.ValueInfoProto] = [i for i in self.proto.graph.input if i.name not in constants]
        if len(inputs) != 1 or not inputs[0].type.HasField("tensor_type"):
            listed = ", ".join(f"{i.name!r} {list(_dimensions(i.type.tensor_type))}" for i in inputs) or "none"
            raise ModelError(f"model {self.path}: expected one input, an image [N, 3, H, W]; its inputs are: {listed}")
        return inputs[0]

    def _fresh_name(self, name: str) -> str:
        taken = {t for node in self.proto.graph.node for t in (*node.input, *node.output)}
        candidate = f"{name}/float16"
        while candidate in taken:
            candidate += "_"
        return candidate

    def _refuse_custom_operators(self) -> None:
        local = {(f.domain, f.name) for f in self.proto.functions}
        foreign = sorted(
            {
                f"{node.domain}::{node.op_type}" if node.domain else node.op_type
                for node in self.proto.graph.node
                if (node.domain not in _STANDARD_DOMAINS or node.op_type.endswith("_TRT"))
                and (node.domain, node.op_type) not in local
            }
        )
        if foreign:
            raise ModelError(
                f"model {self.path}: operator {printable(', '.join(foreign)[:200])} is a plugin that swiftdet does "
                f"not run; {_EXPORT_ADVICE}"
            )


def read_onnx(path: Path) -> OnnxFile:
    """Reads a model and the external data beside it.

    Args:
        path: of the `.onnx` file; external data must lie in its folder or below.

    Raises:
        ModelError: unreadable, empty, truncated, not ONNX, or external data that leaves the folder, is missing, or
            has another size than its tensor.
    """
    data = read_bounded(path)
    digest = hashlib.sha256(data)
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
        _check_strings(proto)
        changed = _load_external_data(proto, path, len(data), digest)
        if not proto.graph.node or not proto.graph.output:
            raise ModelError(
                f"model {path}: not an ONNX model, or a truncated one: {len(data)} bytes that hold no graph "
                "with nodes and outputs; export or download it again"
            )
        graph = _view(proto)
        metadata = parse_metadata({entry.key: entry.value for entry in proto.metadata_props})
    except (DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise ModelError(
            f"model {path}: not an ONNX model, or a truncated one ({len(data)} bytes, {e}); export or download it again"
        ) from e
    return OnnxFile(path, proto, graph, metadata, b"" if changed else data, digest.hexdigest(), changed)


def _check_strings(proto: onnx.ModelProto) -> None:
    """Raises UnicodeDecodeError where a string is not UTF-8; protobuf would hand it out as bytes."""
    graph = proto.graph
    strings: list[str | bytes] = [opset.domain for opset in proto.opset_import]
    strings += [value for entry in proto.metadata_props for value in (entry.key, entry.value)]
    strings += [
        item.name for items in (graph.initializer, graph.input, graph.output, graph.value_info) for item in items
    ]
    for node in graph.node:
        strings += [node.op_type, node.domain, node.name, *node.input, *node.output]
        strings += [attribute.name for attribute in node.attribute]
    strings += [v for tensor in _all_tensors(proto) for entry in tensor.external_data for v in (entry.key, entry.value)]
    for value in strings:
        if isinstance(value, bytes):
            value.decode("utf-8")


def _load_external_data(proto: onnx.ModelProto, path: Path, model_bytes: int, digest: hashlib._Hash) -> bool:
    """Moves external data into the model; True if there was any."""
    total, found = model_bytes, False
    for tensor in _all_tensors(proto):
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


def _all_tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
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


def _tensors_read(node: onnx.NodeProto) -> set[str]:
    """Names that a node reads, those of its branches' outer scope included."""
    names = {name for name in node.input if name}
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                names |= _tensors_read(inner)
            names |= {output.name for output in graph.output}
    return names


def _rename(nodes: Iterable[onnx.NodeProto], old: str, new: str) -> None:
    """Renames a tensor of the outer graph wherever it is written or read."""
    for node in nodes:
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                if name == old:
                    names[i] = new
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                _rename(graph.node, old, new)
                for output in graph.output:
                    if output.name == old:
                        output.name = new


def _drop(repeated: RepeatedCompositeFieldContainer[Any], unwanted: Sequence[bool]) -> None:
    """Deletes the marked items in place, without copying the (large) others."""
    for i in reversed(range(len(repeated))):
        if unwanted[i]:
            del repeated[i]


def _dimensions(tensor_type: onnx.TypeProto.Tensor) -> tuple[int, ...]:
    return tuple(d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else -1 for d in tensor_type.shape.dim)


def _view(proto: onnx.ModelProto) -> Graph:
    """The format-neutral structure of the main graph."""
    graph = proto.graph
    tensors = {t.name: t for t in graph.initializer}
    scalars = dict[str, tuple[int, ...]]()
    for node in graph.node:
        if node.op_type == "Constant" and node.output and node.attribute:
            attribute = node.attribute[0]
            if attribute.HasField("t"):
                tensors[node.output[0]] = attribute.t
            else:  # value_float, value_ints and the like
                count = max(len(attribute.ints), len(attribute.floats))
                scalars[node.output[0]] = (count,) if count else ()
    nodes = tuple(
        Node(
            op=node.op_type,
            domain=node.domain,
            name=node.name,
            inputs=tuple(node.input),
            outputs=tuple(node.output),
            attributes={a.name: value for a in node.attribute if (value := _attribute(a)) is not None},
        )
        for node in graph.node
        if node.op_type != "Constant"
    )
    return Graph(
        nodes=nodes,
        inputs=tuple(i.name for i in graph.input if i.name not in tensors),
        outputs=tuple(o.name for o in graph.output),
        constants=scalars | {name: tuple(t.dims) for name, t in tensors.items()},
        read_constant=lambda name: _small_value(tensors.get(name)),
        scopes=(*(t.name for t in graph.initializer), *(node.name for node in graph.node)),
    )


def _attribute(attribute: onnx.AttributeProto) -> AttributeValue | None:
    kind = attribute.type
    if kind == onnx.AttributeProto.INT:
        return int(attribute.i)
    if kind == onnx.AttributeProto.FLOAT:
        return float(attribute.f)
    if kind == onnx.AttributeProto.INTS and len(attribute.ints) <= _SMALL_CONSTANT:
        return tuple(int(v) for v in attribute.ints)
    return None


def _small_value(tensor: onnx.TensorProto | None) -> npt.NDArray[np.generic] | None:
    if tensor is None or not 0 < math.prod(tensor.dims) <= _SMALL_CONSTANT or any(d < 0 for d in tensor.dims):
        return None
    try:
        return np.asarray(numpy_helper.to_array(tensor))
    except (ValueError, TypeError, KeyError):  # a corrupt constant proves nothing
        return None
