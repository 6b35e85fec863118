"""What made a measurement: software, machine, command line. With the subject, all that is needed to repeat it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from typing import Any

from swiftdet.measurements import host

_PACKAGES = ("numpy", "openvino", "onnx", "onnxruntime", "tensorrt", "pycocotools", "pillow", "av")


def collect(device: str = "cpu", *, seed: int | None = None) -> dict[str, Any]:
    """Versions, commit, machine, command line, and the environment variables that change what is measured.

    Args:
        device: "cpu" or "cuda:N", to describe the GPU too.
        seed: of whatever was random.
    """
    import swiftdet  # noqa: PLC0415 - the package itself, which is complete by now

    build = swiftdet.build_config()
    return {
        "swiftdet": swiftdet.__version__,
        "commit": build["commit"] or None,
        "build": build,
        "python": platform.python_version(),
        "packages": {name: version for name in _PACKAGES if (version := _version(name)) is not None},
        "host": host.describe(device),
        "command": list(sys.argv),
        "environment": {
            name: value for name, value in sorted(os.environ.items()) if name.startswith(("SWIFTDET_", "OMP_", "CUDA_"))
        },
        "seed": seed,
    }


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
