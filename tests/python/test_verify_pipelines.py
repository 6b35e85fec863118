"""`verify` on the demo detectors: pipelines that are right pass, and every way of being wrong is caught."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

import swiftdet
from swiftdet import demo, zoo
from swiftdet.engines import OnnxRuntimeEngine
from swiftdet.errors import BackendUnavailable, DetectorClosed, ImageError, InvalidArgument, InvalidType, ModelError
from swiftdet.spec import METADATA_KEY, ModelSpec
from swiftdet.zoo import weights as zoo_weights

MODELS = zoo.demo_names()
IMAGES = sorted(demo.dataset().images.glob("*.jpg"))[:10]


@pytest.fixture(scope="module", params=MODELS)
def reference(request):
    with swiftdet.Detector(request.param) as detector:
        yield detector


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Callable[..., Path]:
    """Writes a demo as ONNX, once for each way of building it: `exported(name, precision="fp16")`."""
    folder = tmp_path_factory.mktemp("exported")

    def export(reference, **options) -> Path:
        name = reference.provenance["variant"]
        path = folder / f"{name}-{'-'.join(map(str, options.values()))}.onnx"
        if not path.exists():
            onnx.save(zoo_weights.find(name).build(**options), path)
        return path

    return export


@pytest.fixture
def described(exported, tmp_path) -> Callable[..., Path]:
    """Writes a demo with another description of itself: `described(reference, channel_order="bgr")`."""

    def describe(reference, *, names=None, **preprocess) -> Path:
        model = onnx.load(exported(reference))
        for entry in model.metadata_props:
            if entry.key == METADATA_KEY:
                spec = ModelSpec.from_json(entry.value)
                changed = dataclasses.replace(spec.preprocess, **preprocess)
                entry.value = dataclasses.replace(spec, preprocess=changed, names=names or spec.names).to_json()
        onnx.save(model, tmp_path / "described.onnx")
        return tmp_path / "described.onnx"

    return describe


class AlteredEngine(OnnxRuntimeEngine):
    """onnxruntime, with something done to the outputs of each run."""

    def __init__(self, path: Path, alter: Callable[[dict[str, np.ndarray]], None]) -> None:
        super().__init__(path.read_bytes(), input_shape=(1, 3, 256, 256))
        self._alter = alter

    def run(self, inputs):
        outputs = {name: np.array(value) for (name, _), value in zip(self.outputs, super().run(inputs), strict=True)}
        self._alter(outputs)
        return outputs


def altered(path: Path, alter) -> swiftdet.Detector:
    return swiftdet.Detector(path, engine=AlteredEngine(path, alter))


def broken(report) -> set[str]:
    return {gate.name for gate in report.broken}


def verify(reference, test, **options):
    with test:
        return swiftdet.verify(reference, test, IMAGES, **options)


# --- right pipelines ------------------------------------------------------------------------------------------------


def test_two_engines_agree(reference):
    report = verify(reference, swiftdet.Detector(reference.provenance["model"], engine="onnxruntime"))
    assert report.passed
    measured = report.measured
    assert measured["tolerance"]["name"] == "fp32"
    assert measured["match_rate"] == 1.0
    assert measured["detections"]["reference"]["detections"] > 50
    assert 0.0 < measured["box_error_network_px"]["max"] < 0.001
    assert 0.0 < measured["score_error"]["max"] < 1e-5
    assert measured["raw_outputs"]["test"]["values"] == measured["raw_outputs"]["reference"]["values"] > 0
    assert measured["raw_output_difference"].keys() == set(reference.spec.head.outputs)
    assert 0.0 < max(measured["raw_output_difference"].values()) < 1e-3


def test_a_half_precision_export_is_within_the_gates_of_its_precision_alone(reference, exported):
    path = exported(reference, precision="fp16")
    for engine in ("openvino", "onnxruntime"):
        report = verify(reference, swiftdet.Detector(path, engine=engine))
        assert report.passed
        assert report.measured["tolerance"]["name"] == "fp16"
        assert 0.01 < report.measured["box_error_network_px"]["max"] < 2.0
        strict = verify(reference, swiftdet.Detector(path, engine=engine), tolerance="fp32")
        assert {"max_box_error_p99", "max_score_error_p99"} <= broken(strict)


@pytest.mark.parametrize("options", [{"channel_order": "bgr"}, {"fold_divisor": True}, {"head": "decoded"}])
def test_other_graphs_of_one_network_agree(reference, exported, options):
    """Folding the divisor is not exact, so its error is measured, here and with `swiftdet verify`."""
    report = verify(reference, swiftdet.Detector(exported(reference, **options)))
    assert report.passed
    assert report.measured["tolerance"]["name"] == "fp32"
    assert report.measured["box_error_network_px"]["max"] < 0.001
    assert report.measured["score_error"]["max"] < 1e-5
    assert not any("same model" in note for note in report.measured["notes"])


def test_bfloat16_is_within_its_own_gates(reference):
    try:
        test = swiftdet.Detector(reference.provenance["model"], precision="bf16")
    except BackendUnavailable as e:
        pytest.skip(f"no bfloat16 here: {e}")
    report = verify(reference, test)
    assert report.measured["tolerance"]["name"] == "bf16"
    assert report.passed
    assert report.measured["score_error"]["max"] > 0.001, "computed in float32 after all"


def test_classes_in_another_order_are_compared_by_name(reference, exported, described):
    """The network's classes are turned round together with their names: nothing is wrong."""
    names = reference.spec.names
    path = described(reference, names=(*names[1:], names[0]))
    report = verify(reference, altered(path, lambda outputs: roll_classes(outputs, len(names), -1)))
    assert report.passed
    assert report.measured["match_rate"] == 1.0
    assert "the classes of the test are in another order; they are compared by name" in report.measured["notes"]


