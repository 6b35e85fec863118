"""swiftdet.ops.nms against a plain loop of its rule, and against torchvision where the two rules agree."""

from __future__ import annotations

import doctest
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swiftdet import _core, errors
from swiftdet.ops import nms

F = np.float32


def plain_nms(boxes, scores, classes, iou_threshold, *, class_agnostic=False, max_det=None):
    """The rule, written as a loop over float32 scalars; shares nothing with the core."""
    finite = [i for i in range(len(scores)) if np.isfinite(scores[i]) and np.isfinite(boxes[i]).all()]
    order = sorted(finite, key=lambda i: (-float(scores[i]), int(classes[i]), i))
    threshold = F(iou_threshold)
    zero = F(0)
    keep = []
    with np.errstate(all="ignore"):
        for i in order:
            if max_det is not None and len(keep) == max_det:
                break
            x1, y1, x2, y2 = boxes[i]
            area = (x2 - x1) * (y2 - y1)
            for k in keep:
                if not class_agnostic and classes[k] != classes[i]:
                    continue
                kx1, ky1, kx2, ky2 = boxes[k]
                width = max(min(x2, kx2) - max(x1, kx1), zero)
                height = max(min(y2, ky2) - max(y1, ky1), zero)
                inter = width * height
                union = (kx2 - kx1) * (ky2 - ky1) + area - inter
                if inter / union > threshold:
                    break
            else:
                keep.append(i)
    return np.array(keep, dtype=np.int64)


def iou_matrix(boxes):
    """Independent IoU in float64."""
    b = boxes.astype(np.float64)
    wh = np.clip(np.minimum(b[:, None, 2:], b[None, :, 2:]) - np.maximum(b[:, None, :2], b[None, :, :2]), 0, None)
    inter = wh.prod(-1)
    area = (b[:, 2:] - b[:, :2]).prod(-1)
    union = area[:, None] + area[None, :] - inter
    return np.divide(inter, union, out=np.zeros_like(inter), where=union > 0)


KINDS = ["random", "clusters", "grid", "identical", "ties", "degenerate", "huge", "non-finite"]


