"""ONNX Runtime on the CPU, driven through Python: an engine, and the independent reference of others."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import numpy as np

from swiftdet.errors import BackendUnavailable, InvalidArgument, ModelError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from swiftdet.engines.protocol import FloatArray, PortDescription

_DTYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(bool)": np.bool_,
}
_FATAL = 4  # log severity: the messages of lesser ones come back as exceptions anyway


class OnnxRuntimeEngine:
    """Runs an ONNX model with onnxruntime; follows `PythonEngine`.

    Inputs and outputs of other types are converted from and to float32. Safe from several threads.

    Attributes:
        inputs: (name, shape) of each input; -1 is an open dimension.
        outputs: (name, shape) of each output.
        description: "ONNX Runtime <version> CPU".
    """

    def __init__(
        self,
        model: bytes,
        *,
        input_shape: Sequence[int] | None = None,
        num_threads: int = 0,
        optimized: bool = True,
    ) -> None:
        """Loads a model.

        Args:
            model: the bytes of an ONNX file with its weights inside.
            input_shape: [N, 3, H, W] that narrows the open dimensions of the file; -1 leaves one open.
            num_threads: threads inside one run; 0 is onnxruntime's choice.
            optimized: False computes node by node, each in its own type.

        Raises:
            BackendUnavailable: onnxruntime is not installed.
            ModelError: the model is unreadable.
            InvalidArgument: the model cannot take `input_shape`, or `num_threads` is negative.
        """
        try:
            ort: Any = importlib.import_module("onnxruntime")
        except ImportError as e:
            raise BackendUnavailable(
                f"engine 'onnxruntime' needs the package onnxruntime ({e}); install it with: "
                f"pip install 'swiftdet[onnxruntime]'"
            ) from e
        if num_threads < 0:
            raise InvalidArgument(f"num_threads: expected 0 (the engine's choice) or more, got {num_threads}")
        options = ort.SessionOptions()
        options.log_severity_level = _FATAL
        options.intra_op_num_threads = num_threads
        if not optimized:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        try:
            self._session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as e:  # onnxruntime has no common base of its errors
            raise ModelError(f"ONNX Runtime {ort.__version__} could not load the model: {e}") from e
        self.description = f"ONNX Runtime {ort.__version__} CPU"
        self.inputs: list[PortDescription] = [_port(p) for p in self._session.get_inputs()]
        self.outputs: list[PortDescription] = [_port(p) for p in self._session.get_outputs()]
        self._input_types = {p.name: _dtype(p) for p in self._session.get_inputs()}
        self._output_names = [name for name, _ in self.outputs]
        for port in self._session.get_outputs():
            _dtype(port)
        if input_shape is not None and len(self.inputs) == 1:
            self.inputs = [_narrowed(self.inputs[0], input_shape)]

    def run(self, inputs: dict[str, FloatArray], /) -> list[FloatArray]:
        """Runs the network once on float32 inputs by name; float32 outputs, in the order of `outputs`."""
        feed = {name: array.astype(self._input_types[name], copy=False) for name, array in inputs.items()}
        results = self._session.run(self._output_names, feed)
        return [np.ascontiguousarray(result, dtype=np.float32) for result in results]


def _port(port: Any) -> PortDescription:
    return port.name, [d if isinstance(d, int) and d >= 0 else -1 for d in port.shape]


def _dtype(port: Any) -> type[np.generic]:
    """The NumPy type of onnxruntime's `port`."""
    dtype = _DTYPES.get(port.type)
    if dtype is None:
        raise ModelError(f"network: expected tensors of numbers, {port.name!r} is {port.type}; not a detector's")
    return dtype


def _narrowed(port: PortDescription, wanted: Sequence[int]) -> PortDescription:
    """`port` with its open dimensions set as wanted."""
    name, own = port
    fits = len(own) == len(wanted) and all(
        o in (-1, w) and (w == -1 or w > 0) for o, w in zip(own, wanted, strict=True)
    )
    if not fits:
        raise InvalidArgument(
            f"input_shape: the network's input {name!r} takes {list(own)} (-1 is any size), got "
            f"{list(wanted)}; onnxruntime cannot reshape what the file fixes"
        )
    return name, list(wanted)
