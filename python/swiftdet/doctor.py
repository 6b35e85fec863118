"""Checks whether this machine can run swiftdet, and says how to mend what is missing."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from swiftdet.errors import BackendUnavailable, InvalidArgument, SwiftdetError

Status = Literal["ok", "warn", "fail"]


# Those of docs/environment.md: the tests' too, which a developer may have set.
_VARIABLES = {
    "SWIFTDET_BENCH_VENV",
    "SWIFTDET_CACHE_DIR",
    "SWIFTDET_FORCE_ISA",
    "SWIFTDET_FUZZ_SECONDS",
    "SWIFTDET_GPUSIM_BUILD",
    "SWIFTDET_GPU_BUILD",
    "SWIFTDET_LEAK_CYCLES",
    "SWIFTDET_OPENVINO_LIB",
    "SWIFTDET_REQUIRE_GPU",
    "SWIFTDET_REQUIRE_NVCC",
    "SWIFTDET_SHARING_CALLS",
    "SWIFTDET_TENSORRT_LIB",
    "SWIFTDET_TEST_CACHE",
    "SWIFTDET_TEST_VIDEO_CASES",
    "SWIFTDET_TORCHVISION_PYTHON",
    "SWIFTDET_TORCH_PYTHON",
}


@dataclass(frozen=True)
class Check:
    """One finding.

    Attributes:
        name: what was looked at.
        status: "ok"; "warn": something optional is broken or half there; "fail": the CPU backend does not work.
        detail: what was found.
        fix: what to do about it; empty when there is nothing to do.
    """

    name: str
    status: Status
    detail: str
    fix: str = ""


def run_checks() -> list[Check]:
    """Every check, in the order of a report. Raises nothing: what goes wrong is a finding.

    Runs a network of one layer on the CPU; imports neither OpenVINO's Python package nor onnxruntime nor TensorRT.
    """
    checks: tuple[Callable[[], Check], ...] = (
        check_python,
        check_core,
        check_instruction_set,
        check_openvino,
        check_inference,
        check_onnxruntime,
    )
    return [*(check() for check in checks), *check_gpu(), check_environment()]


def works(checks: list[Check]) -> bool:
    """True when the CPU backend does: nothing failed."""
    return all(check.status != "fail" for check in checks)


def host() -> str:
    """System, release and processor family. Python's own `platform.platform()` runs a program to find them out."""
    return f"{platform.system()}-{platform.release()}-{platform.machine()}"


def check_python() -> Check:
    """Python and the packages that swiftdet computes with."""
    packages = ", ".join(f"{name} {_version(name)}" for name in ("numpy", "pillow", "onnx"))
    return Check("Python", "ok", f"{platform.python_version()} on {host()}; {packages}")


def check_core() -> Check:
    """The compiled core and the package around it are of one version."""
    try:
        config = _build_config()
        installed = importlib.metadata.version("swiftdet")
    except InvalidArgument as e:  # the variable is wrong, not the installation
        return Check("swiftdet core", "fail", _words(e), "unset SWIFTDET_FORCE_ISA")
    except (ImportError, SwiftdetError) as e:
        return Check("swiftdet core", "fail", _words(e), "install swiftdet again")
    detail = f"{config['version']}, compiler {config['compiler']}"
    if config["version"] != installed:
        return Check(
            "swiftdet core",
            "warn",
            f"{detail}; but the installed package is {installed}",
            "install swiftdet again",
        )
    return Check("swiftdet core", "ok", detail)


def check_instruction_set() -> Check:
    """Which body of the vectorised code runs here."""
    forced = os.environ.get("SWIFTDET_FORCE_ISA")
    try:
        config = _build_config()
    except (ImportError, SwiftdetError) as e:
        return Check("instruction set", "fail", _words(e), "unset SWIFTDET_FORCE_ISA" if forced else "")
    detail = f"{config['active_isa']} of {', '.join(config['isas'])}"
    if forced:
        return Check(
            "instruction set",
            "warn",
            f"{detail}; forced by SWIFTDET_FORCE_ISA={forced}",
            "unset SWIFTDET_FORCE_ISA for full speed",
        )
    return Check("instruction set", "ok", detail)


