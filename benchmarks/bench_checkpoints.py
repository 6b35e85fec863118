"""Reading a checkpoint: `checkpoints.load`, which interprets the pickle itself, against `torch.load`.

The file is YOLOv7's state dict as torch saves it, with made-up values. torch is asked for `weights_only=True`, its own
safe way. swiftdet compares the checksum of every part and torch does not (a turned-over bit goes unseen), so torch has
less to do; there is no bound, as a checkpoint is read once. The file comes from the page cache on both sides, and
the clock counts processor time.
"""

from __future__ import annotations

import time

import numpy as np
import pytest

import network_states
from swiftdet import checkpoints

torch = pytest.importorskip("torch", reason="torch is the peer")

VARIANT = "yolov7"
ROUNDS, WARMUP = 15, 1


@pytest.fixture(scope="module")
def calls(tmp_path_factory):
    state = network_states.state_of(VARIANT, network_states.random_fill)
    path = tmp_path_factory.mktemp("checkpoint") / "yolov7.pt"
    torch.save({"model": {key: torch.from_numpy(np.asarray(value)) for key, value in state.items()}}, path)
    both = {
        "swiftdet": lambda: checkpoints.load(path),
        "torch": lambda: torch.load(path, weights_only=True)["model"],
    }
    ours, theirs = (call() for call in both.values())
    assert list(ours) == list(theirs) == list(state)
    for key, value in state.items():
        np.testing.assert_array_equal(ours[key], value)
        np.testing.assert_array_equal(theirs[key].numpy(), value)
    return both


@pytest.mark.benchmark(timer=time.process_time)
@pytest.mark.parametrize("side", ["swiftdet", "torch"])
def test_load(benchmark, calls, side):
    benchmark.extra_info.update(case=f"read the checkpoint of {VARIANT}", side=side, bound=None)
    benchmark.pedantic(calls[side], rounds=ROUNDS, warmup_rounds=WARMUP)
