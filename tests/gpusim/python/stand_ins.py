"""The stand-ins for CUDA and TensorRT as Python sees them, and the environment that puts them in NVIDIA's place.

environment(Path("build/gpu"), eager=False)  # for a process that shall run on them
Cuda().fail(1, OUT_OF_MEMORY, name="cudaMalloc")  # in such a process
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

# Codes of cudaError_t.
INVALID_VALUE = 1
OUT_OF_MEMORY = 2
INSUFFICIENT_DRIVER = 35
NO_DEVICE = 100
ILLEGAL_ADDRESS = 700
LAUNCH_FAILURE = 719

BUILD_VARIABLE = "SWIFTDET_GPUSIM_BUILD"
"""Environment variable: the build folder of the CMake preset `gpu`."""


def environment(build: Path, *, eager: bool, **more: str) -> dict[str, str]:
    """The variables of a process in which swiftdet finds the stand-ins instead of NVIDIA's libraries."""
    from swiftdet.engines import openvino

    libraries = build.resolve() / "gpusim"
    cudart = next(libraries.glob("libcudart.so.1[0-9]"))
    sanitizers = (libraries / "preload.txt").read_text().split()
    return {
        # Python and its modules leak by design. A host that follows a device pointer must still end by a signal.
        "ASAN_OPTIONS": "detect_leaks=0:handle_segv=0:detect_stack_use_after_return=0",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "TBB_ENABLE_SANITIZERS": "1",  # OpenVINO's threads then load nothing with RTLD_DEEPBIND, which ASan refuses
        **os.environ,
        BUILD_VARIABLE: str(build.resolve()),
        "LD_PRELOAD": " ".join(
            [*sanitizers, str(cudart)]
        ),  # by its name it is taken for the real one wherever that is asked for
        "SWIFTDET_TENSORRT_LIB": str(libraries),
        "GPUSIM_TWINS": str(libraries / "libgpusim_twins.so"),
        "GPUSIM_OPENVINO_LIB": str(openvino.library_dir()),
        "GPUSIM_EAGER": "1" if eager else "0",
        **more,
    }


def _text(function: ctypes._CFuncPtr) -> list[str]:
    buffer = ctypes.create_string_buffer(function(None, 0))
    function(buffer, len(buffer))
    return buffer.value.decode().splitlines()


class Cuda:
    """The stand-in runtime: tests/gpusim/runtime/control.hpp."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(None)  # preloaded, so every library of the process finds it
        for name in ("gpusim_log", "gpusim_live"):
            function = self._library[name]
            setattr(self, f"_{name}", function)
            function.restype = ctypes.c_size_t
            function.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
        self._library.gpusim_calls.restype = ctypes.c_long
        self._library.gpusim_fail.argtypes = [ctypes.c_char_p, ctypes.c_long, ctypes.c_int, ctypes.c_int]
        self._library.gpusim_fail_work.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_int]

    @property
    def library(self) -> ctypes.CDLL:
        """For CUDA's own calls."""
        return self._library

    def log(self) -> list[str]:
        """Calls since `clear_log`, each with what it moved or launched."""
        return _text(self._gpusim_log)

    def clear_log(self) -> None:
        """Begins a new log."""
        self._library.gpusim_clear_log()

    def calls(self) -> int:
        """How many calls `fail` would have counted since `clear_log`."""
        return int(self._library.gpusim_calls())

    def live(self) -> list[str]:
        """Everything that was made and not released."""
        return _text(self._gpusim_live)

    def fail(self, nth: int, error: int, *, name: str | None = None, sticky: bool = False) -> None:
        """Lets the nth call from now on (of `name`, or of any function) return `error`; sticky: all later ones too."""
        self._library.gpusim_fail(None if name is None else name.encode(), nth, error, sticky)

    def fail_work(self, nth: int, error: int, *, sticky: bool = False) -> None:
        """Lets the nth piece of work that a device runs end with `error`."""
        self._library.gpusim_fail_work(nth, error, sticky)

    def failed(self) -> bool:
        """Whether the failure asked for last has happened."""
        return bool(self._library.gpusim_failed())

    def heal(self) -> None:
        """No more failures; lost devices come back, as they would in a new process."""
        self._library.gpusim_heal()


class TensorRt:
    """The stand-in TensorRT: tests/gpusim/tensorrt/control.hpp."""

    def __init__(self, folder: Path) -> None:
        self._library = ctypes.CDLL(str(folder / "libnvinfer.so.10"))
        self._library.gpusim_trt_fail.argtypes = [ctypes.c_long]
        self._library.gpusim_trt_set_context_bytes.argtypes = [ctypes.c_long]
        for name in ("gpusim_trt_calls", "gpusim_trt_enqueues"):
            self._library[name].restype = ctypes.c_long

    def fail(self, nth: int) -> None:
        """Lets the nth call that can fail do so; 0 begins a new count alone."""
        self._library.gpusim_trt_fail(nth)

    def failed(self) -> bool:
        """Whether it has."""
        return bool(self._library.gpusim_trt_failed())

    def calls(self) -> int:
        """Calls that could have failed since `fail`."""
        return int(self._library.gpusim_trt_calls())

    def live(self) -> int:
        """Runtimes, engines and contexts."""
        return int(self._library.gpusim_trt_live())

    def set_context_bytes(self, count: int) -> None:
        """What every engine says its contexts need for themselves."""
        self._library.gpusim_trt_set_context_bytes(count)

    def enqueues(self) -> int:
        """Calls of enqueueV3 by now."""
        return int(self._library.gpusim_trt_enqueues())
