"""Builds ONNX models with our own building code and NVIDIA's TensorRT for RTX, on a machine without a GPU.

    python tensorrt_rtx_build.py LIBRARIES BINDINGS SM75 PRECISION MODEL.onnx [TIMING_CACHE]

LIBRARIES and BINDINGS are the folders inside its wheels; its interface is that of TensorRT 11 but for the GPU, which is
named here instead of being asked. Prints one JSON line; run as a process of its own, because the library may end the
process that it fails in.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

import onnx

from swiftdet.engines.tensorrt.building import build_plan
from swiftdet.engines.tensorrt.options import Batches, BuildOptions
from swiftdet.errors import SwiftdetError

FREE_BATCH, FREE_SIDE, FREE_SIDES = 4, 640, (320, 960)  # where the graph leaves them open
WORKSPACE = 8 << 30  # four images of 1280x1280 in float32 need more than one GiB


def library(libraries: Path, bindings: Path) -> Any:
    for name in ("libtensorrt_rtx.so.1", "libtensorrt_onnxparser_rtx.so.1"):
        ctypes.CDLL(str(libraries / name), mode=ctypes.RTLD_GLOBAL)
    sys.path.insert(0, str(bindings))
    return importlib.import_module("tensorrt_rtx")


class Recorder:
    """Counts what the builder says of its progress."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.phases: dict[str, int] = {}
        self.open: set[str] = set()

    def start(self, phase: str, *_: object) -> None:
        with self.lock:
            self.phases[phase] = 0
            self.open.add(phase)

    def step(self, phase: str, done: int) -> bool:
        with self.lock:
            self.phases[phase] = max(self.phases[phase], done)
        return True

    def finish(self, phase: str) -> None:
        with self.lock:
            self.open.discard(phase)


def options_for(model: onnx.ModelProto, precision: str, timing_cache: Path | None) -> BuildOptions:
    dims = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]  # 0 where it is free
    batches = Batches(dims[0], dims[0], dims[0]) if dims[0] else Batches(1, 2, FREE_BATCH)
    size = (dims[2] or FREE_SIDE, dims[3] or FREE_SIDE)
    smallest, largest = ((dims[2] or side, dims[3] or side) for side in FREE_SIDES)
    return BuildOptions(
        precision=precision,
        batches=batches,
        size=size,
        smallest=smallest,
        largest=largest,
        workspace_bytes=WORKSPACE,
        timing_cache=timing_cache,
    )


def build(trt: Any, capability: str, precision: str, model: Path, timing_cache: Path | None) -> dict[str, object]:
    def for_capability(config: Any) -> None:
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, capability), 0)

    content, recorder, start = model.read_bytes(), Recorder(), time.perf_counter()
    options = options_for(onnx.load_model_from_string(content), precision, timing_cache)
    try:
        plan = build_plan(trt, content, options, progress=recorder, configure=for_capability)
    except SwiftdetError as e:
        return {"error": type(e).__name__, "message": str(e)}
    return {
        "bytes": len(plan),
        "seconds": round(time.perf_counter() - start, 1),
        "phases": recorder.phases,
        "unfinished": sorted(recorder.open),
    }


if __name__ == "__main__":
    libraries, bindings, capability, precision, model, *cache = sys.argv[1:]
    trt = library(Path(libraries), Path(bindings))
    result = build(trt, capability, precision, Path(model), Path(cache[0]) if cache else None)
    sys.stdout.write(json.dumps(result) + "\n")
