"""`verify` with a GPU on one side: the same boxes as the CPU's, and what differs is looked into on the device too."""

from __future__ import annotations

import pytest

import swiftdet
from conftest import picture
from swiftdet import cuda_devices

IMAGES = [picture(33 + 17 * seed, 200 - 11 * seed, seed) for seed in range(8)]


@pytest.fixture(scope="module")
def model(read_model):
    return read_model("ultralytics-columns")


@pytest.fixture
def reference(model):
    with swiftdet.Detector(model.path, device="cpu") as detector:
        yield detector


def test_the_gpu_agrees_with_the_cpu(reference, model, write_plan, monkeypatch):
    monkeypatch.setattr(cuda_devices, "describe", lambda index: {"name": f"GPU {index}"})
    with swiftdet.Detector(write_plan(model), device="cuda:0") as test:
        report = swiftdet.verify(reference, test, IMAGES)
    assert report.passed
    measured = report.measured
    assert measured["detections"]["test"]["detections"] == measured["detections"]["reference"]["detections"] > 0
    assert measured["box_error_px"]["max"] == measured["score_error"]["max"] == 0.0
    assert measured["raw_outputs"]["test"] is None
    assert any("the test runs on a GPU" in note for note in measured["notes"])
    assert report.document["subject"]["engine"].startswith("TensorRT")


def test_another_suppression_on_the_gpu_is_seen_as_that(reference, model, write_plan):
    """The device is asked for everything that its network proposes."""
    with swiftdet.Detector(write_plan(model), device="cuda:0", iou=0.2) as test:
        report = swiftdet.verify(reference, test, IMAGES)
    assert [gate.name for gate in report.broken] == ["max_nms_choices"]
    assert report.measured["detections"]["reference"]["nms_choices"] > 0
    assert report.match_rate == 1.0
