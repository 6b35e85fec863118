"""`ops.nms` against `torchvision.ops.batched_nms`, on the same boxes and with one thread each.

Each side gets what it natively takes: NumPy arrays, torch tensors. The boxes lie in heaps around objects, as a
detector's do, with 80 classes. All survivors are asked for: torchvision's has no limit. It separates classes by moving
their boxes apart, in float32; the boxes lie on a grid of eighths on which that changes no overlap, so both sides must
keep the same ones. The clock counts processor time, which a busy machine disturbs least.
"""

from __future__ import annotations

import time

import numpy as np
import pytest

from swiftdet import ops

torch = pytest.importorskip("torch", reason="the comparison needs torch")
torchvision = pytest.importorskip("torchvision", reason="the comparison needs torchvision")

COUNTS = [300, 3000, 30000]
IOU, CLASSES = 0.7, 80
BOUND = 0.33
ROUNDS, WARMUP = 60, 5

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def candidates(count, rng):
    """Boxes [K, 4] x1 y1 x2 y2 in eighths of a px, scores [K] of which no two are equal, classes [K]."""
    objects = max(20, count // 40)
    of = rng.integers(0, objects, count)
    centres, sizes = rng.uniform(0, 640, (objects, 2))[of], rng.lognormal(3.8, 0.6, (objects, 2))[of]
    centres = centres + rng.normal(0, 0.15, (count, 2)) * sizes
    sizes = sizes * np.exp(rng.normal(0, 0.15, (count, 2)))
    corners = np.concatenate([centres - sizes / 2, centres + sizes / 2], axis=1)
    scores = (rng.permutation(count) + 1) / (count + 1)
    return (np.round(corners * 8) / 8).astype(np.float32), scores.astype(np.float32), (of % CLASSES).astype(np.int32)


@pytest.fixture(scope="module", params=COUNTS)
def case(request):
    """Name, and the calls, which keep the same boxes."""
    boxes, scores, classes = candidates(request.param, np.random.default_rng(request.param))
    tensors = [torch.from_numpy(array) for array in (boxes, scores, classes)]
    calls = {
        "swiftdet": lambda: ops.nms(boxes, scores, classes, IOU),
        "torchvision": lambda: torchvision.ops.batched_nms(*tensors, IOU),
    }
    kept = calls["swiftdet"]()
    assert 0 < len(kept) < request.param
    np.testing.assert_array_equal(kept, calls["torchvision"]().numpy())
    return f"NMS, {request.param} candidates, {len(kept)} kept", calls


@pytest.mark.benchmark(timer=time.process_time)
@pytest.mark.parametrize("side", ["swiftdet", "torchvision"])
def test_nms(benchmark, case, side):
    name, calls = case
    benchmark.extra_info.update(case=name, side=side, bound=BOUND if side == "swiftdet" else None)
    benchmark.pedantic(calls[side], rounds=ROUNDS, warmup_rounds=WARMUP)
