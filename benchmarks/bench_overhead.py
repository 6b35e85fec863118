"""What a detector adds around its network: the time of a call minus the time inside the network, in that same call.

Both sides get the same 1920x1080 frame, the same YOLOv8s at 640x640 on OpenVINO's CPU plugin with the same hints
(latency, float32; threads left to the plugin), and the same thresholds. A call takes many times the overhead, and the
network's time varies by more than the overhead, so two medians are not subtracted: of each call its own network's time
is. For ultralytics its compiled model is wrapped in a stopwatch; for swiftdet it is the inference stage that the result
reports. So that nothing of ours hides in that stage, the bare engine is timed in the same rounds; the fastest rounds of
both are in the JSON (network_fastest_ms, bare_engine_fastest_ms).
"""

from __future__ import annotations

import statistics
import time
from functools import partial

import pytest

import peers
from alternating import Rounds, replayed, timed

CONF, IOU = 0.25, 0.7
CASE = "overhead, 1920x1080 -> 640x640, YOLOv8s"
ROUNDS, WARMUP = 60, 5


class Side:
    """A call that tells how much of its time its network took."""

    def __init__(self, call):
        """Takes what gives the result and the network's seconds."""
        self._call = call
        self.network: list[float] = []

    def turn(self):
        """Seconds of one call outside its network."""
        begin = time.perf_counter()
        _, network = self._call()
        seconds = time.perf_counter() - begin
        self.network.append(network)
        return seconds - network


def detect(detector, frame):
    result = detector(frame)
    return result, result.speed["inference"] / 1e3


class Stopwatch:
    """Stands in for a compiled network of OpenVINO's, and remembers how long that took last."""

    def __init__(self, compiled):
        self._compiled, self.seconds = compiled, 0.0

    def __call__(self, images):
        begin = time.perf_counter()
        outputs = self._compiled(images)
        self.seconds = time.perf_counter() - begin
        return outputs


def predict(model, frame):
    result = model.predict(frame, imgsz=640, conf=CONF, iou=IOU, verbose=False)[0]
    return result, model.predictor.model.backend.ov_compiled_model.seconds


@pytest.fixture(scope="module")
def sides(real_model, exported_model, ultralytics, frame):
    """Rounds of both, whose answers are the same, with the bare engine among them; and the sides."""
    import swiftdet
    from swiftdet import engines

    session = engines.compile(real_model.read_bytes(), engine="openvino").create_session((1, 3, 640, 640))
    session.input[:] = 0.5
    model = peers.ultralytics_on_openvino(ultralytics, exported_model, frame, Stopwatch)
    with swiftdet.Detector(real_model, device="cpu", conf=CONF, iou=IOU) as detector:
        calls = {"swiftdet": partial(detect, detector, frame), "ultralytics": partial(predict, model, frame)}
        peers.check_same_detections(*(call()[0] for call in calls.values()))
        both = {name: Side(call) for name, call in calls.items()}
        turns = {name: side.turn for name, side in both.items()} | {"bare engine": timed(session.infer)}
        yield both, Rounds(turns, rounds=ROUNDS, warmup=WARMUP)


@replayed
@pytest.mark.parametrize("side", ["swiftdet", "ultralytics"])
def test_overhead(benchmark, sides, side):
    both, rounds = sides
    benchmark.extra_info.update(case=CASE, side=side, bound=0.2 if side == "swiftdet" else None)
    rounds.report(benchmark, side)
    network = both[side].network[-len(rounds.seconds[side]) :]
    benchmark.extra_info["network_median_ms"] = 1e3 * statistics.median(network)
    if side == "swiftdet":
        # The fastest rounds, because the others measure the machine's other work too.
        benchmark.extra_info["network_fastest_ms"] = 1e3 * min(network)
        benchmark.extra_info["bare_engine_fastest_ms"] = 1e3 * min(rounds.seconds["bare engine"])
