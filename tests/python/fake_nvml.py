"""The module `pynvml` as far as swiftdet asks it, for a GPU that slows down."""

from __future__ import annotations

import itertools
import types


class NvmlError(Exception):
    """As nvidia-ml-py's."""


def fake_nvml(*, works=True):
    """The module of a GPU that slows down: 1800 MHz, then 900 at a power cap."""
    asked = []
    megahertz = itertools.chain([1800], itertools.repeat(900))

    def start():
        if not works:
            raise NvmlError("library not found")

    def unsupported(_, __):
        raise NvmlError("not supported")

    return types.SimpleNamespace(
        NVML_CLOCK_SM=1,
        NVML_CLOCK_MEM=2,
        NVML_TEMPERATURE_GPU=0,
        NVMLError=NvmlError,
        asked=asked,
        nvmlInit=start,
        nvmlDeviceGetHandleByPciBusId=asked.append,
        nvmlDeviceGetClockInfo=lambda _, kind: next(megahertz) if kind == 1 else 5000,
        nvmlDeviceGetCurrentClocksThrottleReasons=lambda _: 0x1 | 0x4,
        nvmlDeviceGetMaxClockInfo=lambda _, __: 1980,
        nvmlDeviceGetTemperature=unsupported,
        nvmlDeviceGetEnforcedPowerLimit=lambda _: 70_000,
        nvmlDeviceGetMemoryInfo=lambda _: types.SimpleNamespace(used=3 << 30),
    )
