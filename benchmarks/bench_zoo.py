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

import pytest

from alternating import Rounds, replayed, timed
from graph_pairs import LARGE, NOISE, SIDES, sessions_of
from swiftdet import zoo

ROUNDS, WARMUP = 20, 2
VARIANTS = [pytest.param(name, marks=pytest.mark.slow if zoo.info(name).params > LARGE else ()) for name in zoo.names()]


@pytest.fixture(scope="module", params=VARIANTS)
def network(request):
    """Name of the case, and the rounds of both graphs, whose outputs are equal but for rounding."""
    name = request.param
    height, width = (side // 2 if zoo.info(name).params > LARGE else side for side in zoo.info(name).imgsz)
    turns = {
        side: timed(session.infer, time.process_time) for side, session in sessions_of(name, (height, width)).items()
    }
    return f"network {name} {height}x{width}", Rounds(turns, rounds=ROUNDS, warmup=WARMUP)


@replayed
@pytest.mark.parametrize("side", SIDES)
def test_graph(benchmark, network, side):
    case, rounds = network
    benchmark.extra_info.update(case=case, side=side, bound=NOISE if side == "swiftdet" else None)
    rounds.report(benchmark, side)
