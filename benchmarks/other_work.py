"""How busy the machine was with other things while something was measured."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil


def _seconds_of_ours() -> float:
    """Processor time of this process and of its children, those that ended included."""
    total = 0.0
    for process in (me := psutil.Process(), *me.children(recursive=True)):
        times = process.cpu_times()
        total += times.user + times.system + (times.children_user + times.children_system if process == me else 0.0)
    return total


@contextmanager
def watched() -> Iterator[dict[str, float]]:
    """Yields a dictionary that holds, when the block is left, what others took of all processors, in percent.

    `other_work_percent` is what other processes computed, `stolen_percent` what the host of a virtual machine withheld.
    The kernel counts in hundredths of a second, so a block of a few milliseconds tells little.
    """
    found: dict[str, float] = {}
    before, ours, begin = psutil.cpu_times(), _seconds_of_ours(), time.perf_counter()
    yield found
    after, capacity = psutil.cpu_times(), (time.perf_counter() - begin) * (os.cpu_count() or 1)
    busy = sum(getattr(after, kind) - getattr(before, kind) for kind in ("user", "nice", "system", "irq", "softirq"))
    found["other_work_percent"] = max(0.0, 100 * (busy - (_seconds_of_ours() - ours)) / capacity)
    found["stolen_percent"] = 100 * (after.steal - before.steal) / capacity
