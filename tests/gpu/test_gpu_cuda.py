"""The kernels and the captured pipeline on a real GPU: the programs that the CMake preset gpu-host builds.

`tools/gpu_host.sh` builds and runs them. Needs pytest and the standard library alone.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.gpu_cuda

SKIPPED = 77  # what the programs end with where there is no GPU
REQUIRED = "SWIFTDET_REQUIRE_GPU" in os.environ


def missing(why):
    """Skips, or fails where a GPU is promised."""
    (pytest.fail if REQUIRED else pytest.skip)(why)


@pytest.fixture(scope="module")
def build():
    folder = os.environ.get("SWIFTDET_GPU_BUILD")
    if folder is None:
        missing("SWIFTDET_GPU_BUILD does not name a build of the preset gpu-host: run tools/gpu_host.sh on a GPU host")
    return Path(folder)


def run(command, timeout=240):
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    if done.returncode == SKIPPED:
        missing(done.stdout.strip())
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-4000:]
    return done.stdout


@pytest.mark.parametrize("program", ["gpu_letterbox", "gpu_decode", "gpu_one_shot"])
def test_kernels_equal_the_cpu_bit_for_bit(build, program):
    run([build / "tests/gpu" / program])


def test_the_whole_pipeline_equals_the_cpu_and_is_captured(build):
    table = run([build / "benchmarks/gpu/gpu_benchmark", "--check"])
    assert table.count(" yes\n") == len([line for line in table.splitlines() if line.endswith((" yes", " NO"))]) > 10
    assert "not captured" not in table


@pytest.mark.parametrize("tool", ["memcheck", "racecheck"])
def test_compute_sanitizer_finds_nothing(build, tool):
    places = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/cuda/bin"])
    sanitizer = shutil.which("compute-sanitizer", path=places)
    if sanitizer is None:
        pytest.skip("compute-sanitizer is not installed (it is part of NVIDIA's CUDA toolkit)")
    command = [sanitizer, "--tool", tool, "--error-exitcode", "9", build / "benchmarks/gpu/gpu_benchmark", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    words = done.stdout + done.stderr
    if "Device not supported" in words:
        pytest.skip(f"{tool} cannot watch this GPU here, as in some containers: Device not supported")
    if done.returncode == SKIPPED:
        missing(done.stdout.strip())
    assert done.returncode == 0, words[-8000:]
    assert " yes\n" in words
