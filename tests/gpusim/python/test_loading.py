"""From a plan on disk to an engine: what is accepted, what refused, and what is checked before TensorRT is called."""

from __future__ import annotations

import pytest
from make_models import ultralytics_metadata

import plans
import swiftdet
from conftest import assert_same, picture
from stand_ins import INSUFFICIENT_DRIVER, NO_DEVICE
from swiftdet.errors import ModelError

OPEN = """
try:
    swiftdet.Detector({path!r}, device="cuda", trust_plan=True)
except swiftdet.SwiftdetError as e:
    print(type(e).__name__, e)
"""


def test_a_plan_of_ultralytics_needs_trust_and_brings_its_description(cuda, read_model, tmp_path):
    loaded = read_model("ultralytics-columns")
    header = {**ultralytics_metadata(["a", "b", "c"]), "imgsz": [64, 96], "batch": 1}
    path = plans.write_ultralytics(tmp_path / "tiny.engine", loaded, header)
    with pytest.raises(ModelError, match="trust_plan=True"):
        swiftdet.Detector(path, device="cuda")
    with (
        swiftdet.Detector(loaded.path, device="cpu") as cpu,
        swiftdet.Detector(path, device="cuda", trust_plan=True) as gpu,
    ):
        assert list(gpu.names.values()) == ["a", "b", "c"]
        assert_same(gpu(picture(50, 70), conf=0.05), cpu(picture(50, 70), conf=0.05))
        assert "TensorRT 10.14.1" in gpu.provenance["engine"]


def test_a_changed_plan_is_refused_before_tensorrt_sees_it(cuda, tensorrt, read_model, write_plan):
    path = write_plan(read_model("ultralytics-columns"))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    tensorrt.fail(0)
    with pytest.raises(ModelError, match="SHA-256"):
        swiftdet.Detector(path, device="cuda")
    assert tensorrt.calls() == 0


@pytest.mark.parametrize("content", [b"no plan at all", b"gpusim-plan-1\nonnx 12\nshort", b"\0" * 64])
def test_what_is_no_plan_is_a_model_error_in_tensorrts_words(cuda, tmp_path, content):
    path = tmp_path / "bad.plan"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="deserializeCudaEngine"):
        swiftdet.Detector(path, device="cuda", trust_plan=True)


def test_another_major_release_is_refused_before_it_is_called(in_new_process, columns_plan):
    # The stand-in ends the process in createInferRuntime, as the real library was seen to do.
    status, out, err = in_new_process(OPEN.format(path=str(columns_plan)), GPUSIM_TRT_VERSION="110400")
    assert (status, err) == (0, "")
    assert out.startswith("BackendUnavailable")
    assert "11.4.0" in out
    assert "10" in out


@pytest.mark.parametrize(("code", "words"), [(INSUFFICIENT_DRIVER, "driver"), (NO_DEVICE, "driver")])
def test_without_a_device_tensorrt_is_not_called(in_new_process, columns_plan, code, words):
    # createInferRuntime would return a pointer that is neither null nor an object.
    status, out, err = in_new_process(OPEN.format(path=str(columns_plan)), GPUSIM_NO_DEVICE=str(code))
    assert (status, err) == (0, "")
    assert out.startswith("BackendUnavailable")
    assert words in out
    assert "createInferRuntime" not in out


def test_a_library_that_does_not_load(in_new_process, columns_plan, tmp_path):
    (tmp_path / "libnvinfer.so.10").write_bytes(b"not a library")
    status, out, err = in_new_process(OPEN.format(path=str(columns_plan)), SWIFTDET_TENSORRT_LIB=str(tmp_path))
    assert (status, err) == (0, "")
    assert out.startswith("BackendUnavailable")
    assert "pip install" in out


def test_importing_the_package_touches_no_cuda(in_new_process):
    status, out, err = in_new_process(
        "import ctypes, swiftdet.cli, swiftdet.doctor\n"
        "runtime = ctypes.CDLL(None); runtime.gpusim_calls.restype = ctypes.c_long\n"
        "print(runtime.gpusim_calls(), 'libnvinfer' in open('/proc/self/maps').read())\n"
    )
    assert (status, out.split(), err) == (0, ["0", "False"], "")
