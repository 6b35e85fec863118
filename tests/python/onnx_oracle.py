"""ONNX Runtime as the independent reader and runner of the models that tests make."""

from __future__ import annotations

import numpy as np
import onnxruntime

from swiftdet.engines.signature import Port, Signature


def session(model: bytes) -> onnxruntime.InferenceSession:
    """A quiet session on one thread."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def run(model: bytes, image: np.ndarray) -> dict[str, np.ndarray]:
    """The outputs by name."""
    s = session(model)
    names = [output.name for output in s.get_outputs()]
    return dict(zip(names, s.run(names, {s.get_inputs()[0].name: image}), strict=True))


def inspect(model: bytes, weights: bytes = b"", *, input_shape: tuple[int, ...] | None = None) -> Signature:
    """Ports at `input_shape`, found by running the model on zeros."""
    assert not weights, "ONNX only"
    assert input_shape is not None
    outputs = run(model, np.zeros(input_shape, np.float32))
    name = session(model).get_inputs()[0].name
    return Signature((Port(name, tuple(input_shape)),), tuple(Port(n, v.shape) for n, v in outputs.items()))
