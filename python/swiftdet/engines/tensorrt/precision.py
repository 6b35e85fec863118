"""A graph in the precision that its engine is to have.

Networks of the zoo are built in it. A foreign graph of float32 is converted by a library made for that: NVIDIA's
ModelOpt where it is installed, else onnxconverter-common. Input, outputs and the decoding of the head stay float32:
float16 has steps of half a pixel at 640.
"""

from __future__ import annotations

import functools
import importlib
import re
import tempfile
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swiftdet.errors import BackendUnavailable, ModelError

if TYPE_CHECKING:
    import onnx

_WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_INSTALL = "pip install onnxconverter-common"


def to_half(model: bytes) -> bytes:
    """The graph with float16 weights and feature maps; as it is where it has them already.

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
    kept = decoding_nodes(proto)
    ir_version = proto.ir_version  # read here: a converter may work in place
    convert = _converter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of tiny weights that become zero, one for each tensor
            half = convert(proto, kept)
        metadata = {entry.key: entry.value for entry in proto.metadata_props}
        onnx.helper.set_model_props(half, metadata)
        half.ir_version = min(half.ir_version, ir_version)
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


def decoding_nodes(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes behind the network's last kernels, given names where they have none.

    A convolution to one channel is an expectation over a box's distribution (Ultralytics' DFL), so it belongs to them.
    """
    import onnx  # noqa: PLC0415 - slow to import

    graph = model.graph
    for index, node in enumerate(graph.node):
        node.name = node.name or f"{node.op_type}_{index}"
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].type == onnx.AttributeProto.TENSOR:
            shapes[node.output[0]] = tuple(node.attribute[0].t.dims)
    feeding: set[str] = set()  # tensors that some kernel still reads, directly or not
    kept = []
    for node in reversed(graph.node):  # an ONNX graph is in topological order
        is_kernel = node.op_type in _WEIGHTED and _is_kernel(node.input, shapes)
        if is_kernel or any(name in feeding for name in node.output):
            feeding.update(node.input)
        else:
            kept.append(node.name)
    return kept[::-1]


def _is_kernel(inputs: Iterable[str], shapes: dict[str, tuple[int, ...]]) -> bool:
    weights = [shapes[name] for name in inputs if name in shapes]
    return bool(weights) and not (len(weights[0]) == 4 and weights[0][0] == 1)


def _count(dims: Iterable[int]) -> int:
    total = 1
    for dim in dims:
        total *= dim
    return total


def _converter() -> Callable[[onnx.ModelProto, list[str]], onnx.ModelProto]:
    """What is installed, as a function of a graph and of the names of the nodes that stay float32."""
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


def _with_modelopt(library: Any, proto: onnx.ModelProto, kept: list[str]) -> Any:
    with tempfile.TemporaryDirectory() as folder:  # it reads files only
        path = Path(folder) / "model.onnx"
        path.write_bytes(proto.SerializeToString())
        return library.convert_to_mixed_precision(
            onnx_path=str(path),
            low_precision_type="fp16",
            nodes_to_exclude=[f"^{re.escape(name)}$" for name in kept],
            keep_io_types=True,
        )


def _with_common(library: Any, proto: onnx.ModelProto, kept: list[str]) -> Any:
    return library.convert_float_to_float16(proto, keep_io_types=True, node_block_list=kept)