def test_the_same_on_both_sides_is_said(reference):
    report = verify(reference, swiftdet.Detector(reference.provenance["model"]))
    assert report.passed
    assert any("they can only agree" in note for note in report.measured["notes"])
    assert report.measured["box_error_px"]["max"] == 0.0
    other = verify(reference, swiftdet.Detector(reference.provenance["model"], multi_label=True))
    assert not any("they can only agree" in note for note in other.measured["notes"])


# --- wrong pipelines ------------------------------------------------------------------------------------------------


def roll_classes(outputs, classes, by):
    """Moves each class's scores to another class, in raw outputs of either family."""
    for name, output in outputs.items():
        if name.startswith("cls_"):
            output[:] = np.roll(output, by, axis=1)
        elif name.startswith("p"):
            anchors = output.reshape(1, 3, 5 + classes, *output.shape[2:])
            anchors[:, :, 5:] = np.roll(anchors[:, :, 5:], by, axis=2)


def test_swapped_channels_are_caught(reference, described):
    report = verify(reference, swiftdet.Detector(described(reference, channel_order="bgr")))
    assert {"min_match_rate", "max_box_error", "max_score_error"} <= broken(report)


def test_a_wrong_normalisation_is_caught(reference, described):
    wrong = 1.0 if reference.spec.preprocess.divisor == 255.0 else 255.0
    report = verify(reference, swiftdet.Detector(described(reference, divisor=wrong)))
    assert "min_match_rate" in broken(report)
    assert report.match_rate < 0.2


def test_a_class_that_is_one_off_is_caught(reference, exported):
    classes = len(reference.names)
    report = verify(reference, altered(exported(reference), lambda outputs: roll_classes(outputs, classes, 1)))
    assert {"min_match_rate", "max_class_flips"} <= broken(report)
    assert report.measured["class_flip_rate"] > 0.5


def test_names_that_are_one_off_are_caught(reference, described):
    names = reference.spec.names
    report = verify(reference, swiftdet.Detector(described(reference, names=(*names[1:], names[0]))))
    assert {"min_match_rate", "max_class_flips"} <= broken(report)


def test_several_labels_for_a_box_are_caught(reference):
    report = verify(reference, swiftdet.Detector(reference.provenance["model"], multi_label=True))
    assert "min_match_rate" in broken(report)
    sides = report.measured["detections"]
    assert sides["reference"]["alone"] == 0
    assert sides["test"]["alone"] > 0
    one_label = verify(reference, swiftdet.Detector(reference.provenance["model"], multi_label=True), multi_label=False)
    assert one_label.passed, "the option of the call goes before the detector's own"


@pytest.mark.parametrize("preprocess", [{"interpolation": "area"}, "other mode", {"mode": "letterbox-topleft"}])
def test_a_wrong_resize_is_caught(reference, described, preprocess):
    if preprocess == "other mode":
        preprocess = {"mode": "letterbox" if reference.spec.preprocess.mode == "stretch" else "stretch"}
    report = verify(reference, swiftdet.Detector(described(reference, **preprocess)))
    assert {"min_match_rate", "max_box_error"} <= broken(report)