def make_case(seed, kind, count, num_classes):
    rng = np.random.default_rng(seed)
    top_left = rng.uniform(0, 600, (count, 2))
    size = rng.uniform(1, 120, (count, 2))
    if kind == "clusters":
        centres = rng.uniform(0, 600, (max(1, count // 8), 2))
        top_left = centres[rng.integers(0, len(centres), count)] + rng.normal(0, 6, (count, 2))
        size = 60 + rng.normal(0, 6, (count, 2))
    elif kind == "grid":  # integer boxes: many IoUs are exactly 1/2, 1/3, 1/4 ...
        top_left = rng.integers(0, 6, (count, 2))
        size = rng.integers(1, 5, (count, 2))
    elif kind == "identical":
        top_left = np.repeat(rng.uniform(0, 600, (1, 2)), count, axis=0)
        size = np.repeat(rng.uniform(1, 120, (1, 2)), count, axis=0)
    boxes = np.concatenate([top_left, top_left + size], axis=1).astype(np.float32)
    scores = rng.uniform(0, 1, count).astype(np.float32)
    classes = rng.integers(0, num_classes, count).astype(np.int32)
    if kind in ("grid", "identical", "ties"):
        scores = (rng.integers(0, 4, count) / 4).astype(np.float32)
    if kind == "degenerate" and count:
        boxes[::3, 2] = boxes[::3, 0]  # zero width
        boxes[1::5, 3] = boxes[1::5, 1] - 7  # negative height
        boxes[2::7] = boxes[2::7][:, [2, 3, 0, 1]]  # both extents negative: a positive area
        boxes[::4] = boxes[0]
    if kind == "huge" and count:
        boxes *= F(1e17)
        boxes[::3] *= F(1e17)  # areas overflow
    if kind == "non-finite" and count:
        values = np.array([np.nan, np.inf, -np.inf], dtype=np.float32)
        boxes[::3, 1] = values[rng.integers(0, 3, len(boxes[::3]))]
        scores[1::4] = values[rng.integers(0, 3, len(scores[1::4]))]
    return boxes, scores, classes


cases = st.builds(
    make_case,
    st.integers(0, 2**32 - 1),
    st.sampled_from(KINDS),
    st.sampled_from([0, 1, 2, 7, 8, 9, 16, 17, 40, 90]),
    st.sampled_from([1, 3, 80]),
)
# 1/2, 1/3, 0.65 ... are not float32 numbers, 0.5 and 0.25 are: both sides of exact ties.
thresholds = st.sampled_from([0.0, 0.25, 1 / 3, 0.45, 0.5, 0.65, 0.7, 1.0])


@settings(derandomize=True, deadline=None, max_examples=500)
@given(cases, thresholds, st.booleans(), st.sampled_from([None, 0, 1, 5, 300]))
def test_equals_the_plain_loop(case, iou, agnostic, max_det):
    boxes, scores, classes = case
    keep = nms(boxes, scores, classes, iou, class_agnostic=agnostic, max_det=max_det)
    assert keep.dtype == np.int64
    expected = plain_nms(boxes, scores, classes, iou, class_agnostic=agnostic, max_det=max_det)
    np.testing.assert_array_equal(keep, expected)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(cases, thresholds, st.booleans())
def test_properties(case, iou, agnostic):
    boxes, scores, classes = case
    keep = nms(boxes, scores, classes, iou, class_agnostic=agnostic)
    assert len(set(keep.tolist())) == len(keep)
    kept_scores = scores[keep]
    assert np.isfinite(kept_scores).all()
    assert np.isfinite(boxes[keep]).all()
    assert (np.diff(kept_scores) <= 0).all()
    again = nms(boxes[keep], kept_scores, classes[keep], iou, class_agnostic=agnostic)
    np.testing.assert_array_equal(again, np.arange(len(keep)))


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["random", "clusters"]), thresholds.filter(lambda t: t < 1))
def test_no_kept_pair_overlaps_and_every_loser_has_a_winner(seed, kind, iou):
    boxes, scores, classes = make_case(seed, kind, 80, 2)
    keep = nms(boxes, scores, classes, iou)
    overlap = iou_matrix(boxes)
    same = classes[:, None] == classes[None, :]
    kept = np.zeros(len(scores), dtype=bool)
    kept[keep] = True
    pair = same & kept[:, None] & kept[None, :] & ~np.eye(len(scores), dtype=bool)
    assert (overlap[pair] <= iou + 1e-6).all()
    rival = np.where(same & kept[:, None] & (scores[:, None] >= scores[None, :]), overlap, 0).max(axis=0)
    assert (rival[~kept] > iou - 1e-6).all()


@settings(derandomize=True, deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(-1000, 1000), st.integers(-1000, 1000), thresholds)
def test_integer_boxes_may_be_shifted(seed, dx, dy, iou):
    boxes, scores, classes = make_case(seed, "grid", 60, 3)
    shifted = boxes + np.array([dx, dy, dx, dy], dtype=np.float32)
    np.testing.assert_array_equal(nms(boxes, scores, classes, iou), nms(shifted, scores, classes, iou))


@settings(derandomize=True, deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(0, 12))
def test_max_det_is_a_prefix(seed, max_det):
    boxes, scores, classes = make_case(seed, "clusters", 70, 3)
    everything = nms(boxes, scores, classes, 0.5)
    np.testing.assert_array_equal(nms(boxes, scores, classes, 0.5, max_det=max_det), everything[:max_det])


def test_threshold_is_strict_and_float32():
    boxes = np.array([[0, 0, 2, 1], [0, 0, 1, 1], [10, 0, 13, 1], [10, 0, 11, 1]], dtype=np.float32)
    scores = np.array([0.9, 0.8, 0.7, 0.6], dtype=np.float32)
    classes = np.zeros(4, dtype=np.int32)
    # IoU exactly 0.5 is not above 0.5; float32(1/3) is not above float32(1/3), though it is above the double.
    assert nms(boxes, scores, classes, 0.5).tolist() == [0, 1, 2, 3]
    assert nms(boxes, scores, classes, np.nextafter(F(0.5), F(0))).tolist() == [0, 2, 3]
    assert nms(boxes, scores, classes, 1 / 3).tolist() == [0, 2, 3]
    assert float(F(1) / F(3)) > 1 / 3


def test_classes_are_any_int32():
    boxes = np.tile(np.array([[0, 0, 10, 10]], dtype=np.float32), (4, 1))
    scores = np.full(4, 0.5, dtype=np.float32)
    classes = np.array([2**31 - 1, -5, 2**31 - 1, -(2**31)])
    assert nms(boxes, scores, classes, 0.5).tolist() == [3, 1, 0]
    assert nms(boxes, scores, classes, 0.5, class_agnostic=True).tolist() == [3]


def test_negative_zero_scores_tie_with_zero():
    boxes = np.array([[0, 0, 1, 1], [5, 5, 6, 6]], dtype=np.float32)
    scores = np.array([-0.0, 0.0], dtype=np.float32)
    assert nms(boxes, scores, np.array([0, 1]), 0.5).tolist() == [0, 1]


def test_columns_of_one_array_are_accepted():
    rows = np.array([[0, 0, 10, 10, 0.5, 0], [0, 0, 10, 10, 0.9, 0]], dtype=np.float32)
    assert nms(rows[:, :4], rows[:, 4], rows[:, 5].astype(int), 0.5).tolist() == [1]


def test_many_boxes_equal_the_plain_loop():
    boxes, scores, classes = make_case(11, "clusters", 3000, 80)
    np.testing.assert_array_equal(nms(boxes, scores, classes, 0.65), plain_nms(boxes, scores, classes, 0.65))


BOXES = np.zeros((2, 4), dtype=np.float32)
SCORES = np.zeros(2, dtype=np.float32)
CLASSES = np.zeros(2, dtype=np.int32)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "words"),
    [
        (
            (BOXES.astype(np.float64), SCORES, CLASSES, 0.5),
            {},
            errors.InvalidType,
            "boxes: .*float32",
        ),
        (
            (BOXES, SCORES.astype(np.float16), CLASSES, 0.5),
            {},
            errors.InvalidType,
            "scores: .*float32",
        ),
        ((BOXES, SCORES, SCORES, 0.5), {}, errors.InvalidType, "classes: expected integers"),
        ((BOXES, SCORES, np.array([0, 2**31]), 0.5), {}, errors.InvalidArgument, "within int32"),
        ((BOXES[:, :3], SCORES, CLASSES, 0.5), {}, errors.InvalidArgument, r"boxes: expected \[K, 4\]"),
        ((BOXES.reshape(-1), SCORES, CLASSES, 0.5), {}, errors.InvalidArgument, r"boxes: expected \[K, 4\]"),
        ((BOXES, SCORES[:, None], CLASSES, 0.5), {}, errors.InvalidArgument, r"scores: expected \[K\]"),
        ((BOXES, SCORES[:1], CLASSES, 0.5), {}, errors.InvalidArgument, r"expected boxes \[K, 4\]"),
        ((BOXES, SCORES, CLASSES[:1], 0.5), {}, errors.InvalidArgument, r"expected boxes \[K, 4\]"),
        ((BOXES, SCORES, CLASSES, -0.1), {}, errors.InvalidArgument, "iou_threshold: expected"),
        ((BOXES, SCORES, CLASSES, 1.1), {}, errors.InvalidArgument, "iou_threshold: expected"),
        (
            (BOXES, SCORES, CLASSES, float("nan")),
            {},
            errors.InvalidArgument,
            "iou_threshold: expected",
        ),
        ((BOXES, SCORES, CLASSES, "0.5"), {}, errors.InvalidType, "iou_threshold: expected"),
        (
            (BOXES, SCORES, CLASSES, 0.5),
            {"max_det": -1},
            errors.InvalidArgument,
            "max_det: expected at least",
        ),
        ((BOXES, SCORES, CLASSES, 0.5), {"max_det": 1.5}, errors.InvalidType, "max_det: expected an integer"),
        ((BOXES, SCORES, CLASSES, 0.5), {"device": "gpu"}, errors.InvalidArgument, "device: expected"),
    ],
)
def test_refuses(arguments, options, error, words):
    with pytest.raises(error, match=words):
        nms(*arguments, **options)


