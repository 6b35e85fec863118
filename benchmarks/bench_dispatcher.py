"""What the dispatcher adds to a request at batch 1: against calling the detector directly, in the same rounds.

    python benchmarks/bench_dispatcher.py           # prints the table
    pytest benchmarks/bench_dispatcher.py           # each once, for its answer

The network is the smallest that there is, so that little hides what is around it; still its time varies by more than
the overhead. Therefore what is compared is the time of a request outside the stages that its result reports (load to
result, less pre-processing, network and post-processing), which all sides have. Rounds alternate between the sides.
A bare `ThreadPoolExecutor` of one thread is the third side: what a future and two changes of threads cost at least.

Closed loop: the next request begins when the result of the last is there. Paced: one every few milliseconds, so that
every thread sleeps in between, as with a camera. The load averages of the machine are part of the result.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests/data"))

import make_models
import onnx

import swiftdet

CLOSED, PACED = 20_000, 2_000
INTERVAL_S = 0.004
WARM_UP = 500


def make_detector(folder: Path) -> swiftdet.Detector:
    path = folder / "tiny.onnx"
    onnx.save(make_models.build("ultralytics-columns", size=(64, 96), classes=3, seed=3), path)
    return swiftdet.Detector(path, device="cpu", conf=0.3)


@pytest.fixture
def detector(tmp_path):
    with make_detector(tmp_path) as made:
        yield made


def image():
    return np.random.default_rng(0).integers(0, 256, (70, 130, 3), dtype=np.uint8)


def sides(detector, dispatcher, executor, pixels):
    return {
        "direct": lambda: detector(pixels),
        "executor": lambda: executor.submit(detector, pixels).result(),
        "dispatched": lambda: dispatcher.submit(pixels).result(),
    }


def check_same_answer(calls):
    one, *others = (call() for call in calls.values())
    for other in others:
        np.testing.assert_array_equal(one.xyxy, other.xyxy)
        np.testing.assert_array_equal(one.conf, other.conf)
    assert len(one) > 0


def outside_us(call):
    """Microseconds of a call that are not in its result's stages."""
    begin = time.perf_counter()
    result = call()
    seconds = time.perf_counter() - begin
    return 1e6 * seconds - 1e3 * sum(result.speed.values())


def measure(calls, rounds, interval_s):
    """Microseconds outside the stages: {side: [rounds]}."""
    taken = {side: np.empty(rounds) for side in calls}
    for i in range(-WARM_UP, rounds):
        for side, call in calls.items():
            if interval_s:
                time.sleep(interval_s)
            us = outside_us(call)
            if i >= 0:
                taken[side][i] = us
    return taken


def figures(taken):
    """Mean, p50 and p99 of both sides and of what the dispatcher adds, in microseconds."""
    kinds = {"mean": np.mean, "p50": np.median, "p99": lambda us: np.percentile(us, 99)}
    of = {f"{side}_{kind}_us": float(fn(us)) for side, us in taken.items() for kind, fn in kinds.items()}
    added = {"added": "dispatched", "executor_added": "executor"}
    return of | {
        f"{name}_{kind}_us": of[f"{side}_{kind}_us"] - of[f"direct_{kind}_us"]
        for name, side in added.items()
        for kind in kinds
    }


@pytest.mark.parametrize(("loop", "interval_s"), [("closed", 0.0), ("paced", INTERVAL_S)])
def test_overhead(benchmark, detector, loop, interval_s):
    with swiftdet.BatchDispatcher(detector) as dispatcher, ThreadPoolExecutor(1) as executor:
        calls = sides(detector, dispatcher, executor, image())
        check_same_answer(calls)
        if benchmark.enabled:
            benchmark.extra_info.update(figures(measure(calls, CLOSED if loop == "closed" else PACED, interval_s)))
        benchmark(calls["dispatched"])
        stats = dispatcher.stats()
    assert set(stats.batch_sizes) == {1}


def main():
    with (
        tempfile.TemporaryDirectory() as folder,
        make_detector(Path(folder)) as detector,
        swiftdet.BatchDispatcher(detector) as dispatcher,
        ThreadPoolExecutor(1) as executor,
    ):
        calls = sides(detector, dispatcher, executor, image())
        check_same_answer(calls)
        print("| loop | requests | added mean | added p50 | added p99 | executor mean | direct p50 | load |")
        print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
        for loop, rounds, interval_s in (("closed", CLOSED, 0.0), ("paced", PACED, INTERVAL_S)):
            of = figures(measure(calls, rounds, interval_s))
            columns = ["added_mean", "added_p50", "added_p99", "executor_added_mean", "direct_p50"]
            values = " | ".join(f"{of[f'{name}_us']:.0f} us" for name in columns)
            print(f"| {loop} | {rounds} | {values} | {os.getloadavg()[0]:.1f} |")


if __name__ == "__main__":
    main()