@pytest.mark.parametrize("tolerance", ["fp32", "fp16"])
def test_boxes_that_are_half_a_pixel_off_are_caught(reference, exported, tolerance):
    """Half a pixel is within the noise of half precision for one box, but not on the average of all."""

    def shift(outputs):
        for output in outputs.values():
            corners = {4: 4, 13: 2}.get(output.shape[2], 0)  # x1 y1 x2 y2 of DAMO-YOLO, cx cy of YOLOv7
            output[..., :corners] += 0.5

    report = verify(reference, altered(exported(reference, head="decoded"), shift), tolerance=tolerance)
    assert "max_box_shift" in broken(report)
    assert report.match_rate == 1.0
    np.testing.assert_allclose(report.measured["box_shift_network_px"], 0.5, atol=0.05)


def test_another_suppression_is_caught(reference):
    report = verify(reference, swiftdet.Detector(reference.provenance["model"], iou=0.6))
    assert broken(report) == {"max_nms_choices"}, "the networks propose the same; only NMS differs"


def test_nan_and_infinity_are_counted(reference, exported):
    def spoil(outputs):
        first = next(iter(outputs.values()))
        first[0, 0, 0, :3] = np.nan
        first[0, 0, 1, :2] = np.inf
        first[0, 0, 2, 0] = -np.inf

    report = verify(reference, altered(exported(reference), spoil))
    assert report.measured["raw_outputs"]["test"] == {
        "values": report.measured["raw_outputs"]["reference"]["values"],
        "nan": 3 * len(IMAGES),
        "infinite": 3 * len(IMAGES),
    }
    assert "max_nonfinite" in broken(report)


# --- accuracy -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> tuple[Path, Path]:
    """The first images of the demos' data set, with their annotations."""
    folder = tmp_path_factory.mktemp("sample")
    whole = json.loads(demo.dataset().annotations.read_text())
    (folder / "images").mkdir()
    for path in IMAGES:
        shutil.copy(path, folder / "images")
    images = [row for row in whole["images"] if row["file_name"] in {path.name for path in IMAGES}]
    ids = {row["id"] for row in images}
    objects = [row for row in whole["annotations"] if row["image_id"] in ids]
    (folder / "val.json").write_text(json.dumps({**whole, "images": images, "annotations": objects}))
    return folder / "images", folder / "val.json"


def test_ap_is_that_of_an_evaluation_by_the_protocol_of_the_reference(reference, exported, described, sample):
    images, annotations = sample
    calls = []
    with swiftdet.Detector(exported(reference, precision="fp16")) as half:
        report = swiftdet.verify(
            reference, half, images, annotations=annotations, on_progress=lambda *call: calls.append(call)
        )
        own = [swiftdet.evaluate(side, images, annotations).scores for side in (reference, half)]
    accuracy = report.measured["accuracy"]
    assert report.passed
    assert [accuracy["reference"], accuracy["test"]] == own
    assert accuracy["change"]["AP"] == own[1]["AP"] - own[0]["AP"]
    assert calls[-1] == ("comparing", len(IMAGES), len(IMAGES))
    assert ("AP of the reference", len(IMAGES), len(IMAGES)) in calls
    with swiftdet.Detector(described(reference, channel_order="bgr")) as wrong:
        report = swiftdet.verify(reference, wrong, images, annotations=annotations)
    assert "max_map_change" in broken(report)


def test_two_families_are_measured_by_one_protocol(sample):
    first, second = (swiftdet.Detector(name) for name in MODELS)
    with first, second:
        report = swiftdet.verify(first, second, sample[0], annotations=sample[1])
    accuracy = report.measured["accuracy"]
    assert accuracy["protocol"] == swiftdet.evaluation.protocols.choose("auto", first.spec).name
    assert not report.passed
    assert accuracy["reference"]["AP"] > 0.4 < accuracy["test"]["AP"]


def test_annotations_need_their_folder(reference, sample):
    with pytest.raises(InvalidArgument, match="expected that folder as the images"):
        swiftdet.verify(reference, reference, IMAGES, annotations=sample[1])


# --- what is refused ------------------------------------------------------------------------------------------------


def test_different_classes_are_refused(reference, described):
    names = (*reference.spec.names[:-1], "zebra")
    with (
        swiftdet.Detector(described(reference, names=names)) as other,
        pytest.raises(InvalidArgument, match=r"different classes.*only in the test: 'zebra'"),
    ):
        swiftdet.verify(reference, other, IMAGES)


