"""NVIDIA's own ONNX parser and builder accept every variant, for a T4 (compute capability 7.5) and for Ampere."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from swiftdet import zoo

SCRIPT = Path(__file__).with_name("tensorrt_rtx_build.py")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def build(folders, capability, model, path):
    path.write_bytes(model.SerializeToString())
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, folders), capability, str(path)],
        capture_output=True,
        text=True,
        timeout=1000,
        check=False,
    )
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("capability", ["SM75", "SM86"])
@pytest.mark.parametrize("name", zoo.names())
def test_every_variant_builds(tensorrt_rtx, tmp_path, name, capability):
    model = zoo.build(name)
    result = build(tensorrt_rtx, capability, model, tmp_path / "model.onnx")
    assert result["built"], result
    assert list(result["outputs"]) == [output.name for output in model.graph.output]
    assert result["bytes"] > zoo.info(name).params  # at least a byte for each


@pytest.mark.parametrize("name", ["yolov7-tiny", "yolov7-w6", "damo-yolo-t"])
def test_decoded_heads_of_any_size_build(tensorrt_rtx, tmp_path, name):
    model = zoo.build(name, imgsz="dynamic", head="decoded")
    assert build(tensorrt_rtx, "SM75", model, tmp_path / "model.onnx")["built"]


def test_a_network_that_does_not_parse_is_told(tensorrt_rtx, tmp_path):
    model = zoo.build("damo-yolo-ns")
    model.graph.node[0].op_type = "NoSuchOperator"
    assert build(tensorrt_rtx, "SM75", model, tmp_path / "model.onnx")["parsed"] is False
