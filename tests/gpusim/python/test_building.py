"""From a model to boxes on a GPU, with nothing made in advance: the engine is built, kept, found again, and run.

The driver is a compiled stand-in, the builder a fake package; everything between them is the product.
"""

from __future__ import annotations

import ctypes
import importlib
import shutil
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from make_models import ultralytics_metadata

import plan_builder
import swiftdet
import test_half_check
from conftest import assert_same, picture
from swiftdet import cuda_devices
from swiftdet.cli import main
from swiftdet.engines.tensorrt.cache import EngineCache
from swiftdet.errors import BackendError, InvalidArgument, ModelError
from swiftdet.model import load

DEMO = "demo-yolov7"
PICTURES = sorted((Path(swiftdet.__file__).parent / "demo/val").glob("*.jpg"))[:4]
GPUS = ",".join(f"Simulated GPU {index}/8/6/16384" for index in range(2))  # those of the stand-in runtime


@pytest.fixture(scope="module")
def driver_library(tmp_path_factory):
    """The driver's library, as tests/python compiles it."""
    path = tmp_path_factory.mktemp("driver") / "libcuda.so.1"
    source = Path(__file__).parents[2] / "python/fake_cuda_driver.cpp"
    compiler = shutil.which("g++")
    assert compiler, "g++ built what these tests run on"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(path), str(source)], check=True)
    return path


@pytest.fixture
def builder(cuda, driver_library, tmp_path, monkeypatch):
    """The package `tensorrt`; `builds` has a record for each engine."""
    monkeypatch.setattr(cuda_devices, "_LIBRARY", str(driver_library))
    monkeypatch.setenv("FAKE_GPUS", GPUS)
    plan_builder.install(tmp_path / "site")
    monkeypatch.syspath_prepend(tmp_path / "site")
    importlib.invalidate_caches()
    yield importlib.import_module("tensorrt")
    del sys.modules["tensorrt"]


@pytest.fixture(scope="module")
def expected():
    with swiftdet.Detector(DEMO, device="cpu") as cpu:
        boxes = cpu(PICTURES)
    assert sum(map(len, boxes)) >= 4
    return boxes


def assert_all_same(results, expected):
    for result, wanted in zip(results, expected, strict=True):
        assert_same(result, wanted)


def test_an_engine_is_built_kept_and_found_again(builder, tmp_path, expected):
    options = {"device": "cuda:0", "precision": "fp32", "cache_dir": tmp_path / "cache"}
    for opened in range(2):
        with swiftdet.Detector(DEMO, **options) as gpu:
            assert gpu.device == "cuda:0"
            assert (gpu.provenance["precision"], gpu.provenance["graph_sha256"] is None) == ("fp32", False)
            assert_all_same(gpu(PICTURES), expected)
            digest = gpu.provenance["engine_sha256"]
        assert len(builder.builds) == 1, f"after opening it {opened + 1} times"
    (entry,) = EngineCache(tmp_path / "cache").verify()
    assert (entry.problem, entry.manifest.sm, entry.manifest.gpu) == ("", "sm_86", "Simulated GPU 0")
    assert (entry.manifest.tensorrt, entry.manifest.plan_sha256) == (plan_builder.VERSION, digest)
    assert entry.manifest.shapes == ((1, 3, 256, 256), (1, 3, 256, 256), (8, 3, 256, 256))


def test_auto_takes_the_gpu_when_everything_is_there(builder, tmp_path, expected):
    with swiftdet.Detector(DEMO, precision="fp32", cache_dir=tmp_path / "cache") as gpu:
        assert gpu.device == "cuda:0"
        assert gpu.provenance["device_reason"] == "everything that a GPU needs is there"
        assert_all_same(gpu(PICTURES), expected)


def test_half_precision_is_the_default_and_another_engine(builder, tmp_path):
    half = tmp_path / "half.onnx"
    half.write_bytes(load(DEMO, precision="fp16").model)
    with (
        swiftdet.Detector(half, device="cpu") as cpu,
        swiftdet.Detector(DEMO, device="cuda", cache_dir=tmp_path / "cache") as gpu,
    ):
        assert gpu.provenance["precision"] == "fp16"
        assert_all_same(gpu(PICTURES), cpu(PICTURES))
    swiftdet.Detector(DEMO, device="cuda", precision="fp32", cache_dir=tmp_path / "cache").close()
    assert len(builder.builds) == 2
    assert len(EngineCache(tmp_path / "cache").entries()) == 2


