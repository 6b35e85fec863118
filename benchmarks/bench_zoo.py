"""Our deploy graph of a variant beside the same network as the official exports have it: batch norms, RepConv branches
and the stem's rearrangement as nodes of their own. Same weights, same engine, same image, the variant's own size; half
of it for the variants of more than 40 M parameters, where the ratio is as telling and a round takes seconds, not a
minute.

OpenVINO folds batch norms by itself, so a ratio near 1 is expected where there is nothing else to merge; the promise is
that our graph is never slower. The engine has one thread and the clock counts this process's CPU time, which a busy
machine disturbs least.

Those large variants are marked slow: `tools/bench.sh -k zoo -m ""` runs all, `-m slow` them alone.
"""

from __future__ import annotations

import time

import numpy as np
import pytest

from alternating import Rounds, replayed, timed
from swiftdet import engines, zoo

ROUNDS, WARMUP = 20, 2
NOISE = 1.03
LARGE = 40e6
SIDES = {"swiftdet": True, "official graph": False}
VARIANTS = [pytest.param(name, marks=pytest.mark.slow if zoo.info(name).params > LARGE else ()) for name in zoo.names()]


@pytest.fixture(scope="module", params=VARIANTS)
def network(request):
    """Name of the case, and the rounds of both graphs, whose outputs are equal but for rounding."""
    name = request.param
    height, width = (side // 2 if zoo.info(name).params > LARGE else side for side in zoo.info(name).imgsz)
    image = np.random.default_rng(0).random((1, 3, height, width), dtype=np.float32)
    image *= 1.0 if zoo.info(name).family == "yolov7" else 255.0
    backends = {
        side: engines.compile(
            zoo.build(name, imgsz=(height, width), batch=1, deploy=deploy).SerializeToString(),
            engine="openvino",
            num_threads=1,
        )
        for side, deploy in SIDES.items()
    }
    sessions = {}
    for side, backend in backends.items():
        sessions[side] = backend.create_session((1, 3, height, width))
        sessions[side].input[...] = image
    for ours, official in zip(*(backend.infer(image) for backend in backends.values()), strict=True):
        np.testing.assert_allclose(ours, official, rtol=0, atol=1e-4)
    turns = {side: timed(session.infer, time.process_time) for side, session in sessions.items()}
    return f"network {name} {height}x{width}", Rounds(turns, rounds=ROUNDS, warmup=WARMUP)


@replayed
@pytest.mark.parametrize("side", SIDES)
def test_graph(benchmark, network, side):
    case, rounds = network
    benchmark.extra_info.update(case=case, side=side, bound=NOISE if side == "swiftdet" else None)
    rounds.report(benchmark, side)
