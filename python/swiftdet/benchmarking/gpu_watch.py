"""A GPU's clocks, temperature and memory while something is measured, by NVML, the driver's own library."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from swiftdet import cuda_devices
from swiftdet.errors import BackendUnavailable

# Bits of what NVML calls clocks event reasons, formerly throttle reasons. Idleness and clocks that a user has locked
# are bits too, but hold nothing back that the measured work would have had.
_REASONS = {
    1 << 2: "power cap",
    1 << 3: "hardware slowdown",
    1 << 4: "sync boost",
    1 << 5: "software thermal slowdown",
    1 << 6: "hardware thermal slowdown",
    1 << 7: "power brake",
}


class GpuWatch:
    """Observes one GPU. For one thread."""

    @classmethod
    def of(cls, index: int) -> GpuWatch | None:
        """What observes "cuda:index"; None without the package nvidia-ml-py, or where NVML does not work."""
        try:
            import pynvml  # noqa: PLC0415 - an extra
        except ImportError:
            return None
        try:
            pynvml.nvmlInit()
            # By its place: NVML's own order is another, and knows nothing of CUDA_VISIBLE_DEVICES.
            return cls(pynvml, pynvml.nvmlDeviceGetHandleByPciBusId(cuda_devices.pci_bus_id(index).encode()))
        except (pynvml.NVMLError, BackendUnavailable):
            return None

    def __init__(self, nvml: Any, handle: Any) -> None:
        """Observes the GPU `handle` of the module `nvml`."""
        self._nvml = nvml
        self._handle = handle
        self._megahertz: list[float] = []
        self._reasons = 0

    def start(self) -> None:
        """Forgets what was seen before."""
        self._megahertz, self._reasons = [], 0

    def look(self) -> None:
        """Reads what has no counter."""
        clock = self._ask(self._nvml.nvmlDeviceGetClockInfo, self._nvml.NVML_CLOCK_SM)
        self._megahertz += [] if clock is None else [float(clock)]
        self._reasons |= int(self._ask(self._nvml.nvmlDeviceGetCurrentClocksThrottleReasons) or 0)

    def stop(self) -> tuple[int | None, dict[str, Any], list[str]]:
        """(bytes of its memory in use, `interference.gpu` of a run, warnings); what NVML does not tell is None."""
        nvml = self._nvml
        memory = self._ask(nvml.nvmlDeviceGetMemoryInfo)
        limit_mw = self._ask(nvml.nvmlDeviceGetEnforcedPowerLimit)
        reasons = [name for bit, name in _REASONS.items() if self._reasons & bit]
        clocks = {"min": min(self._megahertz), "max": max(self._megahertz)} if self._megahertz else None
        facts = {
            "sm_mhz": clocks,
            "max_sm_mhz": self._ask(nvml.nvmlDeviceGetMaxClockInfo, nvml.NVML_CLOCK_SM),
            "memory_mhz": self._ask(nvml.nvmlDeviceGetClockInfo, nvml.NVML_CLOCK_MEM),
            "temperature_c": self._ask(nvml.nvmlDeviceGetTemperature, nvml.NVML_TEMPERATURE_GPU),
            "power_limit_w": None if limit_mw is None else limit_mw / 1000,
            "throttle_reasons": reasons,
        }
        warnings = [f"the GPU's clocks were held down ({', '.join(reasons)})"] if reasons else []
        if clocks and clocks["min"] < 0.9 * clocks["max"]:
            warnings.append(f"the GPU ran at {clocks['min']:.0f} to {clocks['max']:.0f} MHz")
        return None if memory is None else int(memory.used), facts, warnings

    def _ask(self, function: Callable[..., Any], *arguments: Any) -> Any:
        with contextlib.suppress(self._nvml.NVMLError):  # "not supported" on many GPUs, for one thing or another
            return function(self._handle, *arguments)
        return None
