"""Parses and builds ONNX models with NVIDIA's own TensorRT for RTX, on a machine without a GPU.

    python tensorrt_rtx_build.py LIBRARIES BINDINGS SM75 MODEL.onnx

LIBRARIES and BINDINGS are the folders inside its wheels. Prints one JSON line; run as a process of its own,
because the library may end the process that it fails in.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import sys
import time
from pathlib import Path


def build(libraries: Path, bindings: Path, capability: str, model: Path) -> dict[str, object]:
    for library in ("libtensorrt_rtx.so.1", "libtensorrt_onnxparser_rtx.so.1"):
        ctypes.CDLL(str(libraries / library), mode=ctypes.RTLD_GLOBAL)
    sys.path.insert(0, str(bindings))
    trt = importlib.import_module("tensorrt_rtx")
    start = time.perf_counter()
    builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, trt.Logger(trt.Logger.ERROR))
    if not parser.parse(model.read_bytes()):
        return {"parsed": False, "errors": [parser.get_error(i).desc() for i in range(parser.num_errors)]}
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(getattr(trt.ComputeCapability, capability), 0)
    image = network.get_input(0)
    if -1 in image.shape:
        profile = builder.create_optimization_profile()
        free = [4, 3, 640, 640]
        largest = [dim if dim > 0 else free[i] for i, dim in enumerate(image.shape)]
        smallest = [dim if dim > 0 else (1 if i == 0 else 128) for i, dim in enumerate(image.shape)]
        profile.set_shape(image.name, smallest, largest, largest)
        config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    return {
        "parsed": True,
        "built": plan is not None,
        "bytes": 0 if plan is None else plan.nbytes,
        "outputs": {network.get_output(i).name: list(network.get_output(i).shape) for i in range(network.num_outputs)},
        "seconds": round(time.perf_counter() - start, 1),
    }


if __name__ == "__main__":
    result = build(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4]))
    sys.stdout.write(json.dumps(result) + "\n")