def test_an_engine_is_built_on_the_gpu_that_it_is_for(builder, driver_library, tmp_path, expected, monkeypatch):
    driver, seen = ctypes.CDLL(str(driver_library)), []
    driver.fake_current.restype = ctypes.c_size_t
    build = type(builder)._build
    monkeypatch.setattr(
        type(builder), "_build", lambda *args: [seen.append(driver.fake_current()), build(*args)][1], raising=True
    )
    with swiftdet.Detector(DEMO, device="cuda:1", precision="fp32", cache_dir=tmp_path / "cache") as gpu:
        assert gpu.device == "cuda:1"
        assert_all_same(gpu(PICTURES), expected)
    assert [context - 0x1000000000 - 70 for context in seen] == [1]
    assert (driver.fake_current(), driver.fake_retained()) == (0, 0)


def test_a_damaged_engine_is_built_again(builder, tmp_path, expected, caplog):
    options = {"device": "cuda", "precision": "fp32", "cache_dir": tmp_path / "cache"}
    swiftdet.Detector(DEMO, **options).close()
    (entry,) = EngineCache(tmp_path / "cache").entries()
    entry.path.write_bytes(entry.path.read_bytes()[:-1] + b"\0")
    with swiftdet.Detector(DEMO, **options) as gpu:
        assert_all_same(gpu(PICTURES), expected)
    assert len(builder.builds) == 2
    assert "it is built again" in caplog.text


def test_a_builder_that_refuses_leaves_nothing(builder, tmp_path, expected):
    options = {"device": "cuda", "precision": "fp32", "cache_dir": tmp_path / "cache"}
    builder.fails = "Could not find any implementation for node {ForeignNode}"
    with pytest.raises(BackendError, match="Could not find any implementation"):
        swiftdet.Detector(DEMO, **options)
    assert EngineCache(tmp_path / "cache").entries() == []
    builder.fails = ""
    with swiftdet.Detector(DEMO, **options) as gpu:
        assert_all_same(gpu(PICTURES), expected)


def test_every_size_has_an_engine_of_its_own(builder, tmp_path):
    options = {"precision": "fp32", "cache_dir": tmp_path / "cache"}
    for side in (256, 320):
        with (
            swiftdet.Detector(DEMO, device="cpu", imgsz=side) as cpu,
            swiftdet.Detector(DEMO, device="cuda", imgsz=side, **options) as gpu,
        ):
            assert_all_same(gpu(PICTURES), cpu(PICTURES))
            with pytest.raises(InvalidArgument, match=f"fixed at {side}x{side}"):
                gpu(PICTURES[0], imgsz=128)
    assert len(builder.builds) == 2


def test_swiftdet_build_makes_an_engine_for_a_range_of_sizes(builder, tmp_path, capsys):
    path = tmp_path / "demo.engine"
    arguments = ["build", DEMO, "--precision", "fp32", "--min-imgsz", "192x256", "--max-imgsz", "384", "-o", str(path)]
    assert main(arguments) == 0
    assert "192x256 to 384x384, best at 256x256" in capsys.readouterr().out
    with swiftdet.Detector(path, device="cuda") as gpu:
        for size in ((256, 256), (192, 256), (384, 384)):
            with swiftdet.Detector(DEMO, device="cpu", imgsz=size) as cpu:
                assert_all_same(gpu(PICTURES, imgsz=size), cpu(PICTURES))
        with pytest.raises(InvalidArgument, match="built for 192x256 to 384x384, got 416x416"):
            gpu(PICTURES[0], imgsz=416)


def test_a_foreign_export_that_float16_spoils_is_refused(builder, tmp_path):
    path = test_half_check.export(tmp_path / "export.onnx", overflows=True)
    options = {"family": "yolov7", "device": "cuda", "cache_dir": tmp_path / "cache"}
    with pytest.raises(ModelError, match=r"other answers than in float32: .*max_nonfinite"):
        swiftdet.Detector(path, **options)
    assert builder.builds == []
    assert EngineCache(tmp_path / "cache").entries() == []
    swiftdet.Detector(path, **options, precision="fp32").close()
    assert len(builder.builds) == 1


def test_a_foreign_export_is_built_too(builder, read_model, tmp_path):
    proto = onnx.load(read_model("ultralytics-columns").path)
    onnx.helper.set_model_props(
        proto, {key: str(value) for key, value in ultralytics_metadata(["a", "b", "c"]).items()}
    )
    onnx.save(proto, tmp_path / "export.onnx")
    with (
        swiftdet.Detector(tmp_path / "export.onnx", device="cpu", conf=0.05) as cpu,
        swiftdet.Detector(
            tmp_path / "export.onnx", device="cuda", precision="fp32", conf=0.05, cache_dir=tmp_path / "cache"
        ) as gpu,
    ):
        image = picture(90, 130)
        assert_same(gpu(image), cpu(image))
        assert list(gpu.names.values()) == ["a", "b", "c"]
