"""Accuracy: the numbers are pycocotools' own, detections go in by name, and bad data sets are refused."""

from __future__ import annotations

import contextlib
import copy
import io
import json

import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

import swiftdet
from swiftdet import demo
from swiftdet.errors import DatasetError, InvalidArgument, InvalidType, ModelError
from swiftdet.evaluation import PROTOCOLS, coco

IMAGES = 12


@pytest.fixture(scope="module")
def detector():
    with swiftdet.Detector("demo-yolov7") as opened:
        yield opened


@pytest.fixture(scope="module")
def document():
    """The first images of the bundled sample."""
    whole = json.loads(demo.dataset().annotations.read_text())
    images = whole["images"][:IMAGES]
    ids = {image["id"] for image in images}
    return {**whole, "images": images, "annotations": [a for a in whole["annotations"] if a["image_id"] in ids]}


@pytest.fixture
def evaluate(detector, tmp_path):
    """Evaluates on annotations given as a Python object."""

    def run(document, **options):
        path = tmp_path / "annotations.json"
        path.write_text(document if isinstance(document, str) else json.dumps(document))
        return swiftdet.evaluate(detector, demo.dataset().images, path, **options)

    return run


def by_pycocotools(annotations, predictions) -> list[float]:
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(annotations))
        run = COCOeval(truth, truth.loadRes(str(predictions)), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return list(run.stats)


def test_the_numbers_are_pycocotools_own(evaluate, document, tmp_path, capsys):
    report = evaluate(document)
    assert capsys.readouterr().out == ""
    report.save(tmp_path / "saved")
    again = by_pycocotools(tmp_path / "annotations.json", tmp_path / "saved" / "predictions.json")
    assert list(report.scores) == list(coco.SUMMARY)
    assert [(-1 if v is None else v) for v in report.scores.values()] == pytest.approx(again, abs=1e-9)
    known = [ap for ap in report.per_class.values() if ap is not None]
    assert sum(known) / len(known) == pytest.approx(report.ap, abs=1e-9)
    saved = json.loads((tmp_path / "saved" / "report.json").read_text())
    assert saved["measured"]["scores"] == report.scores
    assert saved["measured"]["protocol"]["name"] == "yolov7"


def test_detections_are_those_of_the_detector(evaluate, detector, document):
    report = evaluate(document, protocol="yolov7-fixed")
    entry = document["images"][3]
    protocol = PROTOCOLS["yolov7-fixed"]
    result = detector(
        demo.dataset().images / entry["file_name"], conf=protocol.conf, iou=protocol.iou, multi_label=True
    )
    rows = [row for row in report.predictions if row["image_id"] == entry["id"]]
    assert [row["score"] for row in rows] == [round(score, 5) for score in result.conf.tolist()]
    assert [row["category_id"] - 1 for row in rows] == result.cls.tolist()
    x1, y1, x2, y2 = result.xyxy[0].tolist()
    assert rows[0]["bbox"] == [round(side, 3) for side in (x1, y1, x2 - x1, y2 - y1)]


def test_perfect_and_no_predictions():
    truth = json.loads(demo.dataset().annotations.read_text())
    perfect = [{**{k: a[k] for k in ("image_id", "category_id", "bbox")}, "score": 0.9} for a in truth["annotations"]]
    assert coco.score(truth, perfect).summary["AP"] == pytest.approx(1.0)
    assert coco.score(truth, []).summary["AP"] == 0.0


def test_categories_are_matched_by_name(evaluate, document):
    renumbered = copy.deepcopy(document)
    for row in renumbered["categories"]:
        row["id"] = 90 - row["id"]
    for row in renumbered["annotations"]:
        row["category_id"] = 90 - row["category_id"]
    renumbered["categories"].append({"id": 7, "name": "zebra"})
    first, second = evaluate(document), evaluate(renumbered)
    assert second.ap == pytest.approx(first.ap, abs=1e-9)
    assert second.unknown_categories == ("zebra",)
    assert second.per_class["zebra"] is None


def test_progress_ends_at_the_number_of_images(evaluate, document):
    calls = []
    evaluate(document, on_progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (IMAGES, IMAGES)


def test_made_up_weights_are_refused(document):
    with (
        swiftdet.Detector("damo-yolo-ns", weights="synthetic", imgsz=64) as made_up,
        pytest.raises(ModelError, match="made up"),
    ):
        swiftdet.evaluate(made_up, *demo.dataset())


def test_protocols(evaluate, document, detector):
    assert evaluate(document, protocol="ultralytics").protocol.iou == 0.7
    with pytest.raises(InvalidArgument, match=r"protocol: expected one of 'auto', 'yolov7', .* got 'coco'"):
        evaluate(document, protocol="coco")


def changed(document, path, value):
    document = copy.deepcopy(document)
    *parents, last = path
    target = document
    for key in parents:
        target = target[key]
    if value is None:
        del target[last]
    else:
        target[last] = value
    return document


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (["images"], None, "expected a list under 'images', got NoneType"),
        (["images"], [], "at least one image"),
        (["images", 0, "id"], "7", r"images\[0\].id: expected int, got '7'"),
        (["categories", 0, "id"], 2**53 + 1, r"categories\[0\].id: expected at most 2\*\*53"),
        (["images", 1, "id"], 1, r"images\[1\]: the id 1 occurs twice"),
        (["images", 0, "file_name"], "../secret.jpg", "leads out of the folder"),
        (["images", 0, "file_name"], "/etc/passwd", "leads out of the folder"),
        (["images", 0, "file_name"], "gone.jpg", "image 'gone.jpg' is not in"),
        (["annotations", 0, "bbox"], [1, 2, 3], r"annotations\[0\].bbox: expected x, y, width, height"),
        (["annotations", 0, "bbox"], [1, 2, -3, 4], r"annotations\[0\].bbox"),
        (["annotations", 0, "bbox"], [1, 2, float("nan"), 4], r"annotations\[0\].bbox"),
        (["annotations", 0, "area"], "big", r"annotations\[0\].area"),
        (["annotations", 0, "category_id"], 99, "category 99 is unknown"),
        (["annotations", 0, "id"], 10**400, r"annotations\[0\].id: expected at most 2\*\*53"),
        (["annotations", 0], "object", r"annotations\[0\]: expected an object"),
        (["categories", 1, "name"], "balloon", "two categories have one name"),
    ],
)
def test_bad_annotations_are_refused(evaluate, document, path, value, words):
    with pytest.raises(DatasetError, match=words):
        evaluate(changed(document, path, value))


