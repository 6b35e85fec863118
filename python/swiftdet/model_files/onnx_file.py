"""Safe reading of ONNX files.

Nothing is resolved outside the model's folder, nothing is executed, sizes are bounded.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError, EncodeError

from swiftdet.errors import ModelError
from swiftdet.model_files.external_data import all_tensors, load_external_data
from swiftdet.model_files.graph import Graph
from swiftdet.model_files.metadata import Metadata, parse_metadata
from swiftdet.model_files.model_file import MAX_MODEL_BYTES, InputInfo, ModelFile, read_bounded, weights_precision
from swiftdet.model_files.names import printable
from swiftdet.model_files.onnx_checks import check_graph
from swiftdet.model_files.onnx_surgery import cut_graph, use_float32_boundary
from swiftdet.model_files.onnx_view import dimensions, view

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
    _cut: bool = False

    def has_final_detections(self) -> bool:
        """True for one output declared as [N, M, 6]: what follows a suppression inside is already a known layout."""
        outputs = [dimensions(output.type.tensor_type) for output in self.proto.graph.output]
        return len(outputs) == 1 and len(outputs[0]) == 3 and outputs[0][2] == 6

    def cut(self, outputs: Sequence[str]) -> None:
        """Makes the tensors `outputs` the outputs of the network and drops everything that only served others.

        Raises:
            ModelError: a tensor is not computed by a node of the graph.
        """
        cut_graph(self.proto, outputs)
        self._cut = self._changed = True

    def finish(self) -> ModelFile:
        """The model as bytes; those of the file where nothing was changed.

        Raises:
            ModelError: the input is not a float image, an operator is not ONNX's, or the model is too large.
        """
        image = self._image_input()
        cast = use_float32_boundary(self.proto, image, outputs_cut=self._cut)
        self._changed = self._changed or cast
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
                image.name, dimensions(tensor_type), _TYPE_NAMES.get(tensor_type.elem_type, "of an unknown type")
            ),
            graph=view(self.proto) if self._changed else self.graph,
            metadata=self.metadata,
            weights_precision=self._weights_precision(),
        )

    def _weights_precision(self) -> str:
        counts = Counter[str]()
        for tensor in all_tensors(self.proto):
            counts[_TYPE_NAMES.get(tensor.data_type, "")] += math.prod(tensor.dims)
        return weights_precision(counts)

    def _image_input(self) -> onnx.ValueInfoProto:
        constants = {t.name for t in self.proto.graph.initializer}
        inputs: list[onnx.ValueInfoProto] = [i for i in self.proto.graph.input if i.name not in constants]
        if len(inputs) != 1 or not inputs[0].type.HasField("tensor_type"):
            listed = ", ".join(f"{i.name[:80]!r} {list(dimensions(i.type.tensor_type))}" for i in inputs[:8]) or "none"
            raise ModelError(f"model {self.path}: expected one input, an image [N, 3, H, W]; its inputs are: {listed}")
        return inputs[0]

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
        changed = load_external_data(proto, path, len(data), digest)
        if not proto.graph.node or not proto.graph.output:
            raise ModelError(
                f"model {path}: not an ONNX model, or a truncated one: {len(data)} bytes that hold no graph "
                "with nodes and outputs; export or download it again"
            )
        _check(proto, path)
        graph = view(proto)
        metadata = parse_metadata({entry.key: entry.value for entry in proto.metadata_props})
    except (DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise ModelError(
            f"model {path}: not an ONNX model, or a truncated one ({len(data)} bytes, {e}); export or download it again"
        ) from e
    return OnnxFile(path, proto, graph, metadata, b"" if changed else data, digest.hexdigest(), changed)


def _check(proto: onnx.ModelProto, path: Path) -> None:
    try:
        check_graph(proto)
    except ModelError as e:
        raise ModelError(f"model {path}: {e}") from e


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
    strings += [v for tensor in all_tensors(proto) for entry in tensor.external_data for v in (entry.key, entry.value)]
    for value in strings:
        if isinstance(value, bytes):
            value.decode("utf-8")
