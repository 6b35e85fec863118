"""Letterbox to 640x640 float32 planes, one thread, against OpenCV and NumPy with every output allocated beforehand.

Two peers. "opencv + numpy" is the chain as detectors write it: cv2.resize, cv2.copyMakeBorder, then one division of the
swapped and transposed view into its place; the bounds are for this one. "opencv, split first" takes the planes apart
with cv2.split and divides each, the fastest of the formulations tried. Each side runs its rounds in a row, so all find
their buffers where the call before left them. The clock counts processor time, which a busy machine disturbs least.
"""

from __future__ import annotations

import time

import numpy as np
import pytest

from swiftdet import ops

cv2 = pytest.importorskip("cv2", reason="OpenCV is the peer")

NET = 640
CASES = [
    # interpolation, width, height, largest ratio of the medians that we promise
    ("linear", 1920, 1080, 0.33),  # every weight is 0 or 1: the factor is exactly 3
    ("linear", 1280, 720, 0.33),  # exactly halved
    ("linear", 1366, 768, 0.45),
    ("linear", 2592, 1944, 0.45),
    ("linear", 3840, 2160, 0.45),
    ("linear", 640, 480, None),  # nothing to resample
    ("area", 1920, 1080, None),
    ("area", 1366, 768, None),
    ("area", 2592, 1944, None),
]
PEERS = {"opencv + numpy": False, "opencv, split first": True}
ROUNDS, WARMUP = 200, 10


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    yield
    cv2.setNumThreads(before)


def make_our_call(image, interpolation):
    out = np.empty((3, NET, NET), np.float32)

    def call():
        ops.letterbox(image, (NET, NET), interpolation=interpolation, out=out)

    return call, out


def make_their_call(image, interpolation, *, split):
    height, width = image.shape[:2]
    ratio = min(NET / height, NET / width)
    size = new_width, new_height = round(width * ratio), round(height * ratio)
    left, top = (NET - new_width) // 2, (NET - new_height) // 2
    right, bottom = NET - new_width - left, NET - new_height - top
    flag = {"linear": cv2.INTER_LINEAR, "area": cv2.INTER_AREA}[interpolation]
    resized = np.empty((new_height, new_width, 3), np.uint8)
    bordered = np.empty((NET, NET, 3), np.uint8)
    planes = [np.empty((NET, NET), np.uint8) for _ in range(3)]
    out = np.empty((3, NET, NET), np.float32)
    divisor = np.float32(255)
    grey = (114, 114, 114)

    def call():
        small = image
        if size != (width, height):
            small = cv2.resize(image, size, dst=resized, interpolation=flag)
        cv2.copyMakeBorder(small, top, bottom, left, right, cv2.BORDER_CONSTANT, dst=bordered, value=grey)
        if not split:
            np.divide(bordered[:, :, ::-1].transpose(2, 0, 1), divisor, out=out)
            return
        cv2.split(bordered, planes)
        for channel in range(3):
            np.divide(planes[2 - channel], divisor, out=out[channel])

    return call, out


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0]}-{case[1]}x{case[2]}")
def case(request):
    """Name, both calls with their answers compared, and the bound."""
    interpolation, width, height, bound = request.param
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    ours, our_out = make_our_call(image, interpolation)
    ours()
    theirs = {}
    for side, split in PEERS.items():
        theirs[side], their_out = make_their_call(image, interpolation, split=split)
        theirs[side]()
        assert np.array_equal(our_out, their_out)
    return f"letterbox ({interpolation}), {width}x{height} -> {NET}x{NET}", ours, theirs, bound


@pytest.mark.benchmark(group="letterbox", timer=time.process_time)
def test_swiftdet(benchmark, case):
    name, ours, _, bound = case
    benchmark.extra_info.update(case=name, side="swiftdet", bound=bound)
    benchmark.pedantic(ours, rounds=ROUNDS, warmup_rounds=WARMUP)


@pytest.mark.benchmark(group="letterbox", timer=time.process_time)
@pytest.mark.parametrize("side", PEERS)
def test_opencv(benchmark, case, side):
    name, _, theirs, _ = case
    # The bound is for the chain as it is usually written.
    benchmark.extra_info.update(case=name, side=side, bound=None, unbounded=PEERS[side])
    benchmark.pedantic(theirs[side], rounds=ROUNDS, warmup_rounds=WARMUP)
