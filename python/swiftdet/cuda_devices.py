"""NVIDIA GPUs as the driver sees them, asked through its own library; nothing is compiled or installed for this."""

from __future__ import annotations

import contextlib
import ctypes
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swiftdet.errors import BackendUnavailable

MIN_CAPABILITY = (7, 5)
"""Turing. What is older has no tensor cores for inference, and current TensorRT no support for it."""

_LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
_KERNEL_MODULE = Path("/sys/module/nvidia/version")
_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*
_NO_DEVICE = 100  # CUDA_ERROR_NO_DEVICE
_FUNCTIONS = (
    "cuCtxPopCurrent_v2",
    "cuCtxPushCurrent_v2",
    "cuDeviceGet",
    "cuDeviceGetAttribute",
    "cuDeviceGetCount",
    "cuDeviceGetName",
    "cuDeviceGetPCIBusId",
    "cuDevicePrimaryCtxRelease_v2",
    "cuDevicePrimaryCtxRetain",
    "cuDeviceTotalMem_v2",
    "cuDriverGetVersion",
    "cuGetErrorString",
    "cuInit",
)


@dataclass(frozen=True)
class CudaDevice:
    """One GPU.

    Attributes:
        index: as in "cuda:N", counted behind CUDA_VISIBLE_DEVICES.
        name: as NVIDIA calls it.
        capability: compute capability, (7, 5) for a T4.
        memory_bytes: in all.
    """

    index: int
    name: str
    capability: tuple[int, int]
    memory_bytes: int

    @property
    def sm(self) -> str:
        """The capability as compilers write it, `sm_75`."""
        return f"sm_{self.capability[0]}{self.capability[1]}"


@dataclass(frozen=True)
class CudaDriver:
    """The driver and the GPUs it shows.

    Attributes:
        cuda_version: the newest CUDA that it serves, (13, 0).
        release: of the driver, "580.65.06"; empty where the system does not tell.
        devices: in the driver's order.
    """

    cuda_version: tuple[int, int]
    release: str
    devices: tuple[CudaDevice, ...]

    @property
    def major(self) -> str:
        """What an engine plan depends on: the driver's branch, or its CUDA where the branch is unknown."""
        return self.release.split(".", 1)[0] or f"cuda{self.cuda_version[0]}"

    def device(self, index: int) -> CudaDevice:
        """The GPU "cuda:index".

        Raises:
            BackendUnavailable: there is none of that number, or it is too old.
        """
        if index >= len(self.devices):
            seen = ", ".join(f"cuda:{device.index} {device.name}" for device in self.devices) or "none"
            raise BackendUnavailable(f"no GPU cuda:{index}; the driver shows: {seen}")
        device = self.devices[index]
        if device.capability < MIN_CAPABILITY:
            raise BackendUnavailable(
                f"{device.name} has compute capability {device.capability[0]}.{device.capability[1]}; "
                f"{MIN_CAPABILITY[0]}.{MIN_CAPABILITY[1]} is the least that works"
            )
        return device


