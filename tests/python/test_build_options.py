"""What CMake says when it is asked for a GPU part that it cannot build: each test only configures.

Needs CMake and Ninja; neither nvcc nor TensorRT is asked for, and where they are installed they are hidden.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import fetch_tensorrt_headers

ROOT = Path(__file__).parents[2]
NINJA, CMAKE = shutil.which("ninja"), shutil.which("cmake")
pytestmark = pytest.mark.skipif(not (CMAKE and NINJA), reason="no cmake and ninja in PATH")

HEADERS_ALONE = f"""
cmake_minimum_required(VERSION 3.25)
project(headers LANGUAGES NONE)
set(SWIFTDET_CUDA ON)
include({ROOT / "cmake/tensorrt_headers.cmake"})
message(STATUS "TensorRT: ${{SWIFTDET_TENSORRT}} ${{SWIFTDET_TENSORRT_VERSION}}")
"""
"""The part that looks for TensorRT, as if CUDA had been found. PROJECT_SOURCE_DIR holds a link to our tools."""


def hidden(program: str) -> list[str]:
    """Every folder in which `program` could be found, as it is named and as it is."""
    folders = [*os.environ["PATH"].split(os.pathsep), "/usr/local/cuda/bin", "/opt/cuda/bin"]
    found = [folder for folder in folders if (Path(folder) / program).exists()]
    return [*found, *(str(Path(folder).resolve()) for folder in found)]


def configure(source: Path, build: Path, *options: str, **variables: str) -> tuple[int, str]:
    """CMake's exit code and all that it says, in one line of single spaces."""
    environment = {name: value for name, value in os.environ.items() if name not in {"CUDACXX", "CUDA_PATH"}}
    done = subprocess.run(
        [
            CMAKE,
            "--no-warn-unused-cli",
            "-G",
            "Ninja",
            "-S",
            str(source),
            "-B",
            str(build),
            f"-DPython_EXECUTABLE={sys.executable}",
            *options,
        ],
        env={**environment, **variables},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    return done.returncode, " ".join((done.stdout + done.stderr).split())


# --- CUDA -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def without_nvcc(tmp_path):
    """Configures the whole project where no nvcc can be found."""
    ignored = f"-DCMAKE_IGNORE_PATH={';'.join(hidden('nvcc'))}"
    core = ("-DSWIFTDET_WITH_OPENVINO=OFF", "-DSWIFTDET_BUILD_PYTHON=OFF", ignored)
    return lambda *options, **variables: configure(ROOT, tmp_path / "build", *core, *options, **variables)


@pytest.fixture
def visible_gpu(tmp_path):
    """PATH with an nvidia-smi that shows a T4."""
    smi = tmp_path / "bin/nvidia-smi"
    smi.parent.mkdir()
    smi.write_text("#!/bin/sh\necho 7.5\n")
    smi.chmod(0o755)
    return f"{smi.parent}{os.pathsep}{os.environ['PATH']}"


def test_cuda_on_without_nvcc_is_an_error(without_nvcc):
    status, said = without_nvcc("-DSWIFTDET_WITH_CUDA=ON")
    assert status != 0
    assert "SWIFTDET_WITH_CUDA=ON, but no nvcc was found" in said
    assert "-DCUDAToolkit_ROOT=" in said


def test_cuda_auto_without_nvcc_warns_where_a_gpu_is_visible(without_nvcc, visible_gpu):
    status, said = without_nvcc(PATH=visible_gpu)
    assert status == 0, said
    assert "CMake Warning" in said
    assert "A GPU is visible, but no nvcc was found" in said
    assert 'Building WITHOUT CUDA: device="cuda" will not work.' in said


def test_cuda_auto_is_silent_where_no_gpu_is_visible(without_nvcc):
    status, said = without_nvcc(f"-DSWIFTDET_NVIDIA_SMI={shutil.which('false')}")
    assert status == 0, said
    assert "Warning" not in said
    assert "CUDA" not in said


def test_tensorrt_on_needs_cuda(without_nvcc):
    status, said = without_nvcc("-DSWIFTDET_WITH_CUDA=OFF", "-DSWIFTDET_WITH_TENSORRT=ON")
    assert status != 0
    assert "SWIFTDET_WITH_TENSORRT=ON needs CUDA" in said


# --- TensorRT's headers ---------------------------------------------------------------------------------------------


@pytest.fixture
def headers_alone(tmp_path):
    """Configures what looks for TensorRT's headers; those of the system are not seen."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "CMakeLists.txt").write_text(HEADERS_ALONE)
    (source / "tools").symlink_to(ROOT / "tools")
    system = ["/usr/include", "/usr/include/x86_64-linux-gnu", "/usr/include/aarch64-linux-gnu"]
    installed = [f"{folder}/include" for folder in ("/usr/local/tensorrt", "/opt/tensorrt", "/usr/src/tensorrt")]
    ignored = f"-DCMAKE_IGNORE_PATH={';'.join(system + installed)}"
    environment = {"TensorRT_ROOT": "", "TENSORRT_ROOT": ""}
    return lambda *options, **variables: configure(
        source, tmp_path / "build", ignored, *options, **{**environment, **variables}
    )


def write_headers(folder: Path, version: str) -> Path:
    """The two headers that the build looks at."""
    folder.mkdir(parents=True)
    (folder / "NvInferRuntime.h").touch()
    parts = zip(("MAJOR", "MINOR", "PATCH"), version.split("."), strict=True)
    (folder / "NvInferVersion.h").write_text(
        "".join(f"#define NV_TENSORRT_{name} {number}\n" for name, number in parts)
    )
    return folder


def test_tensorrt_on_without_headers_is_an_error(headers_alone):
    status, said = headers_alone("-DSWIFTDET_WITH_TENSORRT=ON")
    assert status != 0
    assert "TensorRT's headers (NvInferRuntime.h) were not found" in said
    assert "-DSWIFTDET_FETCH_TENSORRT_HEADERS=ON" in said


def test_tensorrt_auto_without_headers_warns(headers_alone):
    status, said = headers_alone()
    assert status == 0, said
    assert "CMake Warning" in said
    assert 'Building WITHOUT TensorRT: device="cuda" will not work.' in said
    assert "TensorRT: OFF" in said


@pytest.mark.parametrize("way", ["option", "variable"])
def test_tensorrt_root_is_where_the_headers_are(headers_alone, tmp_path, way):
    root = write_headers(tmp_path / "TensorRT/include", "10.9.0").parent
    where = ([f"-DTensorRT_ROOT={root}"], {}) if way == "option" else ([], {"TensorRT_ROOT": str(root)})
    status, said = headers_alone("-DSWIFTDET_WITH_TENSORRT=ON", *where[0], **where[1])
    assert status == 0, said
    assert f"TensorRT headers 10.9.0 in {root}/include" in said
    assert "TensorRT: ON 10.9.0" in said


def test_headers_that_are_too_old_are_refused(headers_alone, tmp_path):
    root = write_headers(tmp_path / "TensorRT/include", "8.6.1").parent
    status, said = headers_alone(f"-DTensorRT_ROOT={root}")
    assert status != 0
    assert "TensorRT 10 or newer is needed" in said


def test_nothing_is_fetched_unasked_and_a_failure_is_told(headers_alone):
    offline = {"PIP_NO_INDEX": "1"}
    assert "could not be fetched" not in headers_alone(**offline)[1]
    status, said = headers_alone("-DSWIFTDET_FETCH_TENSORRT_HEADERS=ON", "-DSWIFTDET_WITH_TENSORRT=ON", **offline)
    assert status != 0
    assert "TensorRT's headers could not be fetched: pip could not download" in said


@pytest.fixture
def forged(tmp_path):
    """Environment in which pip finds a wheel of the right name, its headers not the ones expected."""
    name, version = fetch_tensorrt_headers.REQUIREMENT.replace("-", "_").split("==")
    info = f"{name}-{version}.dist-info"
    folder = tmp_path / "wheels"
    folder.mkdir()
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        for header in fetch_tensorrt_headers.SHA256:
            wheel.writestr(fetch_tensorrt_headers.FOLDER + header, "#error forged\n")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder)}


def test_headers_with_another_checksum_are_refused(headers_alone, forged, tmp_path):
    status, said = headers_alone("-DSWIFTDET_FETCH_TENSORRT_HEADERS=ON", "-DSWIFTDET_WITH_TENSORRT=ON", **forged)
    assert status != 0
    assert "NvInferImpl.h has SHA-256" in said
    assert f"expected {fetch_tensorrt_headers.SHA256['NvInferImpl.h']}" in said
    assert list((tmp_path / "build/tensorrt_headers").glob("*.h")) == []
