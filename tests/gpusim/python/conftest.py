"""These tests run in a process of their own, on stand-ins: tests/python/test_gpu_stand_ins.py starts them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

import swiftdet
from stand_ins import BUILD_VARIABLE, Cuda, TensorRt, environment

if BUILD_VARIABLE not in os.environ or "libcudart" not in os.environ.get("LD_PRELOAD", ""):
    pytest.exit("run these through tests/python/test_gpu_stand_ins.py, which puts the stand-ins in place", 2)

BUILD = Path(os.environ[BUILD_VARIABLE])
# The compiled CUDA half of this build, as if it had been installed.
swiftdet.__path__.append(str(BUILD / "swiftdet"))
sys.path += [str(Path(__file__).parents[2] / folder) for folder in ("data", "python")]

import make_models  # noqa: E402 - found by the lines above

import plans  # noqa: E402 - needs the package
import real_inputs  # noqa: E402
from swiftdet.model import LoadedModel, load  # noqa: E402

SIZE = (64, 96)


def pytest_configure(config: pytest.Config) -> None:
    """Knows the marks of tests/python, whose references these tests borrow: pyproject.toml is not read here."""
    config.addinivalue_line("markers", "slow: larger counts, not run here")


@pytest.fixture(scope="session")
def tensorrt() -> TensorRt:
    return TensorRt(BUILD / "gpusim")


@pytest.fixture
def cuda() -> Iterator[Cuda]:
    """The stand-in runtime, without failures, and without anything left of the test at its end."""
    machine = Cuda()
    machine.heal()
    machine.fail(0, 0)
    machine.clear_log()
    before = machine.live()
    yield machine
    machine.heal()
    machine.fail(0, 0)
    assert sorted(machine.live()) == sorted(before), "the test left something on a device"


@pytest.fixture(scope="session")
def read_model(tmp_path_factory) -> Callable[..., LoadedModel]:
    """A tiny model of one of make_models.LAYOUTS, written and read."""
    folder = tmp_path_factory.mktemp("models")

    def read(layout: str, **options) -> LoadedModel:
        path = folder / f"{layout}-{abs(hash(tuple(sorted(options.items()))))}.onnx"
        size = (64, 128) if "w6" in layout else SIZE  # four levels: multiples of 64
        if not path.exists():
            onnx.save(make_models.build(layout, size=size, **options), path)
        return load(path, imgsz=size)

    return read


@pytest.fixture(scope="session")
def write_plan(tmp_path_factory) -> Callable[..., Path]:
    """The plan of a model with its manifest, in a folder of its own."""

    def write(loaded: LoadedModel, **options) -> Path:
        return plans.write_own(tmp_path_factory.mktemp("plan") / "tiny.engine", loaded, **options)

    return write


@pytest.fixture(scope="session")
def columns_plan(read_model, write_plan) -> Path:
    """A detector of Ultralytics' layout, one to eight images in a run."""
    return write_plan(read_model("ultralytics-columns"))


@pytest.fixture(scope="session")
def real_model() -> Path:
    """A YOLOv8s export, as in tests/python/conftest.py."""
    return real_inputs.fetch(real_inputs.FALL_DETECTOR) / "best_fp16.onnx"


@pytest.fixture(scope="session")
def photographs() -> list[Path]:
    """Two photographs with people."""
    folder = real_inputs.fetch(real_inputs.PHOTOGRAPHS)
    return [folder / "bus.jpg", folder / "zidane.jpg"]


@pytest.fixture
def in_new_process() -> Callable[..., tuple[int, str, str]]:
    """Runs a snippet on the stand-ins in a new process; `modules` is the folder of the CUDA half."""
    import subprocess

    def run(code: str, **variables: str) -> tuple[int, str, str]:
        eager = os.environ.get("GPUSIM_EAGER") == "1"
        prelude = f"import swiftdet; swiftdet.__path__.append({str(BUILD / 'swiftdet')!r})\n"
        done = subprocess.run(
            [sys.executable, "-c", prelude + code],
            env=environment(BUILD, eager=eager, **variables),
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    return run


def picture(height: int, width: int, seed: int = 0, channels: int = 3) -> np.ndarray:
    """Noise over smooth waves, uint8 [H, W, C]: no two places alike."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    waves = 90 * np.sin(y[..., None] / 9 + np.arange(channels)) + 60 * np.cos(x[..., None] / 7)
    return np.clip(128 + waves + rng.normal(0, 25, (height, width, channels)), 0, 255).astype(np.uint8)


def assert_same(a: swiftdet.Detections, b: swiftdet.Detections) -> None:
    """Bit for bit."""
    np.testing.assert_array_equal(a.xyxy, b.xyxy)
    np.testing.assert_array_equal(a.conf, b.conf)
    np.testing.assert_array_equal(a.cls, b.cls)
    assert a.truncated == b.truncated
