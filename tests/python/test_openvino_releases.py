"""One build works with several OpenVINO releases: the same checks, in a process for each."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from swiftdet.engines import openvino

CHECK = """
import sys
import numpy as np
from engine_models import DYNAMIC, STATIC, conv_model, images, make_model, reference
from onnx import TensorProto, helper
from swiftdet.engines import openvino

runtime = openvino.runtime()
best = helper.make_node("ArgMax", ["images"], ["best"], axis=1)
integer = make_model([best], [("best", TensorProto.INT64)])
alias = make_model(
    [helper.make_node("Relu", ["images"], ["inner"]), helper.make_node("Identity", ["inner"], ["z_last"])],
    ["z_last", "inner"],
)
passed = make_model([helper.make_node("Identity", ["images"], ["same"])], ["same"])
for model, tolerance in [
    (conv_model(), 1e-5),
    (conv_model(DYNAMIC), 1e-5),
    (conv_model(dtype=np.float16), 5e-3),
    (integer, 0),
    (alias, 0),
    (passed, 0),
]:
    for performance in ("latency", "throughput"):
        backend = runtime.compile(model, performance=performance)
        assert runtime.inspect(model)[1] == backend.outputs
        session = backend.create_session(STATIC)
        previous = None
        for seed in range(3):  # other results each time: the tensor that we fill is the one that is read
            session.input[...] = images(seed=seed)
            session.infer()
            np.testing.assert_array_equal(session.input, images(seed=seed))
            got = [output.copy() for output in session.outputs()]
            want = reference(model, images(seed=seed))
            assert len(got) == len(want)
            for g, w in zip(got, want, strict=True):
                np.testing.assert_allclose(g, w.astype(np.float32), rtol=tolerance, atol=tolerance)
            assert previous is None or any((g != p).any() for g, p in zip(got, previous, strict=True))
            previous = got
assert [name for name, _ in runtime.inspect(alias)[1]] == ["z_last", "inner"]
assert not any(m.split(".")[0] == "openvino" for m in sys.modules)
print(runtime.version)
"""


def run_check(library: Path) -> str:
    """Runs CHECK with the OpenVINO in `library`; its version."""
    environment = {
        **os.environ,
        openvino.LIBRARY_VARIABLE: str(library),
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]),
    }
    done = subprocess.run(
        [sys.executable, "-c", CHECK],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_the_installed_release():
    assert run_check(openvino.library_dir()).startswith("20")


@pytest.mark.timeout(900)
def test_the_oldest_supported_release(older_openvino):
    assert run_check(older_openvino).startswith("2025.0")
