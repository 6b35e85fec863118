"""Our deploy graph is never slower than the same network as the official exports have it.

One thread, in the CPU time of the process, which others on the machine disturb least; what disturbs it can only add, so
the shortest times count, and rounds in turns are added until they show it. A graph that is slower stays slower.
`benchmarks/bench_zoo.py` prints medians.
"""

from __future__ import annotations

import time

import pytest

from graph_pairs import LARGE, NOISE, SIDES, sessions_of
from swiftdet import zoo

ROUNDS, ATTEMPTS = 5, 8
LARGE_SIZE = (320, 320)  # of the variants that take seconds a run at their own size: as telling, and quick

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.mark.parametrize("name", zoo.names())
def test_our_graph_is_never_slower_than_the_official_one(name):
    info = zoo.info(name)
    sessions = sessions_of(name, LARGE_SIZE if info.params > LARGE else info.imgsz)
    ratio = lowest_ratio(sessions)
    assert ratio <= NOISE


def lowest_ratio(sessions) -> float:
    """The shortest time of ours by the shortest of theirs; more rounds while it is above the bound."""
    shortest = dict.fromkeys(SIDES, float("inf"))
    ratio = float("inf")
    for _ in range(ATTEMPTS):
        for _ in range(ROUNDS):
            for side, session in sessions.items():
                start = time.process_time()
                session.infer()
                shortest[side] = min(shortest[side], time.process_time() - start)
        ratio = shortest["swiftdet"] / shortest["official graph"]
        if ratio <= NOISE:
            break
    return ratio


class Twice:
    """A session that does everything twice."""

    def __init__(self, session) -> None:
        self.session = session

    def infer(self) -> None:
        self.session.infer()
        self.session.infer()


def test_a_graph_that_is_slower_is_seen():
    sessions = sessions_of("damo-yolo-ns", (416, 416))
    assert lowest_ratio({**sessions, "swiftdet": Twice(sessions["swiftdet"])}) > 1.5
