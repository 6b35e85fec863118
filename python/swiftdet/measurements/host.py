"""What is known of the machine that measures, without running a program."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

_CPUFREQ = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


def describe(device: str = "cpu") -> dict[str, Any]:
    """Processor, cores, memory, system; and of `device` "cuda:N" the GPU. JSON-compatible; what is unknown is None."""
    import psutil  # noqa: PLC0415 - only who measures needs it

    frequency = psutil.cpu_freq()
    return {
        "cpu": _cpu_name(),
        "logical_processors": psutil.cpu_count(logical=True),
        "physical_cores": psutil.cpu_count(logical=False),
        "usable_processors": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "memory_bytes": psutil.virtual_memory().total,
        "cpu_mhz": round(frequency.current) if frequency and frequency.current else None,
        "cpu_max_mhz": round(frequency.max) if frequency and frequency.max else None,
        "governor": _line(_CPUFREQ),
        "virtualised": _is_virtual_machine(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "gpu": _gpu(device) if device.startswith("cuda") else None,
    }


def _cpu_name() -> str | None:
    for line in _text(Path("/proc/cpuinfo")).splitlines():
        key, _, value = line.partition(":")
        if key.strip() in {"model name", "Model"}:
            return value.strip()
    return platform.processor() or None


def _is_virtual_machine() -> bool | None:
    flags = next((line for line in _text(Path("/proc/cpuinfo")).splitlines() if line.startswith("flags")), None)
    return None if flags is None else "hypervisor" in flags.split()


def _gpu(device: str) -> dict[str, Any] | None:
    from swiftdet import cuda_devices, device_policy  # noqa: PLC0415 - a CPU's user needs neither

    index = device_policy.parse(device)
    return cuda_devices.describe(index or 0)


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""


def _line(path: Path) -> str | None:
    return _text(path).strip() or None