def test_docstring_example():
    from swiftdet.ops import postprocess

    assert doctest.testmod(postprocess) == doctest.TestResults(failed=0, attempted=2)


def test_threads_agree():
    work = [make_case(seed, "clusters", 500, 5) for seed in range(8)]
    serial = [nms(*case, 0.6) for case in work]
    results = [[None] * len(work) for _ in range(4)]
    barrier = threading.Barrier(4)

    def run(out):
        barrier.wait()
        for i, case in enumerate(work):
            out[i] = nms(*case, 0.6)

    threads = [threading.Thread(target=run, args=(out,)) for out in results]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for out in results:
        for mine, expected in zip(out, serial, strict=True):
            np.testing.assert_array_equal(mine, expected)


BODIES = textwrap.dedent(
    """
    import hashlib, sys
    sys.path.insert(0, sys.argv[1])
    import numpy as np
    import test_nms
    from swiftdet import _core
    from swiftdet.ops import nms
    digest = hashlib.sha256()
    for seed in range(60):
        kind = test_nms.KINDS[seed % len(test_nms.KINDS)]
        case = test_nms.make_case(seed, kind, 40 * (seed % 9), 1 + seed % 4)
        for iou in (0.0, 0.45, 0.5, 0.7):
            digest.update(nms(*case, iou, class_agnostic=seed % 2 == 0).tobytes())
    print(_core.build_config()["active_isa"], digest.hexdigest())
    """
)