def test_bad_input_is_one_typed_error(reference, tmp_path):
    damaged = tmp_path / "damaged.jpg"
    damaged.write_bytes(IMAGES[0].read_bytes()[:200])
    for images, error, words in (
        ([], InvalidArgument, "at least one image, got none"),
        (tmp_path / "none.jpg", ImageError, "no such file"),
        (damaged, ImageError, "damaged.jpg"),
        (tmp_path / "clip.mp4", ImageError, "no such file"),
    ):
        with pytest.raises(error, match=words):
            swiftdet.verify(reference, reference, images)
    (tmp_path / "clip.mp4").write_bytes(b"")
    with pytest.raises(InvalidArgument, match=r"expected still images, got the video .*clip.mp4"):
        swiftdet.verify(reference, reference, tmp_path / "clip.mp4")
    for options, error in (
        ({"conf": 1.5}, InvalidArgument),
        ({"tolerance": "fp8"}, InvalidArgument),
        ({"gates": {"max_everything": 1}}, InvalidArgument),
        ({"worst": -1}, InvalidArgument),
        ({"worst": 1.5}, InvalidType),
        ({"sigma": 1}, InvalidArgument),
    ):
        with pytest.raises(error):
            swiftdet.verify(reference, reference, IMAGES, **options)
    with pytest.raises(InvalidType, match=r"test: expected a swiftdet\.Detector, got str"):
        swiftdet.verify(reference, "demo-yolov7", IMAGES)


def test_a_closed_detector_is_refused(reference):
    closed = swiftdet.Detector(reference.provenance["model"])
    closed.close()
    with pytest.raises(DetectorClosed):
        swiftdet.verify(reference, closed, IMAGES)
    with pytest.raises(DetectorClosed):
        closed.raw_outputs(IMAGES[0])


def test_made_up_weights_are_told_and_have_no_ap(sample):
    with swiftdet.Detector("damo-yolo-ns", weights="synthetic", imgsz=64) as made_up:
        report = swiftdet.verify(made_up, made_up, IMAGES[:1], conf=0.01)
        assert any("made up" in note for note in report.measured["notes"])
        with pytest.raises(ModelError, match="made up"):
            swiftdet.verify(made_up, made_up, sample[0], annotations=sample[1])


# --- raw outputs ----------------------------------------------------------------------------------------------------


def test_raw_outputs_decode_to_the_detections(reference):
    raw = reference.raw_outputs(IMAGES[3])
    assert tuple(raw) == reference.spec.head.outputs
    boxes, scores, classes = swiftdet.ops.decode(raw, reference.spec, 0.25)
    keep = swiftdet.ops.nms(boxes, scores, classes, 0.7)
    result = reference(IMAGES[3])
    np.testing.assert_array_equal(scores[keep], result.conf)
    np.testing.assert_array_equal(classes[keep], result.cls)


def test_raw_outputs_of_another_size_and_order(reference, exported):
    pixels = reference(IMAGES[0]).orig_img
    with swiftdet.Detector(exported(reference, channel_order="bgr", imgsz="dynamic")) as turned:
        first = reference.raw_outputs(pixels, imgsz=128)
        second = turned.raw_outputs(np.ascontiguousarray(pixels[..., ::-1]), imgsz=128, color="rgb")
    for name, output in first.items():
        np.testing.assert_allclose(second[name], output, atol=1e-3)
        assert output.shape[2:] in {(16, 16), (8, 8), (4, 4)}


def test_on_a_gpu_raw_outputs_stay_there(reference, monkeypatch):
    """As far as that goes without a GPU: a detector that says it runs on one."""
    with swiftdet.Detector(reference.provenance["model"]) as test:
        monkeypatch.setattr(test, "_device", dataclasses.replace(test._device, kind="cuda", index=0))
        with pytest.raises(BackendUnavailable, match="never leave its memory"):
            test.raw_outputs(IMAGES[0])
        report = swiftdet.verify(reference, test, IMAGES[:2])
        both = swiftdet.verify(test, test, IMAGES[:2])
    assert report.measured["raw_outputs"]["test"] is None
    assert report.measured["raw_output_difference"] is None
    assert any("NaN were not counted" in note for note in report.measured["notes"])
    outcomes = [{gate.name: gate.outcome for gate in of.gates}["max_nonfinite"] for of in (report, both)]
    assert outcomes == ["passed", "not measured"]


def test_raw_outputs_take_the_options_of_a_call(reference):
    with pytest.raises(InvalidArgument, match="unknown option"):
        reference.raw_outputs(IMAGES[0], sigma=1)