def test_an_object_with_the_id_0_counts_as_any_other(evaluate, document):
    """pycocotools alone takes a match with it for none."""
    renamed = copy.deepcopy(document)
    for number, row in enumerate(renamed["annotations"]):
        row["id"] = number
    assert evaluate(renamed).scores == evaluate(document).scores


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000])
def test_what_is_no_annotation_file(evaluate, text):
    with pytest.raises(DatasetError, match=r"annotations.json: expected"):
        evaluate(text)


def test_missing_folder_and_file(detector, tmp_path):
    with pytest.raises(DatasetError, match="expected the folder of the images"):
        swiftdet.evaluate(detector, tmp_path / "none", demo.dataset().annotations)
    with pytest.raises(DatasetError, match="cannot be read"):
        swiftdet.evaluate(detector, demo.dataset().images, tmp_path / "none.json")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"detector": "demo-yolov7"}, "detector: expected a swiftdet.Detector, got str"),
        ({"images_dir": 5}, "images_dir: expected a path, got 5"),
        ({"annotations_json": None}, "annotations_json: expected a path, got None"),
        ({"save_dir": 3.0}, "save_dir: expected a path"),
        ({"protocol": ["yolov7"]}, "protocol: expected one of 'auto'"),
        ({"force_protocol": "yes"}, "force_protocol: expected True or False"),
        ({"restart": 1}, "restart: expected True or False"),
    ],
)
def test_arguments_of_the_wrong_type(detector, changes, words):
    images, annotations = demo.dataset()
    arguments = {"detector": detector, "images_dir": images, "annotations_json": annotations, **changes}
    with pytest.raises(InvalidType, match=words):
        swiftdet.evaluate(**arguments)


def test_no_class_in_common(evaluate, document):
    strange = copy.deepcopy(document)
    for row in strange["categories"]:
        row["name"] += " of glass"
    with pytest.raises(
        DatasetError, match=r"no category is a class of the detector: it has 'balloon of glass'.*'boat'"
    ):
        evaluate(strange)
