"""NVIDIA's own ONNX parser and builder, driven by our building code, accept every variant in every precision.

For a T4 (compute capability 7.5) and for Ampere: the builder chooses other implementations for them, and TensorRT for
RTX lacks some on 7.5.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from swiftdet import checkpoints, demo, zoo
from swiftdet.engines.tensorrt.precision import to_half

SCRIPT = Path(__file__).with_name("tensorrt_rtx_build.py")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture
def build(tensorrt_rtx, tmp_path):
    """Builds a model in a process of its own: `build(model, "SM75", "fp32")` gives what the script prints."""

    def run(model, capability, precision, *more):
        path = tmp_path / "model.onnx"
        path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
        done = subprocess.run(
            [sys.executable, str(SCRIPT), *map(str, tensorrt_rtx), capability, precision, str(path), *map(str, more)],
            capture_output=True,
            text=True,
            timeout=1000,
            check=False,
        )
        assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        return json.loads(done.stdout.splitlines()[-1])

    return run


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("name", [*zoo.names(), *zoo.demo_names()])
def test_every_variant_builds(build, name, precision):
    state = checkpoints.load(demo.weights(name)) if name in zoo.demo_names() else None
    model = zoo.build(name, state, precision=precision).SerializeToString()
    for capability in ("SM75", "SM86"):
        result = build(model, capability, precision)
        assert "error" not in result, result
        bytes_each = 4 if precision == "fp32" else 2
        assert result["bytes"] > 0.9 * bytes_each * zoo.info(name).params  # the weights are all there
        assert result["unfinished"] == []
        assert result["phases"]["Building engine"] > 0


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("name", ["yolov7-tiny", "yolov7-w6", "damo-yolo-t"])
def test_decoded_heads_of_any_size_build(build, name, precision):
    model = zoo.build(name, imgsz="dynamic", head="decoded", precision=precision)
    assert build(model, "SM75", precision)["bytes"] > 0


@pytest.mark.parametrize("name", ["yolov7-tiny", "damo-yolo-ns"])
def test_a_graph_that_was_converted_builds(build, name):
    single = zoo.build(name, head="decoded", imgsz=320)
    del single.metadata_props[:]
    assert build(to_half(single.SerializeToString()), "SM75", "fp16")["bytes"] > 0


def test_a_timing_cache_is_written(build, tmp_path):
    timings = tmp_path / "folder" / "timings.cache"
    build(zoo.build("damo-yolo-ns"), "SM86", "fp32", timings)
    assert timings.stat().st_size > 0
    assert {path.name for path in timings.parent.iterdir()} <= {"timings.cache", "timings.cache.lock"}


def test_a_network_that_does_not_parse_is_told(build):
    model = zoo.build("damo-yolo-ns")
    model.graph.node[0].op_type = "NoSuchOperator"
    result = build(model, "SM75", "fp32")
    assert result["error"] == "ModelError"
    assert "NoSuchOperator" in result["message"]


def test_a_network_that_does_not_build_is_told(build):
    """A non-maximum suppression inside parses there, and has no implementation."""
    boxes, scores = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)
        for name, dims in (("images", [1, 3, 8, 4]), ("out", ["kept", 3]))
    )
    constants = {
        "shape": np.array([3, 8, 4]), "flat": np.array([3, 4, 8]), "most": np.array([5]),
        "iou": np.array([0.5], np.float32), "conf": np.array([0.1], np.float32),
    }  # fmt: skip
    nodes = [
        helper.make_node("Reshape", ["images", "shape"], ["boxes"]),
        helper.make_node("Reshape", ["images", "flat"], ["scores"]),
        helper.make_node("NonMaxSuppression", ["boxes", "scores", "most", "iou", "conf"], ["kept"]),
        helper.make_node("Cast", ["kept"], ["out"], to=TensorProto.FLOAT),
    ]
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "nms", [boxes], [scores], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    result = build(model, "SM75", "fp32")
    assert result["error"] in {"BackendError", "ModelError"}
    assert result["message"]
