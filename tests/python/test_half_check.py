"""A foreign float32 graph becomes a float16 engine only if its answers survive that."""

from __future__ import annotations

import contextlib
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from fake_tensorrt import FakeTensorRT
from swiftdet import cuda_devices
from swiftdet import model as models
from swiftdet.cli import main
from swiftdet.cuda_devices import CudaDevice, CudaDriver
from swiftdet.engines.onnxruntime import OnnxRuntimeEngine
from swiftdet.engines.tensorrt import engines
from swiftdet.engines.tensorrt.cache import EngineCache
from swiftdet.engines.tensorrt.precision import to_half
from swiftdet.errors import BackendUnavailable, ModelError
from swiftdet.verification import half
from swiftdet.verification.rounding import rounded
from swiftdet.zoo import weights


def export(path, *, overflows=False):
    """A demo as another tool would export it; one that overflows multiplies its pixels by a million, and back."""
    proto = weights.find("demo-yolov7", None).build(imgsz=256, head="decoded")
    del proto.metadata_props[:]
    if overflows:
        name = proto.graph.input[0].name
        for node in proto.graph.node:
            node.input[:] = ["calmed" if read == name else read for read in node.input]
        names = [name, "a", "b", "c", "calmed"]
        for place, factor in enumerate((1e3, 1e3, 1e-3, 1e-3)):
            proto.graph.initializer.append(helper.make_tensor(f"factor{place}", TensorProto.FLOAT, [], [factor]))
            node = helper.make_node("Mul", [names[place], f"factor{place}"], [names[place + 1]], name=f"mul{place}")
            proto.graph.node.insert(place, node)
        onnx.checker.check_model(proto)
    onnx.save(proto, path)
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("half")
    return {name: export(folder / f"{name}.onnx", overflows=name == "overflows") for name in ("sound", "overflows")}


@pytest.fixture
def trt(monkeypatch):
    fake = FakeTensorRT("10.16.1.11")
    t4 = CudaDevice(0, "NVIDIA T4", (7, 5), 15 << 30)
    monkeypatch.setitem(sys.modules, "tensorrt", fake)
    monkeypatch.setattr(cuda_devices, "driver", lambda: CudaDriver((13, 0), "580.65.06", (t4,)))
    monkeypatch.setattr(cuda_devices, "current", lambda _index: contextlib.nullcontext())
    return fake


def test_a_rounded_graph_overflows_and_rounds_as_float16_does():
    """x * 1000 * 0.001, whose product is over the largest float16 from 65.5 on; what is below has 11 bits."""
    values = np.array([[0.1, 1.0, 65.0, 66.0, -70.0]], np.float32)
    nodes = [
        helper.make_node("Cast", ["x"], ["h"], to=TensorProto.FLOAT16),
        helper.make_node("Mul", ["h", "up"], ["large"]),
        helper.make_node("Mul", ["large", "down"], ["small"]),
        helper.make_node("Cast", ["small"], ["y"], to=TensorProto.FLOAT),
    ]
    factors = [helper.make_tensor(name, TensorProto.FLOAT16, [], [f]) for name, f in (("up", 1000), ("down", 0.001))]
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 5]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], factors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    with np.errstate(over="ignore"):
        expected = (values.astype(np.float16) * np.float16(1000) * np.float16(0.001)).astype(np.float32)
    assert np.isinf(expected).sum() == 2
    (answer,) = OnnxRuntimeEngine(rounded(model), optimized=False).run({"x": values})
    np.testing.assert_array_equal(answer, expected)


def test_a_sound_network_passes(files):
    loaded = models.load(files["sound"], family="yolov7")
    half.check(loaded, to_half(loaded.model))


def test_one_that_overflows_is_refused_with_the_broken_gates(files):
    loaded = models.load(files["overflows"], family="yolov7")
    with pytest.raises(ModelError, match=r"other answers than in float32: .*\(max_nonfinite\).*precision='fp32', or"):
        half.check(loaded, to_half(loaded.model))


def test_without_onnxruntime_it_says_what_to_install(files, monkeypatch):
    loaded = models.load(files["sound"], family="yolov7")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(BackendUnavailable, match="pip install"):
        half.check(loaded, to_half(loaded.model))


def test_the_check_comes_before_the_build_and_once(trt, files, tmp_path):
    loaded = models.load(files["sound"], family="yolov7")
    asked = []

    def check(model, graph):
        assert trt.builds == []
        asked.append((model, graph))

    for _ in range(2):
        options = engines.options_for(loaded)
        engines.cached(loaded, options, engines.target(), EngineCache(tmp_path), check_half=check)
    assert [model for model, _ in asked] == [loaded]
    engines.build(loaded, engines.options_for(loaded, precision="fp32"), engines.target(), check_half=check)
    ours = models.load("demo-yolov7", precision="fp16")
    engines.build(ours, engines.options_for(ours), engines.target(), check_half=check)
    assert len(asked) == 1  # neither float32 nor what is float16 already


def test_build_refuses_it_and_leaves_nothing(trt, files, tmp_path, capsys):
    target = tmp_path / "never.engine"
    command = ["build", str(files["overflows"]), "--family", "yolov7", "-o", str(target)]
    assert main(command) == 1
    assert "max_nonfinite" in capsys.readouterr().err
    assert (trt.builds, target.exists()) == ([], False)
    assert main([*command, "--unverified"]) == 0  # at one's own risk
    assert main([*command, "--precision", "fp32"]) == 0
    assert len(trt.builds) == 2
