"""How two sides are compared: matching, what is set aside, figures and gates, against plain loops."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import plain_verification as plain
from swiftdet import measurements
from swiftdet.errors import InvalidArgument, InvalidType
from swiftdet.verification.comparison import Tolerance, compare
from swiftdet.verification.figures import Figures, gated, percentile
from swiftdet.verification.gates import ENOUGH_PAIRS, TITLES, TOLERANCES, GateOutcome, Gates, judge, tolerance_for
from swiftdet.verification.matching import Found, match, overlaps
from swiftdet.verification.worst import Worst

CONF = 0.25
SAME = Tolerance(CONF, 0.01, 0.5)
NO_SCALE = np.ones(4)


def found(*detections) -> Found:
    """Of (box, score, class)."""
    return Found(
        np.array([d[0] for d in detections], dtype=np.float64).reshape(-1, 4),
        np.array([d[1] for d in detections], dtype=np.float64),
        np.array([d[2] for d in detections], dtype=np.int64),
    )


def compared(reference, test, offered=((), ()), *, scale=NO_SCALE, tolerance=SAME):
    """Compares; what NMS suppressed is `offered` beside what was found."""
    proposals = {
        "reference": found(*reference, *offered[0]),
        "test": found(*test, *offered[1]),
    }
    return compare(
        found(*reference), found(*test), scale=scale, tolerance=tolerance, proposals=lambda side: proposals[side]
    )


def groups(comparison):
    return [
        {name: getattr(outcome, name).tolist() for name in ("paired", "flipped", "nms", "alone")}
        for outcome in comparison.outcomes
    ]


BOX = (10.0, 10.0, 30.0, 30.0)
FAR = (40.0, 10.0, 60.0, 30.0)


def beside(box, px):
    return tuple(side + px for side in box)


# --- against plain loops --------------------------------------------------------------------------------------------

coordinates = st.integers(0, 6).map(lambda n: n * 6.0)
boxes = st.builds(lambda x, y, w, h: (x, y, x + w, y + h), coordinates, coordinates, coordinates, coordinates)
scores = st.sampled_from([0.242, 0.246, 0.249, 0.251, 0.253, 0.258, 0.265, 0.3, 0.6, 0.9])
detections = st.lists(st.tuples(boxes, scores, st.integers(0, 1)), max_size=6)


@st.composite
def altered(draw, side):
    """The same detections in another order, some moved, of another score or class, some missing, some more."""
    result = []
    for box, score, cls in draw(st.permutations(side)):
        px, step = draw(st.sampled_from([0.0, 0.0, 0.25, 2.0])), draw(st.sampled_from([0.0, 0.0, 0.004, -0.02]))
        if draw(st.integers(0, 4)):
            result.append((beside(box, px), score + step, cls ^ (draw(st.integers(0, 5)) == 0)))
    return result + draw(st.lists(st.tuples(boxes, scores, st.integers(0, 1)), max_size=2))


@st.composite
def two_sides(draw):
    """What two detectors found, and what else their networks proposed."""
    reference = draw(detections)
    test = draw(altered(reference))
    return reference, test, (draw(altered(test)), draw(altered(reference)))


def test_a_comparison_equals_plain_loops():
    seen = Counter()

    @settings(max_examples=200)
    @given(two_sides(), st.sampled_from([0.4, 1.0, 2.5]))
    def check(sides, scale):
        reference, test, more = sides
        scales = np.array([scale, 1.0, scale, 1.0])
        result = compared(reference, test, more, scale=scales)
        offered = reference + more[0], test + more[1]
        expected = plain.compare(
            reference, test, offered, conf=CONF, score=SAME.score, box_px=SAME.box_px, scale=scales.tolist()
        )
        assert groups(result) == expected["groups"]
        assert [tuple(pair) for pair in result.pairs.tolist()] == expected["pairs"]
        assert [tuple(pair) for pair in result.flips.tolist()] == expected["flips"]
        errors = np.stack([result.box_errors, result.score_errors], axis=1)
        np.testing.assert_allclose(errors, np.array(expected["errors"]).reshape(-1, 2), rtol=1e-12, atol=0)
        seen.update(name for group in expected["groups"] for name, rows in group.items() if rows)

    check()
    assert min(seen[name] for name in ("paired", "flipped", "nms", "alone")) > 20, seen


@given(detections, detections)
def test_every_detection_is_in_one_group(reference, test):
    result = compared(reference, test)
    for side, outcome in zip(result.found, result.outcomes, strict=True):
        rows = np.concatenate([outcome.paired, outcome.flipped, outcome.nms, outcome.alone])
        assert sorted(rows.tolist()) == np.flatnonzero(side.conf > CONF).tolist()
        assert outcome.counted == len(rows)


@given(detections)
def test_a_side_agrees_with_itself(side):
    result = compared(side, side)
    assert [outcome.counted for outcome in result.outcomes] == [len(outcome.paired) for outcome in result.outcomes]
    assert result.box_errors.max(initial=0.0) == result.score_errors.max(initial=0.0) == 0.0
    assert result.unmatched == 0


@given(detections, detections)
def test_overlaps_equal_a_plain_loop(first, second):
    result = overlaps(found(*first).xyxy, found(*second).xyxy)
    expected = [[plain.overlap(a[0], b[0]) for b in second] for a in first]
    np.testing.assert_allclose(result, np.array(expected).reshape(len(first), len(second)), rtol=1e-12, atol=0)


@given(st.lists(st.lists(st.sampled_from([0.3, 0.5, 0.6, 0.9]), min_size=3, max_size=3), max_size=5))
def test_equal_overlaps_are_taken_in_order(rows):
    overlap = np.array(rows, dtype=np.float64).reshape(len(rows), 3)
    pairs = match(overlap, np.ones(overlap.shape, dtype=bool), 0.5)
    expected, left = [], {(i, j) for i in range(len(rows)) for j in range(3) if overlap[i, j] >= 0.5}
    while left:
        best = min(left, key=lambda ij: (-overlap[ij], ij))
        expected.append(list(best))
        left = {(i, j) for i, j in left if i != best[0] and j != best[1]}
    assert pairs.tolist() == sorted(expected)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=300), st.sampled_from([50, 90, 99, 100]))
def test_a_percentile_is_one_of_the_values(values, percent):
    assert percentile(np.array(values), percent) == plain.percentile(values, percent)


def test_the_99th_of_a_hundred_leaves_one_out():
    assert percentile(np.arange(1.0, 101.0), 99) == 99.0
    assert percentile(np.arange(1.0, 100.0), 99) == 99.0
    assert percentile(np.empty(0), 99) is None


# --- what is no failure ---------------------------------------------------------------------------------------------


def test_a_score_a_hair_below_the_threshold_is_found():
    result = compared([(BOX, 0.251, 0)], [(BOX, 0.249, 0)])
    assert groups(result) == [
        {"paired": [0], "flipped": [], "nms": [], "alone": []},
        {"paired": [], "flipped": [], "nms": [], "alone": []},
    ]
    assert result.score_errors.tolist() == pytest.approx([0.002])


def test_a_score_far_below_the_threshold_is_missed():
    assert SAME.lowest == pytest.approx(0.24)
    assert groups(compared([(BOX, 0.3, 0)], []))[0]["alone"] == [0]


def test_what_is_below_the_threshold_on_both_sides_is_not_counted():
    result = compared([(BOX, 0.249, 0), (FAR, 0.245, 0)], [(BOX, 0.249, 0)])
    assert len(result.pairs) == 0
    assert [outcome.counted for outcome in result.outcomes] == [0, 0]


def test_the_band_is_no_wider_than_half_of_the_threshold():
    wide = Tolerance(0.05, 0.2, 1.0)
    assert (wide.lowest, wide.lowest_proposed) == (0.025, 0.0125)
    assert Tolerance(0.0, 0.2, 1.0).lowest == 0.0


def test_a_box_that_nms_alone_left_out_is_set_aside():
    """The test's network proposes the second box as well; its NMS kept only the first."""
    near = beside(BOX, 4.0)
    result = compared([(BOX, 0.9, 0), (near, 0.8, 0)], [(BOX, 0.9, 0)], ((), [(beside(near, 0.1), 0.801, 0)]))
    assert groups(result)[0] == {"paired": [0], "flipped": [], "nms": [1], "alone": []}


