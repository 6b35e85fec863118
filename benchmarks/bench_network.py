"""The network alone: an engine of ours against the engine that it drives, called as its own documentation says.

"openvino" is OpenVINO's Python API with our hints, an infer request whose input tensor shares the array's memory;
"onnxruntime" an `InferenceSession.run`. Ours are the sessions that a detector runs, the first through OpenVINO's C API,
the second around the same Python package. Outputs are read on every side. The promise is that we add nothing.

YOLOv8s shows what a real network's time is; the demo is small enough for an addition to be seen. Engines have one
thread and the clock counts this process's CPU time, which a busy machine disturbs least.
"""

from __future__ import annotations

import time

import numpy as np
import pytest

import peers
from alternating import Rounds, replayed, timed
from swiftdet import checkpoints, demo, engines, zoo

NOISE = 1.03
ROUNDS, WARMUP = 40, 3


def our_call(model, engine, image):
    session = engines.compile(model, engine=engine, num_threads=1).create_session(image.shape)
    session.input[...] = image

    def call():
        session.infer()
        return session.outputs()

    return call


def raw_openvino(model, image):
    openvino = pytest.importorskip("openvino")
    core = openvino.Core()
    hints = {**peers.OPENVINO_HINTS, "INFERENCE_NUM_THREADS": 1}
    request = core.compile_model(core.read_model(model), "CPU", hints).create_infer_request()
    request.set_input_tensor(openvino.Tensor(image, shared_memory=True))

    def call():
        request.infer()
        return [tensor.data for tensor in request.output_tensors]

    return call


def raw_onnxruntime(model, image):
    onnxruntime = pytest.importorskip("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: image}
    return lambda: session.run(None, feed)


RAW = {"openvino": raw_openvino, "onnxruntime": raw_onnxruntime}


@pytest.fixture(scope="module", params=["YOLOv8s", "demo-damo-yolo"])
def network(request, real_model):
    """Name, ONNX file, and an image in the range that the network takes."""
    if request.param == "YOLOv8s":
        model, size, largest = real_model.read_bytes(), (640, 640), 1.0
    else:
        state = checkpoints.load(demo.weights(request.param))
        model = zoo.build(request.param, state, batch=1).SerializeToString()
        size, largest = zoo.info(request.param).imgsz, 255.0
    image = np.random.default_rng(0).random((1, 3, *size), dtype=np.float32) * np.float32(largest)
    return f"{request.param} {size[0]}x{size[1]}", model, image


@pytest.fixture(scope="module", params=RAW)
def engine(request, network):
    """Name of the case, name of the engine, and the rounds of two calls whose outputs are equal."""
    name, model, image = network
    calls = {"swiftdet": our_call(model, request.param, image), request.param: RAW[request.param](model, image)}
    for ours, theirs in zip(*(call() for call in calls.values()), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    turns = {side: timed(call, time.process_time) for side, call in calls.items()}
    return f"network {name}, {request.param}", request.param, Rounds(turns, rounds=ROUNDS, warmup=WARMUP)


@replayed
@pytest.mark.parametrize("which", ["swiftdet", "raw"])
def test_network(benchmark, engine, which):
    case, peer, rounds = engine
    side, bound = ("swiftdet", NOISE) if which == "swiftdet" else (peer, None)
    benchmark.extra_info.update(case=case, side=side, bound=bound)
    rounds.report(benchmark, side)
