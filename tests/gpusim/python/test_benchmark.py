"""The benchmark of GPU hosts as nvcc compiles it: its answers, here on the stand-in runtime; its times mean nothing."""

from __future__ import annotations

import os
import subprocess

import pytest

from conftest import BUILD
from stand_ins import environment

PROGRAM = BUILD / "benchmarks/gpu/gpu_benchmark"


def test_every_kernel_and_the_captured_pipeline_equal_the_cpu():
    if not PROGRAM.exists():
        pytest.skip("this build has no gpu_benchmark")
    twins = str(BUILD / "gpusim/libgpusim_bench_twins.so")
    eager = os.environ.get("GPUSIM_EAGER") == "1"
    done = subprocess.run(
        [PROGRAM, "--check"],
        env=environment(BUILD, eager=eager, GPUSIM_TWINS=twins),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    rows = [line.split()[0] for line in done.stdout.splitlines() if line.endswith(" yes")]
    assert {name: rows.count(name) for name in rows} == {"letterbox": 3, "decode": 2, "nms": 3, "call": 2, "of": 6}
    assert "not captured" not in done.stdout
