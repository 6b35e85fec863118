"""Benchmarks on the stand-in runtime: the one of GPU hosts, as nvcc compiles it, by its answers; times mean nothing."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

import swiftdet
from conftest import BUILD, picture
from stand_ins import environment
from swiftdet import cuda_devices

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
    assert {name: rows.count(name) for name in rows} == {"letterbox": 3, "decode": 2, "nms": 3, "call": 4, "of": 14}
    assert "not captured" not in done.stdout


def test_the_latency_script_prints_a_row_for_an_engine(columns_plan, in_new_process, tmp_path):
    script = Path(__file__).parents[3] / "benchmarks/gpu/latency.py"
    arguments = [str(columns_plan), "--batch", "2", "--calls", "3", "--warmup", "1", "-o", str(tmp_path / "rows.json")]
    status, out, err = in_new_process(
        f"import runpy, sys\nsys.argv = {['latency.py', *arguments]!r}\n"
        f"runpy.run_path({str(script)!r}, run_name='__main__')\n"
    )
    assert (status, err) == (0, "")
    assert "TensorRT 10.14.1, Simulated GPU 0" in out
    (row,) = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert row["captured"]
    assert row["batch"] == 2
    assert 0 < row["call_ms_p50"] <= row["call_ms_p90"] <= row["call_ms_p99"]
    assert row["network_ms_p50"] > 0


@pytest.mark.parametrize("timed", [True, False])
def test_a_benchmark_tells_the_stages_of_a_gpu(columns_plan, monkeypatch, timed):
    """Through the real pipeline, so that its names of stages are those that are expected; no driver is played here."""
    monkeypatch.setattr(cuda_devices, "describe", lambda index: {"name": f"GPU {index}"})
    document = swiftdet.benchmark(
        columns_plan,
        device="cuda",
        images=[picture(33, 200), picture(97, 41)],
        batch=[1, 3],
        threads=2,
        rate_hz=50,
        duration_s=0.2,
        warmup_s=0.01,
        timed=timed,
        cold_start="this",
    )
    assert document["subject"]["device"] == "cuda:0"
    assert document["provenance"]["host"]["gpu"] == {"name": "GPU 0"}
    assert len(document["measured"]["runs"]) == 4
    apart = {"preprocess", "copy_in", "inference", "postprocess", "copy_out", "python"}
    for run in document["measured"]["runs"]:
        assert run["timed"] is timed
        assert set(run["stages"]) == (apart if timed else {"device", "python"})
        late = run["late"]["mean"] if run["late"] else 0.0
        means = {name: stats["mean"] for name, stats in run["stages"].items()}
        assert sum(means.values()) + late == pytest.approx(run["total"]["mean"], rel=0.02)
        assert all(means[name] > 0 for name in means if name != "python")