def test_forced_scalar_body_is_equal():
    from swiftdet import _core

    results = {}
    for isa in _core.build_config()["isas"]:
        run = subprocess.run(
            [sys.executable, "-c", BODIES, Path(__file__).parent],
            env={**os.environ, "SWIFTDET_FORCE_ISA": isa},
            capture_output=True,
            text=True,
            check=True,
        )
        active, digest = run.stdout.split()
        assert active == isa
        results[isa] = digest
    assert len(set(results.values())) == 1, results


TORCHVISION = textwrap.dedent(
    """
    import sys
    import numpy as np, torch, torchvision
    work = np.load(sys.argv[1])
    keeps = {}
    for name in work.files:
        if not name.startswith("boxes"):
            continue
        n = name.removeprefix("boxes")
        keep = torchvision.ops.nms(
            torch.from_numpy(work[name]), torch.from_numpy(work["scores" + n]), float(work["iou" + n])
        )
        keeps["keep" + n] = keep.numpy()
    np.savez(sys.argv[2], **keeps)
    """
)


@pytest.mark.slow
def test_equals_torchvision(tmp_path):
    """torchvision compares float IoU with a double threshold, ours with a float32 one.

    So the thresholds here are float32 numbers, for which both comparisons are the same. Its order among equal
    scores is that of a stable sort, ours is class, then index: the inputs are ordered by class and index first.
    """
    python = os.environ.get("SWIFTDET_TORCHVISION_PYTHON")
    if not python:
        pytest.skip("SWIFTDET_TORCHVISION_PYTHON names no interpreter that has torch and torchvision")
    work = {}
    ours = {}
    for n in range(300):
        kind = [k for k in KINDS if k != "non-finite"][n % 7]
        boxes, scores, classes = make_case(n, kind, 10 + n, 1 + n % 3)
        order = np.lexsort((np.arange(len(classes)), classes))
        boxes, scores, classes = boxes[order], scores[order], classes[order]
        iou = float(F([0.0, 0.25, 1 / 3, 0.45, 0.5, 0.65, 0.7][n // 7 % 7]))
        if n % 2:  # class-aware: torchvision sees one class at a time
            only = classes == 0
            boxes, scores, classes = boxes[only], scores[only], classes[only]
        work[f"boxes{n}"], work[f"scores{n}"], work[f"iou{n}"] = boxes, scores, np.float64(iou)
        ours[f"keep{n}"] = nms(boxes, scores, classes, iou, class_agnostic=n % 2 == 0)
    np.savez(tmp_path / "work.npz", **work)
    subprocess.run([python, "-c", TORCHVISION, tmp_path / "work.npz", tmp_path / "keep.npz"], check=True, timeout=250)
    theirs = np.load(tmp_path / "keep.npz")
    for name, keep in ours.items():
        np.testing.assert_array_equal(keep, theirs[name], err_msg=name)


def test_unaligned_arrays_are_taken_by_nms_and_refused_by_the_core():
    boxes = np.frombuffer(b"\0" + np.float32([[0, 0, 2, 2], [0, 0, 2, 2]]).tobytes(), np.float32, offset=1)
    boxes = boxes.reshape(2, 4)
    scores = np.float32([0.5, 0.9])
    assert not boxes.flags.aligned
    assert nms(boxes, scores, np.zeros(2, np.int32), 0.5).tolist() == [1]
    with pytest.raises(errors.InvalidType, match="aligned"):
        _core.nms(boxes, scores, np.zeros(2, np.int32), iou_threshold=0.5, class_agnostic=False, max_det=-1)
