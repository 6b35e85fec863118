"""What else a machine did while something was measured: counters, words, clocks of a GPU."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from fake_nvml import fake_nvml
from swiftdet import cuda_devices
from swiftdet.benchmarking import interference
from swiftdet.benchmarking.gpu_watch import GpuWatch
from swiftdet.benchmarking.interference import Watch, _Counters, judge

QUIET = _Counters(
    wall_s=10.0,
    machine_s=20.0,
    busy_s=10.0,
    steal_s=0.0,
    own_s=10.0,
    involuntary=3,
    pressure_s=0.1,
    limited=0,
    overheated=None,
)


def passed(**changes):
    return _Counters(**{**vars(QUIET), **changes})


def test_a_quiet_machine_gets_no_warning():
    facts = judge(QUIET, [2600.0, 2590.0])
    assert facts == {
        "steal_percent": 0.0,
        "other_load_percent": 0.0,
        "frequency_mhz": {"min": 2590.0, "max": 2600.0},
        "involuntary_switches": 3,
        "throttled": False,
        "cpu_pressure_percent": 1.0,
        "warnings": [],
    }


@pytest.mark.parametrize(
    ("changes", "megahertz", "words"),
    [
        ({"steal_s": 1.0}, [], "hypervisor gave 5.0 %"),
        ({"busy_s": 14.0}, [], "other programs took 20 %"),
        ({}, [3000.0, 2000.0], "ran at 2000 to 3000 MHz"),
        ({"limited": 7}, [], "CPU limit stopped this process 7 times"),
        ({"overheated": 2}, [], "slowed down 2 times"),
        ({"pressure_s": 5.0}, [], "in 50 % of the time"),
    ],
)
def test_interference_is_put_into_words(changes, megahertz, words):
    facts = judge(passed(**changes), megahertz)
    (warning,) = facts["warnings"]
    assert words in warning
    assert facts["throttled"] is any(word in words for word in ("limit", "slowed"))


def test_what_a_system_does_not_tell_is_unknown():
    facts = judge(passed(involuntary=None, pressure_s=None, limited=None), [])
    assert [facts[name] for name in ("frequency_mhz", "involuntary_switches", "throttled")] == [None] * 3
    assert facts["cpu_pressure_percent"] is None


def test_another_program_is_noticed():
    watch = Watch()
    busy = [sys.executable, "-c", "while True: pass"]
    with subprocess.Popen(busy) as program:
        try:
            time.sleep(0.1)
            watch.start()
            time.sleep(0.7)
            memory, facts = watch.stop()
        finally:
            program.kill()
    # One whole processor, or what others leave of it, of those that there are.
    assert facts["other_load_percent"] > 40.0 / os.cpu_count()
    assert 0 < memory["rss_bytes"] <= memory["peak_rss_bytes"]


def test_counters_are_read_where_the_system_keeps_them(monkeypatch, tmp_path):
    (tmp_path / "pressure").write_text("some avg10=1.00 avg60=0 avg300=0 total=2500000\nfull avg10=0.00 total=7\n")
    (tmp_path / "of_process").write_text("5:cpu,cpuacct:/job\n0::/job/own\n")
    version_1, version_2 = tmp_path / "groups/cpu,cpuacct/job", tmp_path / "groups/job/own"
    version_1.mkdir(parents=True)
    version_2.mkdir(parents=True)
    (version_2 / "cpu.stat").write_text("usage_usec 5\nnr_periods 9\nnr_throttled 4\n")
    heat = tmp_path / "processors/cpu0/thermal_throttle"
    heat.mkdir(parents=True)
    (heat / "core_throttle_count").write_text("11\n")
    monkeypatch.setattr(interference, "_PRESSURE", tmp_path / "pressure")
    monkeypatch.setattr(interference, "_OWN_CGROUPS", tmp_path / "of_process")
    monkeypatch.setattr(interference, "_CGROUPS", tmp_path / "groups")
    monkeypatch.setattr(interference, "_PROCESSORS", tmp_path / "processors")
    now = Watch()._count()
    assert (now.pressure_s, now.limited, now.overheated) == (2.5, 4, 11)
    (version_1 / "cpu.stat").write_text("nr_periods 9\nnr_throttled 6\n")
    assert Watch()._count().limited == 6
    for name in ("_PRESSURE", "_OWN_CGROUPS", "_PROCESSORS"):
        monkeypatch.setattr(interference, name, tmp_path / "none")
    now = Watch()._count()
    assert (now.pressure_s, now.limited, now.overheated) == (None, None, None)


def test_without_nvml_a_gpu_is_not_watched(monkeypatch):
    monkeypatch.setattr(cuda_devices, "pci_bus_id", lambda _: "0000:00:00.0")
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml(works=False))
    assert GpuWatch.of(0) is None
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert GpuWatch.of(0) is None


def test_nvml_has_what_is_asked_of_it():
    pynvml = pytest.importorskip("pynvml")
    asked = [name for name in vars(fake_nvml()) if name.startswith(("nvml", "NVML"))]
    assert len(asked) == 12  # with NVMLError
    assert [name for name in asked if not hasattr(pynvml, name)] == []
