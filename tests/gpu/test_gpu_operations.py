"""swiftdet.ops on a real GPU against the CPU, bit for bit. Needs the package built with CUDA; no TensorRT."""

from __future__ import annotations

import os

import pytest

pytestmark = pytest.mark.gpu_cuda

np = pytest.importorskip("numpy")
CASES = 200
SIDES = [(40, 24), (20, 12), (10, 6)]  # of the levels of a head


@pytest.fixture(scope="module")
def ops():
    """The operations, where the package has its CUDA part: a host that runs the programs alone needs no package."""
    package = pytest.importorskip("swiftdet", reason="swiftdet is not installed")
    from swiftdet import device_policy

    broken = next((link for link in device_policy.chain()[:3] if not link.ok), None)  # driver, device, CUDA part
    if broken is not None:
        promised = "SWIFTDET_REQUIRE_GPU" in os.environ and broken.name != "CUDA part"
        (pytest.fail if promised else pytest.skip)(f"{broken.name}: {broken.detail}")
    return package.ops


def assert_same_bits(a, b):
    for one, other in zip(*((x if isinstance(x, tuple) else (x,)) for x in (a, b)), strict=True):
        if not isinstance(one, np.ndarray):
            assert one == other
            continue
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        assert one.tobytes() == other.tobytes()


def on_both(function, *arguments, **options):
    """What both say; fails where they differ."""
    on_gpu = function(*arguments, device="cuda", **options)
    assert_same_bits(on_gpu, function(*arguments, device="cpu", **options))
    return on_gpu


@pytest.mark.parametrize("interpolation", ["linear", "area"])
def test_resize_and_letterbox(ops, interpolation):
    rng = np.random.default_rng(1)
    for case in range(CASES):
        channels = (1, 3, 4)[case % 3]
        image = rng.integers(0, 256, (*rng.integers(1, 300, 2), channels), dtype=np.uint8)[:: 1 - 2 * (case % 2)]
        to = tuple(int(side) for side in rng.integers(1, 300, 2))
        on_both(ops.resize, image, to, interpolation=interpolation)
        mode = ("letterbox", "letterbox-topleft", "stretch")[case % 3]
        for dtype in ("float32", "uint8"):
            on_both(ops.letterbox, image, to, mode=mode, interpolation=interpolation, dtype=dtype)
        on_both(ops.letterbox, image, to, mode=mode, divisor=1.0, mean=(103.5, 116.3, 123.7), std=(57.4, 57.1, 58.4))


def test_nms(ops):
    rng = np.random.default_rng(2)
    kept = 0
    for case in range(CASES):
        count = int(rng.integers(0, 3000))
        corner = rng.uniform(0, 300, (count, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(1, 90, (count, 2))], axis=1).astype(np.float32)
        scores = np.round(rng.uniform(0, 1, count), 2 + case % 5).astype(np.float32)  # with ties and without
        boxes[rng.uniform(0, 1, boxes.shape) < 0.001] = np.nan
        classes = rng.integers(0, 5, count).astype(np.int32)
        options = {"class_agnostic": bool(case % 2), "max_det": (None, 0, 7, 300)[case % 4]}
        kept += len(on_both(ops.nms, boxes, scores, classes, float(rng.uniform(0, 1)), **options))
    assert kept > CASES


@pytest.mark.parametrize("logits", [False, True])
@pytest.mark.parametrize("layout", ["rows", "columns", "scores_boxes", "anchor_maps", "distribution_maps"])
def test_decode(ops, layout, logits):
    from swiftdet.spec import Head

    rng = np.random.default_rng(3)
    c, strides = 6, (8, 16, 32)
    total = sum(h * w for h, w in SIDES)

    def scores(*shape):
        values = rng.normal(-3, 2.5, shape) if logits or layout == "anchor_maps" else rng.beta(0.4, 3, shape)
        values[rng.uniform(0, 1, shape) < 0.001] = np.nan
        return values.astype(np.float32)

    def numbers(*shape):
        return rng.uniform(1, 90, shape).astype(np.float32)

    kind = {"num_classes": c, "scores_are_logits": logits}
    if layout == "rows":
        head = Head(layout="rows", outputs=("o",), has_objectness=True, **kind)
        outputs = [np.concatenate([numbers(2, total, 4), scores(2, total, 1 + c)], axis=2)]
    elif layout == "columns":
        head = Head(layout="columns", outputs=("o",), **kind)
        outputs = [np.concatenate([numbers(2, 4, total), scores(2, c, total)], axis=1)]
    elif layout == "scores_boxes":
        head = Head(layout="scores_boxes", outputs=("s", "b"), box_format="xyxy", **kind)
        outputs = [scores(2, total, c), numbers(2, total, 4)]
    elif layout == "anchor_maps":
        anchors = tuple((float(a), float(b)) for a, b in rng.uniform(4, 300, (9, 2)))
        head = Head(layout="anchor_maps", num_classes=c, outputs=("a", "b", "c"), strides=strides, anchors=anchors)
        outputs = [scores(2, 3 * (5 + c), h, w) for h, w in SIDES]
    else:
        head = Head(layout="distribution_maps", outputs=tuple("abcdef"), strides=strides, reg_max=16, **kind)
        outputs = [scores(2, c, h, w) for h, w in SIDES]
        outputs += [rng.normal(0, 3, (2, 68, h, w)).astype(np.float32) for h, w in SIDES]
    found = 0
    for conf in (0.0, 0.001, 0.25, 0.7):
        for multi_label in (False, True):
            for limit in (30000, 100):
                options = {"multi_label": multi_label, "max_candidates": limit, "image": 1}
                found += len(on_both(ops.decode, outputs, head, conf, **options)[1])
                on_both(ops.decode, outputs, head, conf, classes=[0, 4], **options)
    assert found > 100
