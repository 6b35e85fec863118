"""swiftdet.ops.decode against a decode written in NumPy, for every layout."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swiftdet import errors
from swiftdet.ops import decode
from swiftdet.spec import Head, ModelSpec, Preprocess

F = np.float32
ANCHORS = ((12, 16), (19, 36), (40, 28), (36, 75), (76, 55), (72, 146), (142, 110), (192, 243), (459, 401))

# --- an independent decode ----------------------------------------------------------------------------------


def sigmoid(x):
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-x.astype(np.float64)))


def reference_predictions(outputs, head, image):
    """(boxes [P, 4], class scores [P, C], objectness [P] or None): every prediction, nothing filtered.

    Activated layouts stay float32; raw ones are computed in float64 and rounded once.
    """
    c = head.num_classes
    outputs = [np.asarray(o)[image] for o in outputs]
    activate = (lambda x: sigmoid(x).astype(np.float32)) if head.scores_are_logits else (lambda x: x)
    if head.layout in ("rows", "columns"):
        table = outputs[0] if head.layout == "rows" else outputs[0].T
        objectness = activate(table[:, 4]) if head.has_objectness else None
        return corners(table[:, :4], head), activate(table[:, -c:]), objectness
    if head.layout == "scores_boxes":
        scores = outputs[0].T if head.scores_class_major else outputs[0]
        return corners(outputs[1].reshape(-1, 4), head), activate(scores), None
    if head.layout == "anchor_maps":
        boxes, scores, objects = [], [], []
        per_cell = len(head.anchors) // len(head.strides)
        for level, (output, stride) in enumerate(zip(outputs, head.strides, strict=True)):
            h, w = output.shape[-2:] if output.ndim == 3 else output.shape[1:3]
            cells = output.reshape(per_cell, 5 + c, h, w).transpose(0, 2, 3, 1) if output.ndim == 3 else output
            y, x = np.mgrid[:h, :w]
            s = sigmoid(cells)
            anchor = np.array(head.anchors)[level * per_cell : (level + 1) * per_cell].reshape(-1, 1, 1, 2)
            centre = (2 * s[..., :2] - 0.5 + np.stack([x, y], -1)) * stride
            size = (2 * s[..., 2:4]) ** 2 * anchor
            boxes.append(np.concatenate([centre - size / 2, centre + size / 2], -1).reshape(-1, 4))
            objects.append(s[..., 4].reshape(-1))
            scores.append(s[..., 5:].reshape(-1, c))
        stack = [np.concatenate(parts).astype(np.float32) for parts in (boxes, scores, objects)]
        return stack[0], stack[1], stack[2]
    if head.layout == "distribution_maps":
        boxes, scores = [], []
        bins = np.arange(head.reg_max + 1.0)
        for cls, reg, stride in zip(
            outputs[: len(head.strides)], outputs[len(head.strides) :], head.strides, strict=True
        ):
            h, w = cls.shape[1:]
            y, x = (g.reshape(-1) * stride for g in np.mgrid[:h, :w])
            logits = reg.astype(np.float64).reshape(4, len(bins), h * w)
            p = np.exp(logits - logits.max(1, keepdims=True))
            left, top, right, bottom = (p * bins[:, None]).sum(1) / p.sum(1) * stride
            boxes.append(np.stack([x - left, y - top, x + right, y + bottom], -1))
            scores.append(activate(cls.reshape(c, -1).T))
        return np.concatenate(boxes).astype(np.float32), np.concatenate(scores), None
    raise AssertionError(head.layout)


def corners(values, head):
    if head.box_format == "xyxy":
        return values
    centre, half = values[:, :2], values[:, 2:] / F(2)
    return np.concatenate([centre - half, centre + half], axis=1)


def reference_decode(outputs, head, conf, *, multi_label=False, classes=None, max_candidates=30000, image=0):
    """Boxes, scores, classes and prediction indices by the documented rule."""
    conf = F(conf)
    if head.layout == "detections":
        rows = outputs[0][image]
        boxes, ids = rows[:, :4], rows[:, 5]
        hit = np.flatnonzero((rows[:, 4] > conf) & np.isfinite(rows[:, 4]) & (ids >= 0) & (ids < head.num_classes))
        score, cls = rows[hit, 4], ids[hit].astype(np.int64)
    else:
        boxes, scores, objectness = reference_predictions(outputs, head, image)
        passed = np.ones(len(boxes), dtype=bool)
        with np.errstate(invalid="ignore"):
            if objectness is not None:
                passed = objectness > conf
                scores = objectness[:, None] if head.num_classes == 1 else objectness[:, None] * scores
        scores = np.where(np.isfinite(scores), scores, F(-1))
        if multi_label:
            hit, cls = np.nonzero((scores > conf) & passed[:, None])
        else:
            hit = np.flatnonzero((scores.max(1) > conf) & passed)
            cls = scores[hit].argmax(1)
        score = scores[hit, cls]
    if classes is not None:
        wanted = np.isin(cls, list(classes))
        hit, cls, score = hit[wanted], cls[wanted], score[wanted]
    order = np.lexsort((hit, cls, -score))[:max_candidates]
    order = order[np.isfinite(boxes[hit[order]]).all(1)]
    return boxes[hit[order]], score[order], cls[order].astype(np.int32), hit[order]


# --- heads and seeded outputs -------------------------------------------------------------------------------


def head_of(name, c=5):
    """(head, function of (rng, batch) -> outputs): realistic values, few predictions over the threshold."""
    strides = (8, 16, 32)
    sides = [(12, 8), (6, 4), (3, 2)]
    total = sum(h * w for h, w in sides)

    def boxes(rng, *shape):
        return np.concatenate([rng.uniform(0, 90, (*shape, 2)), rng.uniform(1, 60, (*shape, 2))], -1)

    def probabilities(rng, *shape):
        return rng.beta(0.4, 3, shape)

    def logits(rng, *shape):
        return rng.normal(-3, 2.5, shape)

    def rows(rng, batch, *, objectness, raw=False):
        score = logits if raw else probabilities
        return np.concatenate([boxes(rng, batch, total), score(rng, batch, total, c + int(objectness))], -1)

    if name == "rows":
        return Head(layout="rows", num_classes=c, outputs=("o",)), lambda r, n: [rows(r, n, objectness=False)]
    if name == "rows_objectness":
        return Head(layout="rows", num_classes=c, outputs=("o",), has_objectness=True), lambda r, n: [
            rows(r, n, objectness=True)
        ]
    if name == "columns":
        return Head(layout="columns", num_classes=c, outputs=("o",)), lambda r, n: [
            rows(r, n, objectness=False).transpose(0, 2, 1)
        ]
    if name == "columns_xyxy_logits":
        head = Head(layout="columns", num_classes=c, outputs=("o",), box_format="xyxy", scores_are_logits=True)
        return head, lambda r, n: [rows(r, n, objectness=False, raw=True).transpose(0, 2, 1)]
    if name == "columns_objectness":
        head = Head(layout="columns", num_classes=c, outputs=("o",), has_objectness=True)
        return head, lambda r, n: [rows(r, n, objectness=True).transpose(0, 2, 1)]
    if name == "rows_objectness_logits":
        head = Head(layout="rows", num_classes=c, outputs=("o",), has_objectness=True, scores_are_logits=True)
        return head, lambda r, n: [rows(r, n, objectness=True, raw=True)]
    if name.startswith("scores_boxes"):
        head = Head(
            layout="scores_boxes",
            num_classes=c,
            outputs=("s", "b"),
            box_format="xyxy",
            scores_class_major="class_major" in name,
            scores_are_logits="logits" in name,
        )
        shape = (c, total) if head.scores_class_major else (total, c)
        score = logits if head.scores_are_logits else probabilities
        extra = (1,) if "rank4" in name else ()
        return head, lambda r, n: [score(r, n, *shape), boxes(r, n, total, *extra)]
    if name.startswith("anchor_maps"):
        head = Head(layout="anchor_maps", num_classes=c, outputs=("p3", "p4", "p5"), strides=strides, anchors=ANCHORS)
        if "interleaved" in name:
            return head, lambda r, n: [logits(r, n, 3, h, w, 5 + c) for h, w in sides]
        return head, lambda r, n: [logits(r, n, 3 * (5 + c), h, w) for h, w in sides]
    if name.startswith("distribution_maps"):
        raw = "logits" in name
        head = Head(
            layout="distribution_maps",
            num_classes=c,
            outputs=("c3", "c4", "c5", "r3", "r4", "r5"),
            strides=strides,
            reg_max=16 if raw else 7,
            scores_are_logits=raw,
        )
        sides4 = 4 * (head.reg_max + 1)
        return head, lambda r, n: [
            *((logits if raw else probabilities)(r, n, c, h, w) for h, w in sides),
            *(r.normal(0, 3, (n, sides4, h, w)) for h, w in sides),
        ]
    assert name == "detections"

    def detections(rng, batch):
        table = np.concatenate([boxes(rng, batch, 40), probabilities(rng, batch, 40, 1)], -1)
        return [np.concatenate([table, rng.integers(-1, c + 1, (batch, 40, 1))], -1)]

    return Head(layout="detections", num_classes=c, outputs=("o",)), detections


HEADS = [
    "rows",
    "rows_objectness",
    "rows_objectness_logits",
    "columns",
    "columns_objectness",
    "columns_xyxy_logits",
    "scores_boxes",
    "scores_boxes_rank4",
    "scores_boxes_class_major",
    "scores_boxes_logits",
    "anchor_maps",
    "anchor_maps_interleaved",
    "distribution_maps",
    "distribution_maps_logits",
    "detections",
]


def make(name, *, seed=0, c=5, batch=2):
    head, produce = head_of(name, c)
    outputs = produce(np.random.default_rng(seed), batch)
    return head, [np.ascontiguousarray(o, dtype=np.float32) for o in outputs]


def uses_exp(head):
    return head.scores_are_logits or head.layout in ("anchor_maps", "distribution_maps")


def assert_same(got, expected, head):
    """The same candidates; scores and boxes equal, or within the rounding of exp where it is involved.

    Raw scores of the two sides may differ in the last bits, and the order with them: candidates are paired by class,
    then score.
    """
    boxes, scores, classes = got
    want_boxes, want_scores, want_classes, _ = expected
    assert boxes.dtype == np.float32
    assert scores.dtype == np.float32
    assert classes.dtype == np.int32
    assert boxes.shape == (len(scores), 4)
    assert len(scores) == len(want_scores)
    if not uses_exp(head):
        np.testing.assert_array_equal(classes, want_classes)
        np.testing.assert_array_equal(scores, want_scores)
        np.testing.assert_array_equal(boxes, want_boxes)
        return
    assert (np.diff(scores) <= 0).all()
    np.testing.assert_allclose(scores, want_scores, rtol=1e-5)
    np.testing.assert_array_equal(np.sort(classes), np.sort(want_classes))
    mine = np.lexsort((scores, classes))
    theirs = np.lexsort((want_scores, want_classes))
    np.testing.assert_allclose(scores[mine], want_scores[theirs], rtol=1e-5)
    np.testing.assert_allclose(boxes[mine], want_boxes[theirs], rtol=1e-4, atol=1e-3)


# --- equality -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("c", [1, 2, 5, 80])
@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("name", HEADS)
def test_equals_the_numpy_decode(name, multi_label, c):
    head, outputs = make(name, seed=c, c=c)
    for conf in (0.0, 0.001, 0.25, 0.6, 1.0):
        for image in (0, 1):
            expected = reference_decode(outputs, head, conf, multi_label=multi_label, image=image)
            got = decode(outputs, head, conf, multi_label=multi_label, image=image)
            assert_same(got, expected, head)
            assert conf != 0.001 or len(got[1]) > 0


@settings(derandomize=True, deadline=None, max_examples=150)
@given(
    st.sampled_from(HEADS),
    st.integers(0, 2**32 - 1),
    st.sampled_from([1, 3, 7, 8, 9, 17]),
    st.floats(0, 1, width=32),
    st.booleans(),
    st.sampled_from([1, 5, 50, 30000]),
)
def test_equals_the_numpy_decode_on_random_cases(name, seed, c, conf, multi_label, max_candidates):
    head, outputs = make(name, seed=seed, c=c, batch=1)
    if not uses_exp(head):
        for output in outputs:  # coarse values make ties
            np.round(output, 2, out=output)
    expected = reference_decode(outputs, head, conf, multi_label=multi_label, max_candidates=max_candidates)
    got = decode(outputs, head, conf, multi_label=multi_label, max_candidates=max_candidates)
    if uses_exp(head) and max_candidates < 30000:
        np.testing.assert_allclose(got[1], expected[1], rtol=1e-5)
    else:
        assert_same(got, expected, head)


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("multi_label", [False, True])
def test_class_filter(name, multi_label):
    head, outputs = make(name)
    for classes in ([2], [0, 4], [], range(5)):
        expected = reference_decode(outputs, head, 0.1, multi_label=multi_label, classes=classes)
        assert_same(decode(outputs, head, 0.1, multi_label=multi_label, classes=classes), expected, head)


@pytest.mark.parametrize("name", HEADS)
def test_max_candidates_keeps_the_first_of_the_order(name):
    head, outputs = make(name, seed=3)
    everything = decode(outputs, head, 0.001, multi_label=True)
    assert len(everything[1]) > 8
    for limit in (1, 2, 7, len(everything[1]) // 2, len(everything[1]) + 1):
        some = decode(outputs, head, 0.001, multi_label=True, max_candidates=limit)
        for part, whole in zip(some, everything, strict=True):
            np.testing.assert_array_equal(part, whole[:limit])


def test_dense_ties_are_ordered_by_class_then_prediction():
    scores = np.full((1, 3, 50), 0.5, dtype=np.float32)
    boxes = np.zeros((1, 50, 4), dtype=np.float32)
    boxes[0, :, 0] = np.arange(50)
    head = Head(layout="scores_boxes", num_classes=3, outputs=("s", "b"), box_format="xyxy", scores_class_major=True)
    for limit in (10, 70, 1000):
        got_boxes, _, classes = decode([scores, boxes], head, 0.1, multi_label=True, max_candidates=limit)
        order = [(cls, anchor) for cls in range(3) for anchor in range(50)][:limit]
        assert list(zip(classes.tolist(), got_boxes[:, 0].astype(int).tolist(), strict=True)) == order


def test_best_class_ties_take_the_lower_class():
    row = np.zeros((1, 1, 8), dtype=np.float32)
    row[0, 0, 4:] = [0.2, 0.7, 0.7, 0.1]
    head = Head(layout="rows", num_classes=4, outputs=("o",))
    assert decode([row], head, 0.1)[2].tolist() == [1]
    # Rounding of the product makes a tie of two different class values; the lower class has it.
    objectness, lower, higher = F(0.3), F(0.9), np.nextafter(F(0.9), F(1))
    while objectness * lower != objectness * higher:
        lower, higher = higher, np.nextafter(higher, F(1))
    row = np.array([[[1, 1, 1, 1, objectness, 0, lower, higher]]], dtype=np.float32)
    head = Head(layout="rows", num_classes=3, outputs=("o",), has_objectness=True)
    assert decode([row], head, 0.1)[2].tolist() == [1]


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("multi_label", [False, True])
def test_non_finite_values_are_dropped(name, multi_label):
    head, outputs = make(name, seed=5, batch=1)
    rng = np.random.default_rng(1)
    raw = uses_exp(head)
    for output in outputs:
        # A logit of +inf is a score of 1, by the contract; here only NaN goes into raw heads.
        values = np.array([np.nan] if raw else [np.nan, np.inf, -np.inf], dtype=np.float32)
        flat = output.reshape(-1)
        flat[rng.integers(0, flat.size, flat.size // 40)] = values[rng.integers(0, len(values), flat.size // 40)]
    with np.errstate(invalid="ignore"):
        expected = reference_decode(outputs, head, 0.05, multi_label=multi_label)
    got = decode(outputs, head, 0.05, multi_label=multi_label)
    assert np.isfinite(got[0]).all()
    assert np.isfinite(got[1]).all()
    assert len(got[1]) > 0
    assert_same(got, expected, head)


def test_infinite_logits_are_scores_of_one_and_zero():
    logits = np.array([[[np.inf, -np.inf, 0.0]]], dtype=np.float32)
    head = Head(
        layout="scores_boxes",
        num_classes=1,
        outputs=("s", "b"),
        scores_class_major=True,
        scores_are_logits=True,
    )
    assert decode([logits, np.zeros((1, 3, 4), F)], head, 0.0)[1].tolist() == [1.0, 0.5]


def test_the_threshold_is_strict_and_exact_in_logit_space():
    x = np.linspace(-12, 12, 20001, dtype=np.float32)
    head = Head(
        layout="scores_boxes",
        num_classes=1,
        outputs=("s", "b"),
        scores_class_major=True,
        scores_are_logits=True,
    )
    outputs = [x.reshape(1, 1, -1), np.zeros((1, x.size, 4), dtype=np.float32)]
    scores = decode(outputs, head, 0.0)[1][::-1]  # our own sigmoid of every x, ascending like x
    assert scores.size == x.size
    for at in (5, 77, 4000, 10000, 10001, 15000, 19990):
        conf = float(scores[at])
        assert decode(outputs, head, conf)[1].size == int((scores > scores[at]).sum())
        below = float(np.nextafter(scores[at], F(0)))
        assert decode(outputs, head, below)[1].size == int((scores >= scores[at]).sum())


def test_decoding_an_encoded_box_returns_it():
    rng = np.random.default_rng(9)
    for stride, anchor, cell in ((8, ANCHORS[1], (3, 5)), (16, ANCHORS[4], (2, 1)), (32, ANCHORS[8], (1, 0))):
        head = Head(layout="anchor_maps", num_classes=2, outputs=("p",), strides=(stride,), anchors=(anchor,))
        centre = (np.array(cell[::-1]) + rng.uniform(-0.4, 1.4, 2)) * stride
        size = np.array(anchor) * rng.uniform(0.1, 3.9, 2)
        inside = (centre / stride - cell[::-1] + 0.5) / 2
        scale = np.sqrt(size / anchor) / 2
        output = np.full((1, 7, 4, 6), -20.0, dtype=np.float32)
        output[0, :, cell[0], cell[1]] = [
            *np.log(inside / (1 - inside)),
            *np.log(scale / (1 - scale)),
            20,
            -20,
            20,
        ]
        boxes, scores, classes = decode([output], head, 0.5)
        np.testing.assert_allclose(boxes, [[*(centre - size / 2), *(centre + size / 2)]], rtol=1e-5, atol=1e-3)
        assert scores[0] > 0.999
        assert classes.tolist() == [1]


def test_decoding_an_encoded_distance_returns_it():
    distances = np.array([0.0, 2.25, 7.5, 16.0])
    reg = np.full((1, 4, 17, 3, 4), -1000.0, dtype=np.float32)
    for side, d in enumerate(distances):
        low = int(d)
        reg[0, side, low, 1, 2] = np.log(max(1 - (d - low), 1e-30))
        if d > low:
            reg[0, side, low + 1, 1, 2] = np.log(d - low)
    scores = np.zeros((1, 3, 3, 4), dtype=np.float32)
    scores[0, 1, 1, 2] = 0.75
    head = Head(layout="distribution_maps", num_classes=3, outputs=("c", "r"), strides=(16,), reg_max=16)
    boxes, got, classes = decode([scores, reg.reshape(1, 68, 3, 4)], head, 0.5)
    x, y = 2 * 16, 1 * 16  # the cell's corner: no half-cell offset
    left, top, right, bottom = distances * 16
    np.testing.assert_allclose(boxes, [[x - left, y - top, x + right, y + bottom]], rtol=1e-6, atol=1e-4)
    assert (got.tolist(), classes.tolist()) == ([0.75], [1])


def test_anchor_forms_agree():
    head, planar = make("anchor_maps", seed=2)
    interleaved = [
        np.ascontiguousarray(o.reshape(o.shape[0], 3, 10, *o.shape[2:]).transpose(0, 1, 3, 4, 2)) for o in planar
    ]
    for multi_label in (False, True):
        for a, b in zip(
            decode(planar, head, 0.01, multi_label=multi_label),
            decode(interleaved, head, 0.01, multi_label=multi_label),
            strict=True,
        ):
            np.testing.assert_array_equal(a, b)


def test_batch_position_does_not_matter():
    for name in HEADS:
        head, outputs = make(name, batch=3)
        for image in range(3):
            alone = decode([o[image : image + 1].copy() for o in outputs], head, 0.01, multi_label=True)
            for a, b in zip(decode(outputs, head, 0.01, multi_label=True, image=image), alone, strict=True):
                np.testing.assert_array_equal(a, b)


def test_empty_outputs_give_empty_results():
    head = Head(layout="columns", num_classes=2, outputs=("o",))
    boxes, scores, classes = decode([np.zeros((1, 6, 0), dtype=np.float32)], head, 0.25)
    assert (boxes.shape, scores.shape, classes.shape) == ((0, 4), (0,), (0,))


def test_outputs_by_name_and_model_spec():
    head, outputs = make("scores_boxes")
    spec = ModelSpec(
        family="damo-yolo",
        names=tuple("abcde"),
        imgsz=(96, 64),
        stride=32,
        preprocess=Preprocess(),
        head=head,
    )
    named = {"b": outputs[1], "ignored": np.zeros(3), "s": outputs[0]}
    for a, b in zip(decode(named, spec, 0.1), decode(outputs, head, 0.1), strict=True):
        np.testing.assert_array_equal(a, b)


# --- refusals -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("conf", [-1e-9, 1.0000001, float("nan"), float("inf")])
def test_refuses_thresholds(conf):
    head, outputs = make("rows")
    with pytest.raises(errors.InvalidArgument, match="conf: expected"):
        decode(outputs, head, conf)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"image": 2}, errors.InvalidArgument, "below the batch of 2, got 2"),
        ({"image": -1}, errors.InvalidArgument, "image: expected at least 0"),
        ({"max_candidates": 0}, errors.InvalidArgument, "max_candidates: expected at least 1"),
        ({"max_candidates": True}, errors.InvalidType, "max_candidates: expected an integer"),
        ({"classes": [5]}, errors.InvalidArgument, "ids from 0 to 4, got 5"),
        ({"classes": ["person"]}, errors.InvalidType, "classes: expected an integer"),
        ({"classes": "person"}, errors.InvalidType, "classes: expected class ids"),
        ({"device": "tpu"}, errors.InvalidArgument, "device: expected"),
    ],
)
def test_refuses_options(options, error, words):
    head, outputs = make("rows")
    with pytest.raises(error, match=words):
        decode(outputs, head, 0.25, **options)


def test_refuses_arrays_of_another_kind():
    head, (output,) = make("rows")
    with pytest.raises(errors.InvalidType, match="'o': expected a C-contiguous, aligned float32 array, got float64"):
        decode([output.astype(np.float64)], head, 0.25)
    with pytest.raises(errors.InvalidType, match="C-contiguous"):
        decode([output[:, ::2]], head, 0.25)
    with pytest.raises(errors.InvalidType, match="wrap a single output in a list"):
        decode(output, head, 0.25)
    with pytest.raises(errors.InvalidArgument, match="expected 1"):
        decode([output, output], head, 0.25)
    with pytest.raises(errors.InvalidArgument, match="o missing among p"):
        decode({"p": output}, head, 0.25)
    with pytest.raises(errors.InvalidType, match="ModelSpec or Head"):
        decode([output], "yolov7", 0.25)


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("rows", {"has_objectness": True}, r"'o': expected \[N, P, 10\], got \[2, 126, 9\]"),
        ("columns", {"num_classes": 6}, r"'o': expected \[N, 10, P\], got \[2, 9, 126\]"),
        ("scores_boxes", {"scores_class_major": True}, r"'s': expected scores \[N, 5, P\]"),
        ("scores_boxes", {"has_objectness": True}, "has_objectness belongs to"),
        ("anchor_maps", {"num_classes": 4}, r"'p3': expected \[N, 27, h, w\] or \[N, 3, h, w, 9\]"),
        ("anchor_maps", {"anchors": ANCHORS[:8]}, "same number of"),
        ("anchor_maps", {"anchors": (*ANCHORS[:8], (0, 1))}, "positive and finite"),
        ("anchor_maps", {"strides": (8, 32, 16)}, "ascending"),
        (
            "anchor_maps",
            {"strides": (8, 16, 64)},
            "'p5': expected a map of stride 64 that covers the same input",
        ),
        ("distribution_maps", {"reg_max": 16}, r"'r3': expected distances \[N, 68, h, w\]"),
        ("distribution_maps", {"reg_max": 0}, "reg_max must be"),
        ("distribution_maps", {"strides": ()}, "one to eight levels"),
        (
            "detections",
            {"layout": "rows", "num_classes": 80},
            r"'o': expected \[N, P, 84\], got \[2, 40, 6\]",
        ),
        ("rows", {"num_classes": 0}, "num_classes must be"),
    ],
)
def test_refuses_outputs_that_do_not_fit(name, change, words):
    head, outputs = make(name)
    with pytest.raises(errors.ModelError, match=words):
        decode(outputs, replace(head, **change), 0.25)


def test_refuses_swapped_levels_and_batches():
    head, outputs = make("anchor_maps")
    with pytest.raises(errors.ModelError, match="covers the same input"):
        decode(outputs[::-1], head, 0.25)
    with pytest.raises(errors.ModelError, match="with the N of 'p3'"):
        decode([outputs[0], outputs[1][:1], outputs[2]], head, 0.25)
    head, (scores, boxes) = make("scores_boxes")
    with pytest.raises(errors.ModelError, match=r"'b': expected boxes \[N, P, 4\]"):
        decode([scores, boxes[:, :-1].copy()], head, 0.25)


# --- bodies -------------------------------------------------------------------------------------------------

BODIES = textwrap.dedent(
    """
    import hashlib, sys
    sys.path.insert(0, sys.argv[1])
    import test_decode
    from swiftdet import _core
    from swiftdet.ops import decode
    digest = hashlib.sha256()
    for seed, name in enumerate(test_decode.HEADS):
        for c in (1, 3, 8, 19, 80):
            head, outputs = test_decode.make(name, seed=seed, c=c)
            for conf in (0.0, 0.001, 0.3):
                for multi_label in (False, True):
                    for array in decode(outputs, head, conf, multi_label=multi_label, image=1):
                        digest.update(array.tobytes())
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