def check_openvino() -> Check:
    """The library that runs networks on the CPU loads."""
    try:
        runtime = _openvino_runtime()
        detail = f"{runtime.version}; devices: {', '.join(runtime.devices)}"
    except (ImportError, AttributeError, SwiftdetError) as e:
        return Check("OpenVINO", "fail", _words(e), _openvino_fix())
    return Check("OpenVINO", "ok", detail)


def check_inference() -> Check:
    """A network of one layer runs on the CPU and its result is right."""
    try:
        source = np.linspace(-1.0, 1.0, 3 * 8 * 8, dtype=np.float32).reshape(1, 3, 8, 8)
        (result,) = _openvino_runtime().compile(_tiny_network()).infer(source)
    except (ImportError, AttributeError, SwiftdetError) as e:
        return Check("inference on the CPU", "fail", _words(e), _openvino_fix())
    if not np.array_equal(np.asarray(result), np.maximum(source, 0.0)):
        return Check(
            "inference on the CPU",
            "fail",
            "a network of one layer gives a wrong result",
            _openvino_fix(),
        )
    return Check("inference on the CPU", "ok", "a network of one layer gives the right result")


def check_onnxruntime() -> Check:
    """The optional second engine is installed; it is not loaded."""
    found = _installed("onnxruntime")
    if found is None:
        return Check("onnxruntime", "ok", "not installed (optional; pip install 'swiftdet[onnxruntime]')")
    return Check("onnxruntime", "ok", found)


def check_gpu() -> list[Check]:
    """What a GPU needs, link by link, and what `device="auto"` makes of it."""
    try:
        from swiftdet import device_policy  # noqa: PLC0415 - needs the core, whose import may fail
    except ImportError as e:
        return [Check("GPU", "warn", _words(e), "install swiftdet again")]
    links = device_policy.chain()
    # Where nothing of NVIDIA's is there, nobody wants a GPU; a chain that is broken in its middle deserves a word.
    wanted = any(link.ok and link.name in {"driver", "device"} for link in links)
    checks = []
    for link in links:
        broken = not link.ok and (wanted or not link.missing)
        detail = link.detail if link.ok or broken else f"{link.detail} (needed for GPUs only)"
        checks.append(Check(f"GPU: {link.name}", "warn" if broken else "ok", detail, link.fix if broken else ""))
    choice = device_policy.choose("auto")
    checks.append(Check("device auto", "ok", f"{choice.name}: {choice.reason}"))
    return checks


def check_environment() -> Check:
    """The variables that change what swiftdet does."""
    found = {name: value for name, value in sorted(os.environ.items()) if name.startswith("SWIFTDET_")}
    if not found:
        return Check("environment", "ok", "no SWIFTDET_ variable is set")
    detail = ", ".join(f"{name}={value}" for name, value in found.items())
    unknown = [name for name in found if name not in _VARIABLES]
    if unknown:
        return Check("environment", "warn", detail, f"swiftdet does not read {', '.join(unknown)}; unset or correct it")
    return Check("environment", "ok", detail)


def _openvino_fix() -> str:
    chosen = "SWIFTDET_OPENVINO_LIB" in os.environ
    return "correct or unset SWIFTDET_OPENVINO_LIB" if chosen else "pip install --upgrade openvino"


def _build_config() -> dict[str, Any]:
    from swiftdet import _core  # noqa: PLC0415 - an import that fails is a finding

    return dict(_core.build_config())


def _openvino_runtime() -> Any:
    from swiftdet.engines import openvino  # noqa: PLC0415 - as above

    return openvino.runtime()


def _tiny_network() -> bytes:
    from onnx import TensorProto, helper  # noqa: PLC0415 - slow to import, needed by one check

    shape = [1, 3, 8, 8]
    graph = helper.make_graph(
        [helper.make_node("Relu", ["images"], ["output"])],
        "doctor",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def _installed(package: str) -> str | None:
    """The version of an installed package, found without importing it."""
    return None if importlib.util.find_spec(package) is None else _version(package)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "of unknown version"  # under another distribution's name, such as onnxruntime-gpu


def _words(error: Exception) -> str:
    if isinstance(error, AttributeError):
        return f"this build has no OpenVINO backend ({error})"
    text = " ".join(str(error).split())
    return text if isinstance(error, BackendUnavailable) else f"{type(error).__name__}: {text}"
