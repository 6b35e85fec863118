"""Finding OpenVINO: the library inside the installed wheel, without importing the package."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from swiftdet import _core
from swiftdet.errors import BackendUnavailable

LIBRARY_VARIABLE = "SWIFTDET_OPENVINO_LIB"
"""Environment variable: a folder with another OpenVINO's `libopenvino_c`, used instead of the wheel's."""

_INSTALL = "install it with: pip install 'openvino>=2025.0'"


def library_dir() -> Path:
    """The folder that holds OpenVINO's `libopenvino_c`.

    The folder named by SWIFTDET_OPENVINO_LIB if that is set, else the one inside the installed `openvino`
    wheel. The package is only looked for: importing it would start its telemetry.

    Raises:
        BackendUnavailable: neither is there; says how to install it.
    """
    chosen = os.environ.get(LIBRARY_VARIABLE)
    if chosen:
        folder = Path(chosen)
        if not any(folder.glob("libopenvino_c.so*")):
            raise BackendUnavailable(
                f"{LIBRARY_VARIABLE}: expected a folder with libopenvino_c.so*, got {chosen!r}; correct it, "
                f"or unset it to use the installed wheel"
            )
        return folder
    package = importlib.util.find_spec("openvino")
    if package is None:
        raise BackendUnavailable(f"the OpenVINO engine needs the package openvino, which is not installed; {_INSTALL}")
    for location in package.submodule_search_locations or ():
        folder = Path(location) / "libs"
        if any(folder.glob("libopenvino_c.so*")):
            return folder
    raise BackendUnavailable(
        f"the installed package openvino ({package.origin}) has no libs/libopenvino_c.so*; {_INSTALL}, or "
        f"name the folder of another OpenVINO in {LIBRARY_VARIABLE}"
    )


def runtime() -> _core.OpenVINORuntime:
    """The process's OpenVINO, loaded on first use.

    Raises:
        BackendUnavailable: it is not installed or does not load.
    """
    return _core.OpenVINORuntime.load(library_dir())
