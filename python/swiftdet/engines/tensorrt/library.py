"""Finding TensorRT: the Python package that builds engines, the library that runs them, and our parts for it."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swiftdet.errors import BackendUnavailable

BUILD_MAJORS = (10, 11)
"""TensorRT majors whose builder this package drives."""

LIBRARY_VARIABLE = "SWIFTDET_TENSORRT_LIB"
"""Environment variable: a folder with another `libnvinfer`, used instead of the wheel's and the system's."""

INSTALL = "pip install 'swiftdet[tensorrt]'"

_DISTRIBUTIONS = ("tensorrt", "tensorrt-cu13", "tensorrt-cu12")
_SYSTEM_FOLDERS = ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/local/lib")
_NVINFER = re.compile(r"libnvinfer\.so\.(\d+)")


@dataclass(frozen=True)
class RuntimeLibrary:
    """A `libnvinfer` on disk.

    Attributes:
        path: of the file.
        major: of TensorRT, as its name says.
    """

    path: Path
    major: int


def installed_version() -> str | None:
    """Version of the Python package, found without importing it; None: not installed."""
    if importlib.util.find_spec("tensorrt") is None:
        return None
    for name in _DISTRIBUTIONS:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "of unknown version"


def load() -> Any:
    """The package `tensorrt`, imported on first use. Ask for the driver before: without one it may end the process.

    Raises:
        BackendUnavailable: not installed, does not load, or of a major that is not known here.
    """
    try:
        library: Any = importlib.import_module("tensorrt")
    except ImportError as e:
        raise BackendUnavailable(
            f"building engines needs the package tensorrt ({e}); install it with: {INSTALL}"
        ) from e
    except OSError as e:  # its own libraries are missing, or of another CUDA
        raise BackendUnavailable(f"the package tensorrt does not load ({e}); install it again with: {INSTALL}") from e
    if release(library.__version__)[:1] not in {(major,) for major in BUILD_MAJORS}:
        known = " and ".join(map(str, BUILD_MAJORS))
        raise BackendUnavailable(f"TensorRT {library.__version__} is installed; this version builds with {known}")
    return library


def has_cuda_part() -> bool:
    """Whether this installation was compiled with the CUDA kernels; they are looked for, not loaded."""
    return importlib.util.find_spec("swiftdet._cuda") is not None


def runtime_majors() -> tuple[int, ...]:
    """TensorRT majors that this installation was compiled to run: for each, a library of ours beside the CUDA part."""
    part = importlib.util.find_spec("swiftdet._cuda")
    if part is None or part.origin is None:
        return ()
    folder = Path(part.origin).parent
    found = (re.fullmatch(r"libswiftdet_trt(\d+)\.so", file.name) for file in folder.glob("libswiftdet_trt*.so"))
    return tuple(sorted(int(match[1]) for match in found if match))


def runtime_libraries() -> list[RuntimeLibrary]:
    """Every `libnvinfer` of the first place that has one: the variable's folder, the wheel, the system."""
    for folders in _places():
        found = [
            RuntimeLibrary(path, int(match[1]))
            for folder in folders
            for path in sorted(folder.glob("libnvinfer.so.*"))
            if (match := _NVINFER.fullmatch(path.name))
        ]
        if found:
            return found
    return []


def runtime_library() -> RuntimeLibrary:
    """The newest `libnvinfer` that this installation was compiled for.

    Raises:
        BackendUnavailable: there is none, or only of other majors; says which.
    """
    found, majors = runtime_libraries(), runtime_majors()
    usable = [library for library in found if library.major in majors]
    if usable:
        return max(usable, key=lambda library: library.major)
    compiled = " and ".join(map(str, majors)) or "none"
    if not found:
        raise BackendUnavailable(f"TensorRT's library libnvinfer is not installed; install it with: {INSTALL}")
    there = ", ".join(f"{library.major} ({library.path})" for library in found)
    raise BackendUnavailable(
        f"TensorRT {there} is installed, but this swiftdet was compiled for {compiled}; install a release that fits, "
        f"with: {INSTALL}, or build swiftdet with TensorRT_ROOT"
    )


def release(version: str) -> tuple[int, ...]:
    """(11, 4, 0) of "11.4.0.106": what decides whether a plan is read. Empty where that is no version."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def _places() -> list[list[Path]]:
    if chosen := os.environ.get(LIBRARY_VARIABLE):
        return [[Path(chosen)]]
    package = importlib.util.find_spec("tensorrt_libs")
    wheel = [Path(folder) for folder in (package.submodule_search_locations or ())] if package else []
    searched = [folder for folder in os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep) if folder]
    return [wheel, [Path(folder) for folder in (*searched, *_SYSTEM_FOLDERS)]]
