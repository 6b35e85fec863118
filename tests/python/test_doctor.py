import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest

from swiftdet import device_policy, doctor
from swiftdet.cli import main
from swiftdet.device_policy import Link
from swiftdet.errors import BackendUnavailable, InvalidArgument


class FakeRuntime:
    version = "2026.4.1"
    devices = ("CPU",)
    wrong = 0.0

    def compile(self, network):
        import onnx

        onnx.checker.check_model(onnx.load_from_string(network))
        return self

    def infer(self, source):
        return [np.maximum(source, 0) + np.float32(self.wrong)]


def test_every_documented_variable_is_known():
    text = (Path(__file__).parents[2] / "docs/environment.md").read_text()
    assert set(re.findall(r"^\| `(SWIFTDET_[A-Z_]+)`", text, re.MULTILINE)) == doctor._VARIABLES


def by_name(checks):
    return {check.name: check for check in checks}


@pytest.fixture
def healthy(monkeypatch):
    monkeypatch.setattr(doctor, "_openvino_runtime", FakeRuntime)
    monkeypatch.setattr(device_policy, "chain", lambda *_: [Link("driver", False, "no NVIDIA driver", missing=True)])
    monkeypatch.delenv("SWIFTDET_FORCE_ISA", raising=False)


@pytest.mark.usefixtures("healthy")
def test_healthy(capsys):
    checks = doctor.run_checks()
    assert {check.status for check in checks} == {"ok"}
    assert doctor.works(checks)
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "2026.4.1; devices: CPU" in out
    assert out.splitlines()[-1] == "detection on the CPU works"


@pytest.mark.usefixtures("healthy")
def test_json(capsys):
    assert main(["doctor", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document == {"ok": True, "checks": [dataclasses.asdict(check) for check in doctor.run_checks()]}


@pytest.mark.usefixtures("healthy")
def test_no_openvino(monkeypatch, capsys):
    def fail():
        raise BackendUnavailable("no libopenvino_c\nhere")

    monkeypatch.setattr(doctor, "_openvino_runtime", fail)
    checks = by_name(doctor.run_checks())
    for name in ("OpenVINO", "inference on the CPU"):
        assert checks[name].status == "fail"
        assert checks[name].detail == "no libopenvino_c here"
        assert "pip install" in checks[name].fix
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "fix: pip install --upgrade openvino" in out
    assert out.splitlines()[-1] == "detection on the CPU does not work"
    assert main(["doctor", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["ok"] is False


@pytest.mark.usefixtures("healthy")
def test_wrong_results(monkeypatch):
    monkeypatch.setattr(FakeRuntime, "wrong", 1e-6)
    assert by_name(doctor.run_checks())["inference on the CPU"].status == "fail"


@pytest.mark.usefixtures("healthy")
def test_forced_instruction_set(monkeypatch):
    monkeypatch.setenv("SWIFTDET_FORCE_ISA", "scalar")
    check = by_name(doctor.run_checks())["instruction set"]
    assert check.status == "warn"
    assert "unset" in check.fix
    assert by_name(doctor.run_checks())["environment"].detail.startswith("SWIFTDET_FORCE_ISA=scalar")


@pytest.mark.usefixtures("healthy")
def test_impossible_instruction_set(monkeypatch):
    def fail():
        raise InvalidArgument("SWIFTDET_FORCE_ISA=neon: this machine has scalar, avx2")

    monkeypatch.setattr(doctor, "_build_config", fail)
    checks = by_name(doctor.run_checks())
    assert checks["instruction set"].status == checks["swiftdet core"].status == "fail"


@pytest.mark.usefixtures("healthy")
def test_mixed_versions(monkeypatch):
    monkeypatch.setattr(
        doctor, "_build_config", lambda: {"version": "0.0.9", "compiler": "x", "active_isa": "a", "isas": ["a"]}
    )
    check = by_name(doctor.run_checks())["swiftdet core"]
    assert check.status == "warn"
    assert check.fix == "install swiftdet again"


@pytest.mark.usefixtures("healthy")
def test_a_machine_without_anything_of_nvidia_is_well():
    checks = by_name(doctor.run_checks())
    assert checks["GPU: driver"].detail == "no NVIDIA driver (needed for GPUs only)"
    assert checks["device auto"].detail == "cpu: no usable GPU: no NVIDIA driver"
    assert not any(check.fix for check in checks.values())


@pytest.mark.usefixtures("healthy")
def test_a_chain_that_is_broken_in_the_middle_is_told(monkeypatch, capsys):
    links = [
        Link("driver", True, "580.65, CUDA 13.0"),
        Link("device", True, "cuda:0 NVIDIA T4, sm_75, 14.6 GiB"),
        Link("CUDA part", False, "built without CUDA", "build it with CUDA", missing=True),
        Link("TensorRT", True, "10"),
    ]
    monkeypatch.setattr(device_policy, "chain", lambda *_: links)
    checks = by_name(doctor.run_checks())
    assert checks["GPU: device"].status == "ok"
    assert checks["GPU: CUDA part"].status == "warn"
    assert checks["GPU: CUDA part"].fix == "build it with CUDA"
    assert checks["device auto"].detail == "cpu: no usable GPU: built without CUDA"
    assert main(["doctor"]) == 0
    assert "fix: build it with CUDA" in capsys.readouterr().out


@pytest.mark.usefixtures("healthy")
def test_optional_packages(monkeypatch):
    monkeypatch.setattr(doctor, "_installed", {}.get)
    assert "pip install" in by_name(doctor.run_checks())["onnxruntime"].detail


def test_installed_does_not_import():
    import sys

    sys.modules.pop("tensorrt", None)
    assert doctor._installed("no_such_package_here") is None
    assert doctor._installed("numpy") == np.__version__
    assert doctor._installed("json") == "of unknown version"
