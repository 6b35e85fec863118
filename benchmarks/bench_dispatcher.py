"""What the dispatcher adds to a request at batch 1: against calling the detector directly, in the same rounds.

    python benchmarks/bench_dispatcher.py           # prints the table
    pytest benchmarks/bench_dispatcher.py           # each once, for its answer

The network is the smallest that there is, so that little hides what is around it; still its time varies by more than
the overhead. Therefore what is compared is the time of a request outside the stages that its result reports (load to
result, less pre-processing, network and post-processing), which all sides have. A bare
`ThreadPoolExecutor` of one thread is the third side: what a future and two changes of threads cost at least.

Closed loop: the next request begins when the result of the last is there. Paced: one every few milliseconds, so that
every thread sleeps in between, as with a camera. Requests are made in a thread like those in which a service handles
its own, by a call, and by `submit` and `result`, which wakes a worker in vain; and in the main thread, for which a
worker always runs them, so that every request changes threads twice. The load averages of the machine are part of the
result.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests/data"))

import make_models
import onnx

import swiftdet
from alternating import Rounds, replayed

CLOSED, PACED = (20_000, 0.0), (2_000, 0.004)  # requests of each side, and seconds before each
# By a call or by `submit`, and whether the main thread makes them.
LOOPS = {
    "called, closed loop": (CLOSED, True, False),
    "called, paced loop": (PACED, True, False),
    "submitted, closed loop": (CLOSED, False, False),
    "submitted, paced loop": (PACED, False, False),
    "submitted in the main thread, closed loop": (CLOSED, False, True),
    "submitted in the main thread, paced loop": (PACED, False, True),
}
WARM_UP = 500
GOAL_US = 100


def make_detector(folder: Path) -> swiftdet.Detector:
    path = folder / "tiny.onnx"
    onnx.save(make_models.build("ultralytics-columns", size=(64, 96), classes=3, seed=3), path)
    return swiftdet.Detector(path, device="cpu", conf=0.3)


def image():
    return np.random.default_rng(0).integers(0, 256, (70, 130, 3), dtype=np.uint8)


def sides(detector, dispatcher, executor, pixels, called):
    """The calls, which give the same answer."""
    calls = {
        "swiftdet": (lambda: dispatcher(pixels)) if called else (lambda: dispatcher.submit(pixels).result()),
        "direct": lambda: detector(pixels),
        "executor": lambda: executor.submit(detector, pixels).result(),
    }
    one, *others = (call() for call in calls.values())
    for other in others:
        np.testing.assert_array_equal(one.xyxy, other.xyxy)
        np.testing.assert_array_equal(one.conf, other.conf)
    assert len(one) > 0
    return calls


def outside(call, interval_s):
    """Seconds of a call that are not in its result's stages."""
    if interval_s:
        time.sleep(interval_s)
    begin = time.perf_counter()
    result = call()
    return time.perf_counter() - begin - 1e-3 * sum(result.speed.values())


class RoundsInAThread(Rounds):
    """Rounds in another thread than the main one."""

    def measure(self, *, once=False):
        with ThreadPoolExecutor(1) as service:
            service.submit(super().measure, once=once).result()


@contextmanager
def rounds_of(detector, loop):
    """The rounds of a loop in which requests come one after the other, or with a pause between them."""
    (rounds, interval_s), called, in_main_thread = LOOPS[loop]
    with swiftdet.BatchDispatcher(detector) as dispatcher, ThreadPoolExecutor(1) as executor:
        calls = sides(detector, dispatcher, executor, image(), called)
        turns = {side: partial(outside, call, interval_s) for side, call in calls.items()}
        yield (Rounds if in_main_thread else RoundsInAThread)(turns, rounds=rounds, warmup=WARM_UP)
        assert set(dispatcher.stats().batch_sizes) == {1}


@pytest.fixture(scope="module", params=LOOPS)
def loop(request, tmp_path_factory):
    with make_detector(tmp_path_factory.mktemp("tiny")) as detector, rounds_of(detector, request.param) as rounds:
        yield request.param, rounds


@replayed
@pytest.mark.parametrize("side", ["swiftdet", "direct", "executor"])
def test_outside_the_stages(benchmark, loop, side):
    name, rounds = loop
    benchmark.extra_info.update(case=f"dispatcher, {name}", side=side, bound=None)
    rounds.report(benchmark, side)
    benchmark.extra_info["p99_ms"] = 1e3 * float(np.percentile(rounds.seconds[side], 99))
    if side == "swiftdet":
        benchmark.extra_info["added_bound_us"] = GOAL_US


def main():
    print("| loop | requests | added mean | added p50 | added p99 | executor mean | direct p50 | load |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for loop, ((requests, _), *_) in LOOPS.items():
        with (
            tempfile.TemporaryDirectory() as folder,
            make_detector(Path(folder)) as detector,
            rounds_of(detector, loop) as rounds,
        ):
            rounds.measure()
        us = {side: 1e6 * np.array(seconds) for side, seconds in rounds.seconds.items()}
        kinds = (np.mean, np.median, partial(np.percentile, q=99))
        columns = [kind(us["swiftdet"]) - kind(us["direct"]) for kind in kinds]
        columns += [us["executor"].mean() - us["direct"].mean(), np.median(us["direct"])]
        values = " | ".join(f"{value:.0f} us" for value in columns)
        print(f"| {loop} | {requests} | {values} | {os.getloadavg()[0]:.1f} |")


if __name__ == "__main__":
    main()
