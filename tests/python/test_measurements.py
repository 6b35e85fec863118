"""Documents of measurements: sealed, written whole, read with suspicion."""

from __future__ import annotations

import copy
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

import swiftdet
from swiftdet import measurements
from swiftdet.errors import DocumentError, InvalidArgument

SUBJECT = {
    "model": "demo-yolov7",
    "variant": "demo-yolov7",
    "family": "yolov7",
    "model_sha256": "0" * 64,
    "graph_sha256": "1" * 64,
    "engine_sha256": None,
    "synthetic": False,
    "classes": 8,
    "imgsz": (256, 256),
    "preprocess": {"mode": "letterbox"},
    "head": "anchor_maps",
    "engine": "OpenVINO",
    "device": "cpu",
    "precision": "fp32",
    "performance": "latency",
    "isa": "avx2",
}
VERIFICATION = "verification"
_SIDE = {"detections": 3, "paired": 3, "class_flips": 0, "nms_choices": 0, "alone": 0, "truncated": 0}
_SPREAD = {"mean": 0.01, "p99": 0.02, "max": 0.02}
_OPTIONS = {"iou": 0.7, "max_det": 300, "multi_label": False, "class_agnostic": False, "imgsz": [256, 256]}
MEASURED = {
    "reference": SUBJECT,
    "images": {"count": 1, "sha256": "2" * 64},
    "conf": 0.1,
    "lowest_conf": 0.099,
    "tolerance": {"name": "fp32", "same_box_px": 0.02, "same_score": 0.001},
    "options": {"reference": _OPTIONS, "test": _OPTIONS},
    "detections": {"reference": _SIDE, "test": _SIDE},
    "pairs": 3,
    "match_rate": 1.0,
    "class_flip_rate": 0.0,
    "nms_choice_rate": 0.0,
    "box_error_px": _SPREAD,
    "box_error_network_px": _SPREAD,
    "box_shift_network_px": [0.0, 0.01, 0.0, 0.01],
    "score_error": _SPREAD,
    "raw_outputs": {"reference": {"values": 9, "nan": 0, "infinite": 0}, "test": None},
    "raw_output_difference": {"output": 0.001},
    "accuracy": None,
    "worst": [],
    "notes": [],
    "passed": True,
    "gates": [{"name": "min_match_rate", "limit": 1.0, "measured": 1.0, "outcome": "passed"}],
}


@pytest.fixture
def document():
    return measurements.seal(VERIFICATION, subject=SUBJECT, measured=MEASURED, provenance=measurements.collect(seed=3))


def test_a_document_comes_back_as_it_was_written(document, tmp_path):
    path = tmp_path / "folder" / "result.json"
    measurements.write(document, path)
    assert measurements.read(path) == document
    assert document["subject"]["imgsz"] == [256, 256]
    assert [p.name for p in path.parent.iterdir()] == ["result.json"]  # no half-written file is left


def test_what_a_detector_says_of_itself_is_a_subject():
    with swiftdet.Detector("demo-yolov7") as detector:
        sealed = measurements.seal(
            VERIFICATION, subject=detector.provenance, measured=MEASURED, provenance=measurements.collect()
        )
    subject = sealed["subject"]
    assert subject["precision"] == "fp32"
    assert len(subject["graph_sha256"]) == 64
    assert subject["graph_sha256"] != subject["model_sha256"]
    assert sealed["provenance"]["host"]["memory_bytes"] > 1 << 28


@given(st.data())
def test_any_change_is_noticed(data):
    document = measurements.seal(
        VERIFICATION, subject=SUBJECT, measured=MEASURED, provenance={**measurements.collect(), "command": ["a", "b"]}
    )
    changed = copy.deepcopy(document)
    path = data.draw(
        st.sampled_from([("subject", "model"), ("subject", "engine"), ("provenance", "python"), ("created",)])
    )
    holder = changed
    for key in path[:-1]:
        holder = holder[key]
    value = data.draw(st.text(max_size=20).filter(lambda text: text != holder[path[-1]]))
    holder[path[-1]] = value
    assert measurements.content_sha256(changed) != document["sha256"]


def test_a_changed_file_is_refused_and_can_be_read_knowingly(document, tmp_path):
    path = tmp_path / "result.json"
    document["subject"]["model"] = "better"
    path.write_text(json.dumps(document))
    with pytest.raises(DocumentError, match="changed after it was written"):
        measurements.read(path)
    assert measurements.read(path, verify_digest=False)["subject"]["model"] == "better"


def test_the_layout_of_a_file_is_no_change(document, tmp_path):
    path = tmp_path / "result.json"
    path.write_text(json.dumps(dict(reversed(document.items())), indent=7))
    assert measurements.read(path) == document


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "expected a result in JSON"),
        (b"\xff\xfe", "expected a result in JSON"),
        (b"[" * 100_000, "expected a result in JSON"),
        (b'{"format": NaN}', "NaN is no number"),
        (b'{"format": -1e999}', "-1e999 is beyond all floats"),
        (b"[]", "expected a result of format"),
        (b'{"format": "swiftdet.benchmark/99"}', "benchmark/99"),
        (b'{"format": ["swiftdet.benchmark/1"]}', "expected a result of format"),
        (b'{"format": "swiftdet.benchmark/1"}', "required property"),
    ],
)
def test_what_is_no_result_is_refused(content, words, tmp_path):
    path = tmp_path / "result.json"
    path.write_bytes(content)
    with pytest.raises(DocumentError, match=words) as caught:
        measurements.read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nesting_of_any_depth_is_refused_or_read(document, tmp_path):
    """Between what the parser takes and what the checks behind it take lie a few levels."""
    path = tmp_path / "result.json"
    text = json.dumps({**document, "subject": "here"})
    for depth in range(800, 1000):
        path.write_text(text.replace('"here"', "[" * depth + "]" * depth))
        with pytest.raises(DocumentError):
            measurements.read(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(DocumentError, match="cannot be read"):
        measurements.read(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("field", "value"),
    [("device", "gpu"), ("imgsz", [1]), ("synthetic", "no"), ("classes", 0), ("family", "other"), ("isa", None)],
)
def test_a_subject_of_other_types_is_refused(field, value):
    with pytest.raises(DocumentError, match=field):
        measurements.seal(
            VERIFICATION,
            subject={**SUBJECT, field: value},
            measured=MEASURED,
            provenance=measurements.collect(),
        )


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), {1, 2}])
def test_values_that_json_lacks_are_refused(value):
    with pytest.raises(InvalidArgument, match="JSON"):
        measurements.seal(VERIFICATION, subject=SUBJECT, measured={"x": value}, provenance=measurements.collect())


def test_an_unknown_kind_is_refused():
    with pytest.raises(InvalidArgument, match="kind"):
        measurements.seal("opinion", subject=SUBJECT, measured={}, provenance=measurements.collect())