def test_a_box_that_the_other_network_lacks_is_alone():
    near = beside(BOX, 4.0)
    for wrong in ((beside(near, 1.0), 0.8, 0), (near, 0.7, 0), (near, 0.8, 1)):
        result = compared([(BOX, 0.9, 0), (near, 0.8, 0)], [(BOX, 0.9, 0)], ((), [wrong]))
        assert groups(result)[0]["alone"] == [1]


def test_two_boxes_that_both_networks_propose_are_no_pair():
    """One NMS kept the one, the other the other: their distance is no error of the network."""
    near = beside(BOX, 2.0)
    result = compared([(BOX, 0.8, 0)], [(near, 0.8, 0)], ([(near, 0.799, 0)], [(BOX, 0.799, 0)]))
    assert len(result.pairs) == 0
    assert [outcome["nms"] for outcome in groups(result)] == [[0], [0]]


def test_a_box_that_moved_stays_a_pair_with_its_error():
    result = compared([(BOX, 0.8, 0)], [(beside(BOX, 2.0), 0.8, 0)])
    assert result.box_errors.tolist() == [2.0]
    result = compared([(BOX, 0.8, 0)], [(beside(BOX, 2.0), 0.8, 0)], ([], [(BOX, 0.799, 0)]))
    assert result.box_errors.tolist() == [2.0], "proposed by one network alone"


