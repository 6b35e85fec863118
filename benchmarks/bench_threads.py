"""Eight threads and one detector, against OpenVINO's own throughput mode and against a model for each thread.

A round is the same number of images through the same YOLOv8s (640x640, float32, OpenVINO's CPU plugin) on each side:

- swiftdet: 8 threads call one detector compiled for throughput with a 1920x1080 frame; the whole way from pixels to
  boxes counts.
- openvino: an `AsyncInferQueue` of the plugin's own size over a model compiled for throughput, as its documentation
  and `benchmark_app` do it: the tensor is made beforehand and shared, nothing is done with the outputs.
- ultralytics, torch: 8 threads with a model of their own each, as its guide to threads says, from pixels to boxes. The
  same architecture with made-up weights, since the network's own exist as ONNX alone.
- ultralytics, openvino: the same with the network itself, on its OpenVINO backend with the hint that it chooses by
  itself (latency), in float32. No bound: its network runs on the engine that ours runs on.

Each side lives in a process of its own, so that its memory can be told; the processes are warm and idle between their
turns.

On a busy machine the side with more threads gets more of the processor, so times mean little there. The processor time
that a side spends on an image is in the JSON (cpu_ms_per_image): on an idle machine whose cores are all kept busy,
throughput is their number divided by it.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import peers
from alternating import Rounds, replayed, timed

THREADS = 8
IMAGES = 32
ROUNDS, WARMUP = 7, 1


# --- the sides: each runs in a process of its own, which this file is the program of --------------------------------


def in_threads(calls):
    """Lets each of `calls` run in a thread of its own until IMAGES were made by all of them together."""
    left = iter(range(IMAGES))  # next() is atomic
    threads = [threading.Thread(target=lambda call=call: [call() for _ in left]) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def swiftdet_round(model, frame):
    import swiftdet

    detector = swiftdet.Detector(model, device="cpu", performance="throughput")
    assert len(detector(frame)) > 0
    return lambda: in_threads([lambda: detector(frame)] * THREADS)


def openvino_round(model, _frame):
    import openvino

    compiled = openvino.Core().compile_model(
        model, "CPU", {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": "f32"}
    )
    queue = openvino.AsyncInferQueue(compiled)
    tensor = np.full((1, 3, 640, 640), 0.5, np.float32)

    def work():
        for _ in range(IMAGES):
            queue.start_async(tensor, share_inputs=True)
        queue.wait_all()

    return work


def ultralytics_torch_round(_model, frame):
    import ultralytics

    models = [ultralytics.YOLO("yolov8s.yaml", verbose=False) for _ in range(THREADS)]
    # rect=False: the square that all sides compute on; by itself this backend would shrink it to 384x640.
    calls = [lambda one=one: one.predict(frame, imgsz=640, rect=False, verbose=False) for one in models]
    for call in calls:
        call()  # makes the predictor
    return lambda: in_threads(calls)


def ultralytics_openvino_round(model, frame):
    import ultralytics

    exported = Path(model).parent / "yolov8s_openvino_model"
    models = [peers.ultralytics_on_openvino(ultralytics, exported, frame) for _ in range(THREADS)]
    calls = [lambda one=one: one.predict(frame, imgsz=640, verbose=False) for one in models]
    assert all(len(call()[0]) > 0 for call in calls)
    return lambda: in_threads(calls)


ROUND = {
    "swiftdet": swiftdet_round,
    "openvino": openvino_round,
    "ultralytics, torch": ultralytics_torch_round,
    "ultralytics, openvino": ultralytics_openvino_round,
}
# How much of a peer's time we promise to take at most.
PEERS = {"openvino": 1 / 0.97, "ultralytics, torch": 1 / 1.5, "ultralytics, openvino": None}


def resident_mib():
    """Memory of this process that is in use now."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def serve(side, model, frame):
    """Runs a round for each line of the input and answers with the memory in use."""
    work = ROUND[side](model, np.load(frame))
    print("ready", flush=True)
    for _ in sys.stdin:
        before = time.process_time()
        work()
        used = time.process_time() - before
        print(json.dumps({"resident_mib": resident_mib(), "cpu_ms_per_image": 1e3 * used / IMAGES}), flush=True)


# --- the benchmark --------------------------------------------------------------------------------------------------


class Side:
    """A process that runs rounds."""

    def __init__(self, name, model, frame):
        self.name, self.told = name, []
        self._process = subprocess.Popen(  # noqa: S603 - this file
            [sys.executable, __file__, name, model, frame], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        while (line := self._process.stdout.readline()) != "ready\n":  # the peers print things of their own
            assert line, f"{name} ended before it was ready"

    def round(self):
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        line = "-"
        while not line.startswith('{"resident_mib"'):
            line = self._process.stdout.readline()
            assert line, f"{self.name} ended"
        self.told.append(json.loads(line))

    def close(self):
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(60)


@pytest.fixture(scope="module")
def model(real_model, exported_model):
    """The network as ONNX, beside the form that ultralytics wants."""
    path = exported_model.parent / "yolov8s.onnx"
    path.write_bytes(real_model.read_bytes())
    return path


@pytest.fixture(scope="module", params=PEERS)
def sides(request, model, frame):
    """Name of the case, name of the peer, both sides, and their rounds."""
    peer = request.param
    if peer.startswith("ultralytics"):
        request.getfixturevalue("ultralytics")
    np.save(model.parent / "frame.npy", frame)
    both = {name: Side(name, str(model), str(model.parent / "frame.npy")) for name in ("swiftdet", peer)}
    what = "its queue, throughput" if peer == "openvino" else f"a model for each thread, {peer.split()[-1]}"
    turns = {name: timed(side.round) for name, side in both.items()}
    case = f"{IMAGES} images, {THREADS} threads, YOLOv8s; peer: {what}"
    yield case, peer, both, Rounds(turns, rounds=ROUNDS, warmup=WARMUP)
    for side in both.values():
        side.close()


@replayed
@pytest.mark.parametrize("which", ["swiftdet", "peer"])
def test_round(benchmark, sides, which):
    case, peer, both, rounds = sides
    side = "swiftdet" if which == "swiftdet" else peer
    benchmark.extra_info.update(case=case, side=side, bound=PEERS[peer] if side == "swiftdet" else None)
    rounds.report(benchmark, side)
    told = both[side].told
    benchmark.extra_info["resident_mib"] = max(turn["resident_mib"] for turn in told)
    benchmark.extra_info["cpu_ms_per_image"] = statistics.median(turn["cpu_ms_per_image"] for turn in told)


if __name__ == "__main__":
    serve(*sys.argv[1:])
