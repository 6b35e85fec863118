"""Small seeded ONNX networks for the tests of engines."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

STATIC = (1, 3, 16, 24)
DYNAMIC = ("n", 3, "h", "w")


def make_model(
    nodes, outputs, *, shape=STATIC, dtype=TensorProto.FLOAT, initializers=(), extra_inputs=()
) -> bytes:
    """A model with the input `images` and outputs of unstated shape: (name, type), or names of floats."""
    typed = [(o, TensorProto.FLOAT) if isinstance(o, str) else o for o in outputs]
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("images", dtype, shape), *extra_inputs],
        [helper.make_tensor_value_info(name, kind, None) for name, kind in typed],
        list(initializers),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return model.SerializeToString()


def conv_model(shape=STATIC, *, dtype=np.float32) -> bytes:
    """Conv and ReLU to `features` [N,4,H,W], their channel-wise maximum to `peaks` [N,1,H,W]."""
    weights = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(dtype)
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return make_model(
        [
            helper.make_node("Conv", ["images", "weights"], ["raw"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["raw"], ["features"]),
            helper.make_node("ReduceMax", ["features"], ["peaks"], axes=[1]),
        ],
        [("features", kind), ("peaks", kind)],
        shape=shape,
        dtype=kind,
        initializers=[onnx.numpy_helper.from_array(weights, "weights")],
    )


def images(shape=STATIC, seed=1) -> np.ndarray:
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def reference(model: bytes, batch: np.ndarray) -> list[np.ndarray]:
    """What onnxruntime computes, in the model's own types."""
    import onnxruntime as ort

    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    port = session.get_inputs()[0]
    types = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}
    return session.run(None, {port.name: batch.astype(types[port.type])})