def test_proposals_are_asked_for_only_where_something_differs():
    asked = []

    def ask(side):
        asked.append(side)
        return found()

    def run(test):
        compare(found((BOX, 0.8, 0)), found(*test), scale=NO_SCALE, tolerance=SAME, proposals=ask)

    run([(beside(BOX, 0.4), 0.795, 0)])
    assert asked == []
    run([])
    assert asked == ["test"]


def test_another_class_at_the_same_place_is_a_flip():
    result = compared([(BOX, 0.8, 0), (FAR, 0.9, 1)], [(beside(BOX, 1.0), 0.7, 1)])
    assert result.flips.tolist() == [[0, 0]]
    assert groups(result) == [
        {"paired": [], "flipped": [0], "nms": [], "alone": [1]},
        {"paired": [], "flipped": [0], "nms": [], "alone": []},
    ]
    assert result.unmatched == 3


def test_boxes_without_area_are_matched():
    """Clipped to the edge of the image, they have no area and no IoU of their own."""
    edge = (0.0, 5.0, 0.0, 20.0)
    assert len(compared([(edge, 0.8, 0)], [(beside(edge, 0.01), 0.8, 0)]).pairs) == 1


# --- figures and gates ----------------------------------------------------------------------------------------------


def measured_of(*comparisons, raw=None, accuracy=None):
    figures = Figures()
    for comparison in comparisons:
        figures.add(comparison)
    return {**figures.summary(), "raw_outputs": raw or {"reference": None, "test": None}, "accuracy": accuracy}


def test_the_figures_of_two_images():
    first = compared([(BOX, 0.8, 0), (FAR, 0.5, 0)], [(beside(BOX, 0.5), 0.79, 0)], scale=np.full(4, 2.0))
    second = compared([(BOX, 0.6, 0)], [(BOX, 0.6, 0), (FAR, 0.9, 1)])
    measured = measured_of(first, second)
    assert measured["detections"]["reference"] == {
        **dict.fromkeys(("class_flips", "nms_choices", "truncated"), 0),
        "detections": 3,
        "paired": 2,
        "alone": 1,
    }
    assert measured["pairs"] == 2
    assert measured["match_rate"] == 4 / 6
    assert measured["box_error_px"] == {"mean": 0.25, "p99": 0.5, "max": 0.5}
    assert measured["box_error_network_px"] == {"mean": 0.5, "p99": 1.0, "max": 1.0}
    assert measured["box_shift_network_px"] == [0.5] * 4
    assert measured["score_error"]["max"] == pytest.approx(0.01)


def test_what_nms_chose_counts_neither_for_nor_against_the_match_rate():
    near = beside(BOX, 4.0)
    chosen = compared([(BOX, 0.9, 0), (near, 0.8, 0)], [(BOX, 0.9, 0)], ((), [(near, 0.8, 0)]))
    measured = measured_of(chosen)
    assert (measured["match_rate"], measured["nms_choice_rate"]) == (1.0, 1 / 3)


