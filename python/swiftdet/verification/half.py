"""Whether a foreign network survives float16: asked on the CPU before an engine is built from the converted graph."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from swiftdet import demo
from swiftdet.detector import Detector
from swiftdet.engines.onnxruntime import OnnxRuntimeEngine
from swiftdet.errors import ModelError
from swiftdet.spec import METADATA_KEY
from swiftdet.verification import verify
from swiftdet.verification.rounding import rounded

if TYPE_CHECKING:
    from swiftdet.engines.tensorrt.engines import Model

CONF = 0.01
"""Low, as nobody knows whether what this network was trained for is in our images."""

_PICTURES, _NOISES, _SEED = 6, 2, 16


def check(model: Model, half: bytes) -> None:
    """Detects with both graphs in the same images: the float32 one in OpenVINO, the other in ONNX Runtime.

    The latter rounds to float16 behind every node, so that what overflows on a GPU overflows here. Takes seconds.

    Args:
        model: as read, its graph float32.
        half: the graph that it was converted to.

    Raises:
        ModelError: the answers are further apart than `verify` allows float16, or not finite; says which gates broke.
        BackendUnavailable: onnxruntime is not installed.
    """
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("single.onnx", "half.onnx")]
        for path, graph in zip(paths, (model.model, half), strict=True):
            path.write_bytes(_described(graph, model))
        engine = OnnxRuntimeEngine(rounded(half), input_shape=model.input_shape, optimized=False)
        with (
            Detector(paths[0], device="cpu", imgsz=model.spec.imgsz) as single,
            Detector(paths[1], device="cpu", imgsz=model.spec.imgsz, engine=engine) as other,
        ):
            # Nothing found is nothing wrong here: raw outputs are looked at all the same.
            limits = {"min_detections": None}
            report = verify(single, other, _images(), conf=CONF, tolerance="fp16", gates=limits, worst=0)
    if not report.passed:
        broken = "; ".join(map(str, report.broken))
        raise ModelError(
            f"model {model.path}: in float16 it gives other answers than in float32: {broken}. Use precision='fp32', "
            "or export it as float16 yourself and give that file, which is taken as it is"
        )


def _images() -> list[Any]:
    rng = np.random.default_rng(_SEED)
    noises = [rng.integers(0, 256, (480, 640, 3), dtype=np.uint8) for _ in range(_NOISES)]
    return [*sorted(demo.dataset().images.glob("*.jpg"))[:_PICTURES], *noises]


def _described(graph: bytes, model: Model) -> bytes:
    """The graph with the model's description inside, so that it is read the same way whatever it was called."""
    import onnx  # noqa: PLC0415 - slow to import

    proto = onnx.load_model_from_string(graph)
    del proto.metadata_props[:]
    proto.metadata_props.add(key=METADATA_KEY, value=model.spec.to_json())
    return bytes(proto.SerializeToString())
