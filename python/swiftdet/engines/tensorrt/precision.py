"""A graph in the precision that its engine is to have.

Networks of the zoo are built in it. A foreign graph of float32 is converted by a library made for that: NVIDIA's
ModelOpt where it is installed, else onnxconverter-common. Input, outputs and the decoding of the head stay float32:
float16 has steps of half a pixel at 640.
"""

from __future__ import annotations

import functools
import importlib
import tempfile
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swiftdet.errors import BackendUnavailable, ModelError

if TYPE_CHECKING:
    import onnx

_WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_INSTALL = "pip install onnxconverter-common"


def to_half(model: bytes) -> bytes:
    """The graph with float16 weights and feature maps; as it is where it has them already.

    The converter gets the network alone. What decodes its outputs is set aside before and put back behind it, since
    the converters keep single nodes in float32, but round what passes between two of them to float16.

    Args:
        model: ONNX with its weights inside.

    Raises:
        BackendUnavailable: no converter is installed.
        ModelError: the converter fails, or makes no valid model.
    """
    import onnx  # noqa: PLC0415 - slow to import

    proto = onnx.load_model_from_string(model)
    if is_half(proto):
        return model
    convert = _converter()
    try:
        tail = _take_decoding_off(proto)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of tiny weights that are rounded up, one for each tensor
            half = convert(proto)
        _put_back(half, tail)
        onnx.checker.check_model(half)
    except Exception as e:  # neither library has errors of its own
        raise ModelError(f"the graph cannot be converted to float16 ({type(e).__name__}: {e}); use fp32") from e
    return bytes(half.SerializeToString())


def is_half(model: onnx.ModelProto) -> bool:
    """Whether the network's kernels are float16: most of the numbers in its weights are."""
    import onnx  # noqa: PLC0415 - slow to import

    sizes: dict[int, int] = defaultdict(int)
    for tensor in model.graph.initializer:
        sizes[tensor.data_type] += _count(tensor.dims)
    return sizes[onnx.TensorProto.FLOAT16] > sizes[onnx.TensorProto.FLOAT]


def decoding_nodes(model: onnx.ModelProto) -> list[int]:
    """Which nodes, by their place in the graph, lie behind the network's last kernels.

    A convolution to one channel is an expectation over a box's distribution (Ultralytics' DFL), so it belongs to them.
    """
    import onnx  # noqa: PLC0415 - slow to import

    graph = model.graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].type == onnx.AttributeProto.TENSOR:
            shapes[node.output[0]] = tuple(node.attribute[0].t.dims)
    feeding: set[str] = set()  # tensors that some kernel still reads, directly or not
    behind = []
    for place in range(len(graph.node) - 1, -1, -1):  # an ONNX graph is in topological order
        node = graph.node[place]
        is_kernel = node.op_type in _WEIGHTED and _is_kernel(node.input, shapes)
        if is_kernel or any(name in feeding for name in node.output):
            feeding.update(node.input)
        else:
            behind.append(place)
    return behind[::-1]


@dataclass
class _Tail:
    """What was set aside: nodes, the constants that they read under names of their own, and the model's ends."""

    nodes: list[onnx.NodeProto]
    constants: list[onnx.TensorProto]
    outputs: list[onnx.ValueInfoProto]
    metadata: dict[str, str]
    ir_version: int


def _take_decoding_off(model: onnx.ModelProto) -> _Tail:
    """Cuts the graph behind its last kernels; the tensors there become its outputs."""
    import onnx  # noqa: PLC0415 - slow to import

    graph = model.graph
    known = onnx.shape_inference.infer_shapes(model).graph
    types = {value.name: value for values in (known.value_info, known.output) for value in values}
    behind = set(decoding_nodes(model))
    nodes = [_copy(graph.node[place]) for place in sorted(behind)]
    read = {name for node in nodes for name in node.input} | {output.name for output in graph.output}
    own = {tensor.name: f"decoding/{tensor.name}" for tensor in graph.initializer if tensor.name in read}
    constants = [_copy(tensor) for tensor in graph.initializer if tensor.name in own]
    for tensor in constants:
        tensor.name = own[tensor.name]
    for node in nodes:
        node.input[:] = [own.get(name, name) for name in node.input]
    tail = _Tail(
        nodes,
        constants,
        [_copy(output) for output in graph.output],
        {entry.key: entry.value for entry in model.metadata_props},
        model.ir_version,
    )
    body = [_copy(node) for place, node in enumerate(graph.node) if place not in behind]
    for place, node in enumerate(body):
        node.name = node.name or f"{node.op_type}_{place}"  # the converters tell nodes apart by name
    cut = [name for node in body for name in node.output if name in read]
    del graph.node[:], graph.output[:], graph.value_info[:]
    graph.node.extend(body)
    graph.output.extend(
        types.get(name) or onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in cut
    )
    still_read = {name for node in body for name in node.input}
    kept = [_copy(tensor) for tensor in graph.initializer if tensor.name in still_read]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    return tail


def _put_back(model: onnx.ModelProto, tail: _Tail) -> None:
    """Joins a converted network and its decoding."""
    import onnx  # noqa: PLC0415 - slow to import

    graph = model.graph
    del graph.output[:], graph.value_info[:]
    graph.node.extend(tail.nodes)
    graph.initializer.extend(tail.constants)
    graph.output.extend(tail.outputs)
    onnx.helper.set_model_props(model, tail.metadata)
    model.ir_version = min(model.ir_version, tail.ir_version)


def _copy(message: Any) -> Any:
    copied = type(message)()
    copied.CopyFrom(message)
    return copied


def _is_kernel(inputs: Iterable[str], shapes: dict[str, tuple[int, ...]]) -> bool:
    weights = [shapes[name] for name in inputs if name in shapes]
    return bool(weights) and not (len(weights[0]) == 4 and weights[0][0] == 1)


def _count(dims: Iterable[int]) -> int:
    total = 1
    for dim in dims:
        total *= dim
    return total


def _converter() -> Callable[[onnx.ModelProto], onnx.ModelProto]:
    """The converter that is installed."""
    converters = {"modelopt.onnx.autocast": _with_modelopt, "onnxconverter_common.float16": _with_common}
    for module, convert in converters.items():
        try:
            return functools.partial(convert, importlib.import_module(module))
        except ImportError:
            continue
    raise BackendUnavailable(
        "a float32 graph becomes float16 with onnxconverter-common or nvidia-modelopt, and neither is installed; "
        f"{_INSTALL}, or use fp32"
    )


def _with_modelopt(library: Any, proto: onnx.ModelProto) -> Any:
    with tempfile.TemporaryDirectory() as folder:  # it reads files only
        path = Path(folder) / "model.onnx"
        path.write_bytes(proto.SerializeToString())
        return library.convert_to_mixed_precision(onnx_path=str(path), low_precision_type="fp16", keep_io_types=True)


def _with_common(library: Any, proto: onnx.ModelProto) -> Any:
    return library.convert_float_to_float16(proto, keep_io_types=True)