def test_nothing_to_compare_breaks_a_gate():
    measured = measured_of(compared([], []))
    assert measured["match_rate"] is None
    outcomes = judge(TOLERANCES["fp32"].gates, gated(measured))
    assert [gate.name for gate in outcomes if gate.outcome == "broken"] == ["min_detections"]


def test_a_shift_needs_many_pairs():
    pair = compared([(BOX, 0.8, 0)], [(beside(BOX, 0.3), 0.8, 0)])
    assert gated(measured_of(*[pair] * (ENOUGH_PAIRS - 1)))["max_box_shift"] is None
    assert gated(measured_of(*[pair] * ENOUGH_PAIRS))["max_box_shift"] == pytest.approx(0.3)


def test_errors_that_cancel_out_are_no_shift():
    right, left = (compared([(BOX, 0.8, 0)], [(beside(BOX, px), 0.8, 0)]) for px in (0.3, -0.3))
    gates = gated(measured_of(*[right, left] * ENOUGH_PAIRS))
    assert gates["max_box_shift"] == pytest.approx(0.0)
    assert gates["max_box_error"] == pytest.approx(0.3)


def test_nan_and_infinity_are_counted_on_both_sides():
    raw = {"reference": {"values": 9, "nan": 1, "infinite": 0}, "test": {"values": 9, "nan": 2, "infinite": 4}}
    assert gated(measured_of(raw=raw))["max_nonfinite"] == 7
    assert gated(measured_of(raw={**raw, "reference": None}))["max_nonfinite"] == 6
    assert gated(measured_of())["max_nonfinite"] is None


def test_a_change_of_ap_is_judged_either_way():
    for change in (0.004, -0.004):
        gates = gated(measured_of(accuracy={"change": {"AP": change}}))
        assert gates["max_map_change"] == 0.004
    assert gated(measured_of(accuracy={"change": {"AP": None}}))["max_map_change"] is None


def test_raw_outputs_are_compared_where_they_have_one_form():
    figures = Figures()
    figures.add_raw({"p3": np.array([1.0, np.nan, np.inf])}, {"p3": np.array([1.5, 0.0, np.inf])})
    assert figures.summary()["raw_output_difference"] == {"p3": 0.5}
    figures.add_raw({"p3": np.zeros(3)}, {"p3": np.zeros(4)})
    figures.add_raw({"p3": np.zeros(3)}, {"p3": np.zeros(3)})
    assert figures.summary()["raw_output_difference"] is None


@pytest.mark.parametrize(
    ("name", "limit", "measured", "outcome"),
    [
        ("min_match_rate", 0.9, 0.9, "passed"),
        ("min_match_rate", 0.9, 0.89, "broken"),
        ("max_box_error", 0.5, 0.5, "passed"),
        ("max_box_error", 0.5, 0.51, "broken"),
        ("max_box_error", None, 9.0, "off"),
        ("max_box_error", 0.5, None, "not measured"),
    ],
)
def test_the_outcome_of_a_gate(name, limit, measured, outcome):
    assert GateOutcome(name, limit, measured).outcome == outcome


def test_a_gate_says_what_was_measured_and_what_was_expected():
    assert str(GateOutcome("max_box_error", 0.5, 1.25)) == (
        "box error, px of the network's input: 1.25, expected at most 0.5 (max_box_error)"
    )
    assert str(GateOutcome("min_match_rate", 0.9, 0.5)).endswith("0.5, expected at least 0.9 (min_match_rate)")


def test_every_gate_has_a_title_and_is_measured():
    names = [field.name for field in dataclasses.fields(Gates)]
    assert list(TITLES) == names
    assert set(gated(measured_of())) == set(names)


def test_looser_precisions_have_looser_gates():
    for tight, loose in (("fp32", "fp16"), ("fp16", "bf16")):
        for field in dataclasses.fields(Gates):
            first, second = (getattr(TOLERANCES[name].gates, field.name) for name in (tight, loose))
            if second is not None:
                assert first >= second if field.name.startswith("min_") else first <= second


