"""Safe reading of OpenVINO IR: an `.xml` that describes the network and a `.bin` of the same name with its weights."""

from __future__ import annotations

import hashlib
import math
import re
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from swiftdet.errors import ModelError
from swiftdet.model_files.graph import Graph, Node
from swiftdet.model_files.metadata import parse_metadata
from swiftdet.model_files.model_file import InputInfo, ModelFile, read_bounded, weights_precision
from swiftdet.model_files.openvino_ir_checks import check_layers

if TYPE_CHECKING:
    from collections.abc import Mapping

_MAX_XML_BYTES = 256 << 20
_MAX_METADATA_BYTES = 4 << 20

# OpenVINO's name of an operation -> ONNX's, where recognition asks for it.
_ONNX_OPS = {
    "Convolution": "Conv",
    "GroupConvolution": "Conv",
    "Multiply": "Mul",
    "Divide": "Div",
    "Subtract": "Sub",
    "PReLU": "LeakyRelu",
    "ReLU": "Relu",
    "Convert": "Cast",
    "SoftMax": "Softmax",
    "StridedSlice": "Slice",
    "VariadicSplit": "Split",
    "MVN": "LayerNormalization",
}
_DTYPES = {"f32": "float", "FP32": "float", "f16": "float16", "FP16": "float16", "u8": "uint8", "U8": "uint8"}


def read_openvino_ir(path: Path) -> ModelFile:
    """Reads a model and the weights beside it.

    Args:
        path: of the `.xml` file, or a folder with exactly one (Ultralytics' `*_openvino_model/`), whose
            `metadata.yaml` is read too.

    Raises:
        ModelError: unreadable, empty, truncated, not an IR, no weights beside it, more than one input, a layer that
            crashes OpenVINO or keeps a state.
    """
    if path.is_dir():
        found = sorted(path.glob("*.xml"))
        if len(found) != 1:
            raise ModelError(f"model {path}: expected a folder with one OpenVINO .xml file, found {len(found)}")
        path = found[0]
    data = read_bounded(path, limit=_MAX_XML_BYTES)
    root = _parse(path, data)
    try:
        check_layers(root)
    except ModelError as e:
        raise ModelError(f"model {path}: {e}") from e
    weights_path = path.with_suffix(".bin")
    if not weights_path.exists():
        raise ModelError(f"model {path}: its weights are missing; keep {weights_path.name} beside it")
    weights = read_bounded(weights_path)
    entries = _rt_info(root)
    sidecar = path.with_name("metadata.yaml")
    if sidecar.is_file():
        text = read_bounded(sidecar, limit=_MAX_METADATA_BYTES).decode("utf-8", errors="replace")
        entries = {**entries, **_flat_yaml(text)}
    try:
        graph, image_input = _view(path, root)
        precision = weights_precision(_constants_by_type(root))
    except (ValueError, AttributeError) as e:  # a layer without its id, a dimension that is no number
        raise ModelError(f"model {path}: the OpenVINO IR is damaged ({e}); export or download it again") from e
    digest = hashlib.sha256(data)
    digest.update(weights)
    return ModelFile(
        path=path,
        format="openvino",
        model=data,
        weights=weights,
        sha256=digest.hexdigest(),
        image_input=image_input,
        graph=graph,
        metadata=parse_metadata(entries),
        weights_precision=precision,
    )


def _parse(path: Path, data: bytes) -> ET.Element:
    """The XML tree of a file that defines no entities (they could expand without bound or read other files)."""
    try:
        text = data.decode("utf-8")
        if "<!DOCTYPE" in text or "<!ENTITY" in text:
            raise ModelError(f"model {path}: an OpenVINO IR has no document type definition; refused")
        root = ET.fromstring(text)  # noqa: S314 - without a DOCTYPE there is no entity to expand
    except (UnicodeDecodeError, ET.ParseError, ValueError, RecursionError) as e:
        raise ModelError(
            f"model {path}: not an OpenVINO IR, or a truncated one ({len(data)} bytes, {e}); "
            "export or download it again"
        ) from e
    if root.tag != "net" or root.find("layers") is None:
        raise ModelError(f"model {path}: not an OpenVINO IR: the XML holds <{root.tag[:40]}>, not <net> with layers")
    return root