def driver() -> CudaDriver:
    """The installed driver, asked anew at each call.

    Raises:
        BackendUnavailable: there is none, or it does not work; says what it answered.
    """
    library = _load()
    version, count = ctypes.c_int(0), ctypes.c_int(0)
    _check(library, "cuDriverGetVersion", library.cuDriverGetVersion(ctypes.byref(version)))
    status = library.cuInit(0)
    if status != _NO_DEVICE:
        _check(library, "cuInit", status)
        _check(library, "cuDeviceGetCount", library.cuDeviceGetCount(ctypes.byref(count)))
    return CudaDriver(
        cuda_version=(version.value // 1000, version.value % 1000 // 10),
        release=driver_release(),
        devices=tuple(_device(library, index) for index in range(count.value)),
    )


def describe(index: int) -> dict[str, Any]:
    """The GPU "cuda:index" and its driver, of JSON's types.

    Raises:
        BackendUnavailable: no driver, or no such GPU.
    """
    found = driver()
    device = found.device(index)
    return {
        "name": device.name,
        "sm": device.sm,
        "memory_bytes": device.memory_bytes,
        "driver": found.release,
        "driver_cuda": ".".join(str(part) for part in found.cuda_version),
    }


def pci_bus_id(index: int) -> str:
    """Where the GPU "cuda:index" sits, "0000:3b:00.0": the name that NVIDIA's other libraries know it by.

    Raises:
        BackendUnavailable: no driver, or no such GPU.
    """
    library = _load()
    device = ctypes.c_int(0)
    text = ctypes.create_string_buffer(32)
    _check(library, "cuInit", library.cuInit(0))
    _check(library, "cuDeviceGet", library.cuDeviceGet(ctypes.byref(device), index))
    _check(library, "cuDeviceGetPCIBusId", library.cuDeviceGetPCIBusId(text, len(text), device))
    return text.value.decode("ascii")


@contextlib.contextmanager
def current(index: int) -> Iterator[None]:
    """Makes GPU `index` the one that libraries called from this thread work on, for the body.

    Raises:
        BackendUnavailable: no driver, no such GPU, or it cannot be opened.
    """
    library = _load()
    context, device = ctypes.c_void_p(), ctypes.c_int(0)
    _check(library, "cuInit", library.cuInit(0))
    _check(library, "cuDeviceGet", library.cuDeviceGet(ctypes.byref(device), index))
    # The primary context is the one that the CUDA runtime, and with it TensorRT, uses.
    _check(library, "cuDevicePrimaryCtxRetain", library.cuDevicePrimaryCtxRetain(ctypes.byref(context), device))
    try:
        _check(library, "cuCtxPushCurrent", library.cuCtxPushCurrent_v2(context))
        try:
            yield
        finally:
            library.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))
    finally:
        library.cuDevicePrimaryCtxRelease_v2(device)


def _load() -> Any:
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError as e:
        why = "is not there" if "cannot open shared object" in str(e) else f"does not load ({e})"
        raise BackendUnavailable(f"no NVIDIA driver: {_LIBRARY} {why}") from e
    missing = [name for name in _FUNCTIONS if not hasattr(library, name)]
    if missing:
        raise BackendUnavailable(
            f"no NVIDIA driver: the {_LIBRARY} that is found lacks {', '.join(missing)}; it is not the driver's own, "
            "or far too old: see which one the loader takes (LD_LIBRARY_PATH, ldconfig -p)"
        )
    return library


def _device(library: Any, index: int) -> CudaDevice:
    device, memory = ctypes.c_int(0), ctypes.c_size_t(0)
    name = ctypes.create_string_buffer(256)
    major, minor = ctypes.c_int(0), ctypes.c_int(0)
    _check(library, "cuDeviceGet", library.cuDeviceGet(ctypes.byref(device), index))
    _check(library, "cuDeviceGetName", library.cuDeviceGetName(name, len(name), device))
    _check(library, "cuDeviceTotalMem", library.cuDeviceTotalMem_v2(ctypes.byref(memory), device))
    for value, attribute in ((major, _CAPABILITY_MAJOR), (minor, _CAPABILITY_MINOR)):
        status = library.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
        _check(library, "cuDeviceGetAttribute", status)
    return CudaDevice(index, name.value.decode("utf-8", "replace"), (major.value, minor.value), memory.value)


def _check(library: Any, call: str, status: int) -> None:
    if status == 0:
        return
    text = ctypes.c_char_p()
    library.cuGetErrorString(status, ctypes.byref(text))
    words = text.value.decode("utf-8", "replace") if text.value else "unknown error"
    raise BackendUnavailable(f"the NVIDIA driver refused {call}: {words} (CUDA error {status}); check nvidia-smi")


def driver_release() -> str:
    """The driver's own version, "580.65.06"; empty where the system does not tell."""
    try:
        text = _KERNEL_MODULE.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""
    return text if re.fullmatch(r"[0-9.]{1,40}", text) else ""