@pytest.mark.parametrize(
    ("sides", "name"),
    [
        ((("fp32", "fp32"), ("fp32", "fp32")), "fp32"),
        ((("fp32", "fp32"), ("fp32", "fp16")), "fp16"),
        ((("fp32", "fp32"), ("unknown", None)), "fp16"),
        ((("fp16", None), ("bf16", "fp32")), "bf16"),
        ((("fp32", "int8"), ("fp32", "fp32")), "bf16"),
    ],
)
def test_the_loosest_precision_decides(sides, name):
    described = [{"precision": p, "weights_precision": w} for p, w in sides]
    assert tolerance_for("auto", *described).name == name
    assert tolerance_for("fp32", *described).name == "fp32"


@pytest.mark.parametrize(
    ("limits", "error"),
    [
        ({"max_boxes": 1}, InvalidArgument),
        ({"max_box_error": -1.0}, InvalidArgument),
        ({"max_box_error": math.nan}, InvalidArgument),
        ({"max_box_error": math.inf}, InvalidArgument),
        ({"max_box_error": "1"}, InvalidType),
        ({"max_box_error": True}, InvalidType),
    ],
)
def test_a_limit_that_is_none_is_refused(limits, error):
    with pytest.raises(error, match="gates: "):
        TOLERANCES["fp32"].gates.changed(limits)


def test_a_limit_can_be_changed_and_lifted():
    gates = TOLERANCES["fp32"].gates.changed({"max_box_error": 3, "max_class_flips": None})
    assert (gates.max_box_error, gates.max_class_flips, gates.min_match_rate) == (3.0, None, 1.0)


def test_the_worst_images_come_first():
    worst = Worst(3, SAME)
    same, moved, missing = (
        compared([(BOX, 0.8, 0)], [(BOX, 0.8, 0)]),
        compared([(BOX, 0.8, 0)], [(beside(BOX, 1.0), 0.8, 0)]),
        compared([(BOX, 0.8, 0)], []),
    )
    for name, comparison in (("a", same), ("b", moved), ("c", missing), ("d", same), ("e", moved)):
        worst.add(name, name, comparison)
    assert [image.name for image in worst.images()] == ["c", "b", "e"]
    assert worst.images()[0].row()["only_reference"] == 1


# --- the document that defines all this -----------------------------------------------------------------------------

DOCUMENTS = Path(__file__).parents[2] / "docs"
DOCUMENT = (DOCUMENTS / "verify.md").read_text()


def test_the_table_of_gates_is_that_of_the_code():
    rows = re.findall(r"^\| `--((?:min|max)-[a-z0-9-]+)`[^|]*\|(.*)\|$", DOCUMENT, re.MULTILINE)
    assert [name.replace("-", "_") for name, _ in rows] == list(TITLES)
    for name, cells in rows:
        limits = [None if cell.strip() == "off" else float(cell) for cell in cells.split("|")]
        assert limits == [getattr(tolerance.gates, name.replace("-", "_")) for tolerance in TOLERANCES.values()]
    for words, field in (("boxes count as the same", "same_box_px"), ("scores count as the same", "same_score")):
        cells = re.search(rf"^\| {words}[^|]*\|(.*)\|$", DOCUMENT, re.MULTILINE)[1].split("|")
        assert [float(cell) for cell in cells] == [getattr(t, field) for t in TOLERANCES.values()]


def test_the_fields_of_the_document_are_those_of_the_schema():
    schema = json.loads((Path(measurements.__file__).parent / "schemas/verification-1.json").read_text())
    table = (DOCUMENTS / "measurements.md").read_text().partition("## Verification\n")[2].partition("\n## ")[0]
    described = {
        name for row in re.findall(r"^\|([^|]*)\|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)
    }
    assert described == set(schema["required"]) == set(schema["properties"])


def test_the_example_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = re.search(r"^<!-- test: verify -->\n```python\n(.*?)^```", DOCUMENT, re.DOTALL | re.MULTILINE)[1]
    exec(compile(code, "docs/verify.md", "exec"), {})  # noqa: S102 - our own text
    assert (tmp_path / "out/report.html").stat().st_size > 10_000
