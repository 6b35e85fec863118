"""What else went on while something was measured: other programs, a hypervisor, a clock that changed."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swiftdet.benchmarking.gpu_watch import GpuWatch

STEAL_PERCENT = 0.5
OTHER_LOAD_PERCENT = 5.0
FREQUENCY_DROP = 0.1
PRESSURE_PERCENT = 20.0
"""From where on a reader is warned. Shares are of all processors together, pressure of the time."""

_OWN_CGROUPS = Path("/proc/self/cgroup")
_CGROUPS = Path("/sys/fs/cgroup")
_PRESSURE = Path("/proc/pressure/cpu")
_PROCESSORS = Path("/sys/devices/system/cpu")


@dataclass(frozen=True)
class _Counters:
    """Counters of the system that only grow."""

    wall_s: float
    machine_s: float
    busy_s: float
    steal_s: float
    own_s: float
    involuntary: int | None
    pressure_s: float | None
    limited: int | None
    overheated: int | None


class Watch:
    """Observes the machine from `start` to `stop`. For one thread, which should not be one that is measured.

    Reads a few files of the system, twice a second if `look` is called as often: 0.2 ms each time.
    """

    def __init__(self, gpu: GpuWatch | None = None) -> None:
        """An observer of this process, its machine, and a GPU."""
        import psutil  # noqa: PLC0415 - only who measures needs it

        self._psutil: Any = psutil
        self._process = psutil.Process()
        self._megahertz: list[float] = []
        self._resident: list[int] = []
        self._begin: _Counters | None = None
        self._gpu = gpu

    def start(self) -> None:
        """Begins."""
        self._megahertz, self._resident = [], []
        if self._gpu is not None:
            self._gpu.start()
        self.look()
        self._begin = self._count()

    def look(self) -> None:
        """Reads what has no counter: clocks and memory."""
        with contextlib.suppress(OSError, NotImplementedError):
            # Of the fastest: those that idle may be slow, and say nothing about one that works.
            fastest = max((one.current for one in self._psutil.cpu_freq(percpu=True) or []), default=0.0)
            self._megahertz += [fastest] if fastest else []
        self._resident.append(self._process.memory_info().rss)
        if self._gpu is not None:
            self._gpu.look()

    def stop(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """What happened since `start`: (memory, interference), as a document's run has them."""
        end = self._count()
        self.look()
        begin = self._begin or end
        gpu_bytes, gpu, gpu_warnings = self._gpu.stop() if self._gpu is not None else (None, None, [])
        facts = judge(_difference(begin, end), self._megahertz)
        memory = {"rss_bytes": self._resident[-1], "peak_rss_bytes": max(self._resident), "gpu_bytes": gpu_bytes}
        return memory, {**facts, "gpu": gpu, "warnings": facts["warnings"] + gpu_warnings}

    def _count(self) -> _Counters:
        times = self._psutil.cpu_times()._asdict()
        for held_by_user_and_nice in ("guest", "guest_nice"):
            times.pop(held_by_user_and_nice, None)
        idle = times["idle"] + times.get("iowait", 0.0)
        own = self._process.cpu_times()
        machine = sum(times.values())
        steal = times.get("steal", 0.0)
        return _Counters(
            wall_s=time.perf_counter(),
            machine_s=machine,
            busy_s=machine - idle - steal,
            steal_s=steal,
            own_s=own.user + own.system,
            involuntary=_involuntary_switches(),
            pressure_s=_pressure_s(),
            limited=_times_limited(),
            overheated=_times_overheated(),
        )


def _difference(begin: _Counters, end: _Counters) -> _Counters:
    def grown(name: str) -> Any:
        before, after = getattr(begin, name), getattr(end, name)
        return None if before is None or after is None else after - before

    return _Counters(**{name: grown(name) for name in _Counters.__dataclass_fields__})


def judge(passed: _Counters, megahertz: list[float]) -> dict[str, Any]:
    """The figures of a time in which the counters grew by `passed`, and what a reader should be warned of."""
    machine = passed.machine_s or 1.0
    steal = 100.0 * passed.steal_s / machine
    other = 100.0 * max(0.0, passed.busy_s - passed.own_s) / machine
    lowest, highest = (min(megahertz), max(megahertz)) if megahertz else (0.0, 0.0)
    pressure = None if passed.pressure_s is None else 100.0 * passed.pressure_s / (passed.wall_s or 1.0)
    warnings = []
    if steal > STEAL_PERCENT:
        warnings.append(f"the hypervisor gave {steal:.1f} % of the processors' time to other machines")
    if other > OTHER_LOAD_PERCENT:
        warnings.append(f"other programs took {other:.0f} % of the processors' time")
    if lowest < (1.0 - FREQUENCY_DROP) * highest:
        warnings.append(f"the fastest processor ran at {lowest:.0f} to {highest:.0f} MHz")
    if passed.limited:
        warnings.append(f"a CPU limit stopped this process {passed.limited} times")
    if passed.overheated:
        warnings.append(f"processors slowed down {passed.overheated} times because of their temperature")
    if pressure is not None and pressure > PRESSURE_PERCENT:
        warnings.append(f"in {pressure:.0f} % of the time some thread of the machine waited for a processor")
    return {
        "steal_percent": steal,
        "other_load_percent": other,
        "frequency_mhz": {"min": lowest, "max": highest} if megahertz else None,
        "involuntary_switches": passed.involuntary,
        "throttled": _any(passed.limited, passed.overheated),
        "cpu_pressure_percent": pressure,
        "warnings": warnings,
    }


def _any(*counts: int | None) -> bool | None:
    known = [count for count in counts if count is not None]
    return any(known) if known else None


def _involuntary_switches() -> int | None:
    """Of all threads; `psutil` gives those of the main thread."""
    try:
        import resource  # noqa: PLC0415 - Unix only
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def _pressure_s() -> float | None:
    """Time in which some thread could not run for want of a processor."""
    for line in _text(_PRESSURE).splitlines():
        kind, *fields = line.split()
        if kind == "some":
            return int(dict(field.split("=") for field in fields)["total"]) / 1e6
    return None


def _times_limited() -> int | None:
    """How often a control group's limit stopped this process."""
    for line in _text(_OWN_CGROUPS).splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0" or "cpu" in controllers.split(","):
            for folder in (_CGROUPS / controllers / path.strip("/"), _CGROUPS / "cpu" / path.strip("/"), _CGROUPS):
                for entry in _text(folder / "cpu.stat").splitlines():
                    if entry.startswith("nr_throttled "):
                        return int(entry.split()[1])
    return None


def _times_overheated() -> int | None:
    counts = [
        int(text)
        for path in _PROCESSORS.glob("cpu[0-9]*/thermal_throttle/core_throttle_count")
        if (text := _text(path).strip()).isdecimal()
    ]
    return sum(counts) if counts else None


def _text(path: os.PathLike[str]) -> str:
    try:
        return Path(path).read_text("utf-8", "replace")
    except OSError:
        return ""