def _view(path: Path, root: ET.Element) -> tuple[Graph, InputInfo]:
    """The format-neutral structure; a tensor is called "layer id:port id"."""
    sources = {
        f"{_text(edge, 'to-layer')}:{_text(edge, 'to-port')}": f"{_text(edge, 'from-layer')}:{_text(edge, 'from-port')}"
        for edge in root.iterfind("edges/edge")
    }
    nodes, outputs, parameters = list[Node](), list[str](), list[tuple[ET.Element, str]]()
    constants, aliases = dict[str, tuple[int, ...]](), dict[str, str]()
    for layer in root.iterfind("layers/layer"):
        layer_id, kind = _text(layer, "id"), _text(layer, "type")
        reads = tuple(sources.get(f"{layer_id}:{_text(port, 'id')}", "") for port in layer.iterfind("input/port"))
        writes = tuple(f"{layer_id}:{_text(port, 'id')}" for port in layer.iterfind("output/port"))
        for tensor, port in zip(writes, layer.iterfind("output/port"), strict=True):
            for name in re.split(r"(?<!\\),", port.get("names", "")):
                if name:
                    aliases[name.replace("\\,", ",")] = tensor
            if kind == "Const":
                constants[tensor] = tuple(int(dim.text or "") for dim in port.iterfind("dim"))
        if kind == "Result":
            outputs.extend(reads)
        elif kind == "Parameter":
            parameters.append((layer, writes[0] if writes else ""))
        elif kind != "Const":
            op = _ONNX_OPS.get(kind, kind)
            nodes.append(Node(op=op, inputs=reads, outputs=writes, name=layer.get("name", "")))
    if len(parameters) != 1:
        listed = ", ".join(layer.get("name", "?") for layer, _ in parameters) or "none"
        raise ModelError(f"model {path}: expected one input, an image [N, 3, H, W]; its inputs are: {listed:.200}")
    layer, tensor = parameters[0]
    graph = Graph(
        nodes=tuple(nodes),
        inputs=(tensor,),
        outputs=tuple(outputs),
        constants=constants,
        aliases=aliases,
        scopes=tuple(layer.get("name", "") for layer in root.iterfind("layers/layer")),
    )
    attributes = layer.find("data")
    shape = attributes.get("shape", "") if attributes is not None else ""
    kind = attributes.get("element_type", "") if attributes is not None else ""
    names = [name for name, t in aliases.items() if t == tensor]
    return graph, InputInfo(
        names[0] if names else layer.get("name", ""),
        tuple(int(d) if d.strip().isdecimal() else -1 for d in shape.split(",") if d),
        _DTYPES.get(kind, kind),
    )


def _constants_by_type(root: ET.Element) -> Mapping[str, int]:
    """How many numbers the constants of each element type hold."""
    counts = Counter[str]()
    for layer in root.iterfind("layers/layer"):
        data = layer.find("data")
        if layer.get("type") == "Const" and data is not None:
            sides = [int(side) for side in data.get("shape", "").split(",") if side.strip()]
            counts[data.get("element_type", "")] += math.prod(sides)
    return counts


def _text(element: ET.Element, key: str) -> str:
    value = element.get(key)
    if value is None:
        raise ValueError(f"<{element.tag}> without {key!r}")
    return value


def _rt_info(root: ET.Element) -> Mapping[str, str]:
    """Metadata in the IR: what `ovc` copies from ONNX (framework), and model_api's keys (model_info)."""
    entries = dict[str, str]()
    for section in ("rt_info/model_info", "rt_info/framework", "rt_info"):
        for element in root.iterfind(f"{section}/*"):
            key = element.get("name", "") if element.tag == "info" else element.tag
            if (value := element.get("value")) is not None:
                entries[key] = value
    if "labels" in entries and "names" not in entries:
        # model_api separates by spaces and writes those of a name as underscores.
        labels = [label.replace("_", " ") for label in entries["labels"].split()]
        entries["names"] = str(labels)
    return entries


def _flat_yaml(text: str) -> dict[str, str]:
    """The `key: value` pairs of Ultralytics' metadata.yaml; a nested block of scalars becomes a Python literal.

    Not a YAML parser: lines of any other form are ignored.
    """
    entries, block = dict[str, str](), dict[str, list[str]]()
    key = ""
    for line in text.splitlines():
        if found := re.fullmatch(r"([A-Za-z_]\w*):\s*(.*?)\s*", line):
            key, value = found[1], found[2]
            if value:
                entries[key] = _unquoted(value)
        elif found := re.fullmatch(r"\s*-\s+(.+?)\s*", line):
            block.setdefault(key, []).append(_literal(found[1]))
        elif found := re.fullmatch(r"\s+(\d{1,6}):\s*(.+?)\s*", line):
            block.setdefault(key, []).append(f"{found[1]}: {_unquoted(found[2])!r}")
    for key, items in block.items():
        dictionary = all(re.match(r"\d+: ", item) for item in items)
        entries[key] = "{" + ", ".join(items) + "}" if dictionary else "[" + ", ".join(items) + "]"
    return entries


def _unquoted(value: str) -> str:
    if len(value) >= 2 and value[0] == value[-1] == "'":
        return value[1:-1].replace("''", "'")
    if len(value) >= 2 and value[0] == value[-1] == '"':
        return value[1:-1].replace('\\"', '"')
    return value


def _literal(value: str) -> str:
    return value if re.fullmatch(r"\d{1,9}", value) else repr(_unquoted(value))
