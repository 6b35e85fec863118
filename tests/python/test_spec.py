"""The description of a detector: its JSON form and what it refuses."""

from __future__ import annotations

import dataclasses
import json

import pytest

from swiftdet.errors import ModelError
from swiftdet.spec import Head, ModelSpec, Preprocess

ANCHORS = tuple((10.0 + i, 13.5) for i in range(9))
HEADS = {
    "anchor_maps": Head(
        layout="anchor_maps",
        num_classes=2,
        outputs=("p3", "p4", "p5"),
        has_objectness=True,
        scores_are_logits=True,
        strides=(8, 16, 32),
        anchors=ANCHORS,
    ),
    "rows": Head(layout="rows", num_classes=2, outputs=("output",), has_objectness=True),
    "columns": Head(layout="columns", num_classes=2, outputs=("output0",)),
    "scores_boxes": Head(
        layout="scores_boxes", num_classes=2, outputs=("s", "b"), box_format="xyxy", scores_class_major=True
    ),
    "distribution_maps": Head(
        layout="distribution_maps",
        num_classes=2,
        outputs=("c3", "c4", "r3", "r4"),
        strides=(8, 16),
        reg_max=16,
    ),
    "detections": Head(layout="detections", num_classes=2, outputs=("output0",), box_format="xyxy"),
}


def make(head: Head, **changes) -> ModelSpec:
    values = {
        "family": "yolov7",
        "names": ("cat", 'dog "big"'),
        "imgsz": (64, 96),
        "stride": 32,
        "preprocess": Preprocess(
            mode="stretch", divisor=1.0, mean=(0.5, 0.25, 0.125), std=(1.0, 2.0, 4.0), channel_order="bgr"
        ),
        "head": head,
    }
    return ModelSpec(**{**values, **changes})


@pytest.mark.parametrize("layout", HEADS)
def test_json_restores_every_field(layout):
    spec = make(HEADS[layout], conf=0.125, iou=0.5, max_det=7, multi_label=True, source="inferred: x", synthetic=True)
    assert ModelSpec.from_json(spec.to_json()) == spec
    assert "\n" not in spec.to_json()


def test_fields_with_defaults_may_be_missing():
    data = json.loads(make(HEADS["columns"]).to_json())
    for field in ("conf", "iou", "max_det", "multi_label", "source", "synthetic", "version"):
        del data[field]
    assert ModelSpec.from_json(json.dumps(data)) == make(HEADS["columns"])


def changed(path: str, value: object) -> str:
    """The JSON of a good description with one field replaced (or removed, with `...`)."""
    data = json.loads(make(HEADS["anchor_maps"]).to_json())
    *parents, last = path.split(".")
    target = data
    for key in parents:
        target = target[key]
    if value is ...:
        del target[last]
    else:
        target[last] = value
    return json.dumps(data)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("family", "yolov3", "family must be one of"),
        ("names", ["cat"], "1 class names for a head of 2"),
        ("names", "cat", "field names: expected tuple"),
        ("names", [1, 2], "field names: expected str"),
        ("imgsz", [64], "field imgsz"),
        ("imgsz", [0, 64], "imgsz must be 1 to 16384"),
        ("imgsz", [64, 10**9], "imgsz must be 1 to 16384"),
        ("imgsz", [64, True], "field imgsz: expected int"),
        ("stride", 0, "stride must be"),
        ("conf", 1.5, r"conf and iou must be in \[0, 1\]"),
        ("conf", float("nan"), "field conf: expected float"),
        ("iou", 10**400, "field iou: expected float"),
        ("max_det", 0, "max_det positive"),
        ("names", ["a", "b\x1b[31m"], "must be printable"),
        ("source", "line\nline", "must be printable"),
        ("version", 2, "version 2; this swiftdet reads version 1"),
        ("colour", "red", "unknown field colour"),
        ("head", ..., "field head is missing"),
        ("head", [], "field head: expected Head"),
        ("head.layout", "grid", "field head.layout: expected anchor_maps"),
        ("head.layout", ["rows"], "field head.layout"),
        ("head.outputs", ["p3"], "needs 3 outputs, got 1"),
        ("head.outputs", ["p3", "p3", "p5"], "named twice"),
        ("head.strides", [32, 16, 8], "ascending"),
        ("head.strides", [0, 16, 32], "positive"),
        ("head.strides", [], "needs 1 outputs, got 3"),
        ("head.anchors", [], "0 anchors do not divide"),
        ("head.anchors", [[1, 2]], "1 anchors do not divide among 3 levels"),
        ("head.anchors", [[0, 2]] * 3, "anchors must be positive"),
        ("preprocess.pad_value", 256, "pad_value must be 0 to 255"),
        ("preprocess.divisor", 0, "divisor must be a positive number"),
        ("preprocess.std", [1, 0, 1], "std not zero"),
        ("preprocess.mode", "crop", "field preprocess.mode"),
    ],
)
def test_a_bad_field_is_named(path, value, words):
    with pytest.raises(ModelError, match=words):
        ModelSpec.from_json(changed(path, value))


@pytest.mark.parametrize("reg_max", [0, 256])
def test_reg_max_is_bounded(reg_max):
    head = dataclasses.replace(HEADS["distribution_maps"], reg_max=reg_max)
    with pytest.raises(ModelError, match="reg_max must be 1 to 255"):
        make(head).check()


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "3", '"x"', "[" * 100_000, "{}"])
def test_what_is_not_a_description_is_refused(text):
    with pytest.raises(ModelError, match="model description"):
        ModelSpec.from_json(text)


def test_a_huge_description_is_not_parsed():
    with pytest.raises(ModelError, match="at most"):
        ModelSpec.from_json(" " * (5 << 20))
