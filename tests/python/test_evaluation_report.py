"""What an evaluation leaves behind: its document, predictions in COCO's format, errors counted and drawn, plots."""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

import swiftdet
from swiftdet import demo, measurements
from swiftdet.errors import DocumentError
from swiftdet.evaluation import confusion, dataset, plots
from swiftdet.evaluation.coco import Curves
from swiftdet.evaluation.predictions import ImagePredictions, Predictions, table

IMAGES = 16


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    whole = json.loads(demo.dataset().annotations.read_text())
    chosen = whole["images"][:IMAGES]
    ids = {image["id"] for image in chosen}
    path = tmp_path_factory.mktemp("sample") / "instances_val2017.json"
    rows = [row for row in whole["annotations"] if row["image_id"] in ids]
    info = {"description": "COCO 2017 Dataset", "year": 2017}
    path.write_text(json.dumps({**whole, "info": info, "images": chosen, "annotations": rows}))
    with swiftdet.Detector("demo-yolov7") as detector:
        return swiftdet.evaluate(detector, demo.dataset().images, path, protocol="yolov7-fixed")


@pytest.fixture(scope="module")
def saved(report, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "deep" / "er"
    assert all(path.is_file() for path in report.save(folder))
    return folder


# -- the document ------------------------------------------------------------------------------------------------------


def test_the_document_says_everything(report, saved):
    document = measurements.read(saved / "report.json")
    measured = document["measured"]
    assert document["format"] == "swiftdet.evaluation/2"
    assert document["subject"]["model"] == "demo-yolov7"
    assert measured["scores"] == report.scores
    assert measured["per_class"]["boat"] == {
        "AP": report.per_class["boat"],
        "AP50": report.class_scores["boat"].ap50,
        "objects": report.class_scores["boat"].objects,
    }
    assert sum(one["objects"] for one in measured["per_class"].values()) == measured["dataset"]["objects"]
    assert measured["protocol"]["name"] == "yolov7-fixed"
    assert measured["protocol"]["chosen"] == "asked for"
    assert measured["evaluator"].startswith("pycocotools 2.")
    content = (saved / "predictions.json").read_bytes()
    assert measured["predictions"] == {
        "count": len(report.predictions),
        "sha256": hashlib.sha256(content).hexdigest(),
        "file": "predictions.json",
    }
    assert report.to_dict()["measured"] == {**measured, "predictions": {**measured["predictions"], "file": None}}
    assert measured["images_per_s"] == pytest.approx(IMAGES / measured["duration_s"])


def test_the_data_set_is_named_by_what_its_files_are(report):
    named = report.to_dict()["measured"]["dataset"]
    assert (named["name"], named["split"], named["images"]) == ("COCO 2017 Dataset", "val2017", IMAGES)
    assert named["annotations_sha256"] == hashlib.sha256(report.dataset.annotations.read_bytes()).hexdigest()
    names = sorted(entry.name for entry in report.dataset.entries)
    printed = subprocess.run(
        [shutil.which("sha256sum"), *names], cwd=demo.dataset().images, capture_output=True, check=True
    ).stdout
    assert named["images_sha256"] == hashlib.sha256(printed).hexdigest()


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("instances_val2017", "val2017"),
        ("image_info_test-dev2017", "test-dev2017"),
        ("val", "val"),
        ("my.train", "train"),
        ("instances_minival", "minival"),
        ("VAL_2", "val"),
        ("interval", None),
        ("contest", None),
        ("annotations", None),
    ],
)
def test_the_split_is_guessed_from_the_name_alone(tmp_path, name, split):
    for info, expected in (({"description": " "}, name), (None, name), ({"description": "Cells"}, "Cells")):
        document = {
            **({"info": info} if info else {}),
            "images": [{"id": 1, "file_name": "a"}],
            "annotations": [],
            "categories": [{"id": 1, "name": "b"}],
        }
        (tmp_path / "a").touch()
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(document))
        read = dataset.read_dataset(tmp_path, path)
        assert (read.name, read.split) == (expected, split)


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
    ("path", "value"),
    [
        (["scores", "AP"], None),
        (["scores", "AP"], 51.2),
        (["scores", "mAP"], 0.5),
        (["protocol", "conf"], "0.001"),
        (["protocol", "resize", "rule"], "crop"),
        (["protocol", "resize"], None),
        (["dataset", "images_sha256"], "abc"),
        (["dataset", "images"], 0),
        (["predictions", "count"], -1),
        (["per_class", "boat", "AP50"], None),
        (["images_per_s"], 0),
        (["surprise"], 1),
    ],
)
def test_the_schema_is_strict(report, path, value):
    document = report.to_dict()
    parts = {key: document[key] for key in ("subject", "provenance")}
    measurements.seal("evaluation", measured=document["measured"], **parts)
    with pytest.raises(DocumentError, match="measured"):
        measurements.seal("evaluation", measured=changed(document["measured"], path, value), **parts)


# -- predictions -------------------------------------------------------------------------------------------------------


def test_predictions_are_in_the_official_format(report, saved):
    rows = json.loads((saved / "predictions.json").read_bytes())
    assert rows == list(report.predictions)
    for row in rows:
        assert list(row) == ["image_id", "category_id", "bbox", "score"]
        assert (type(row["image_id"]), type(row["category_id"]), type(row["score"])) == (int, int, float)
        assert len(row["bbox"]) == 4
    ids = [row["image_id"] for row in rows]
    assert ids == sorted(ids)


def test_predictions_are_a_sequence():
    found = [ImagePredictions(table([[1.0, 0.0, 1.0, 2.0, 3.0, 0.5]] * k), k) for k in (2, 0, 1, 0)]
    predictions = Predictions([7, 8, 9, 10], found)
    rows = list(predictions)
    assert len(predictions) == len(rows) == 3
    assert predictions.truncated == 3
    assert [predictions[i] for i in (0, 1, 2, -1, -3)] == [rows[i] for i in (0, 1, 2, -1, -3)]
    assert predictions[1:] == rows[1:]
    assert [row["image_id"] for row in rows] == [7, 7, 9]
    for outside in (3, -4):
        with pytest.raises(IndexError):
            predictions[outside]


def test_no_predictions_are_an_empty_list(tmp_path):
    nothing = Predictions([1, 2], [ImagePredictions(table([]), 0)] * 2)
    nothing.write(tmp_path / "none.json")
    assert json.loads((tmp_path / "none.json").read_bytes()) == list(nothing) == []
    assert nothing.sha256() == hashlib.sha256((tmp_path / "none.json").read_bytes()).hexdigest()


# -- errors, counted and drawn -----------------------------------------------------------------------------------------


def counted(objects, found):
    """Objects (category, box[, crowd]) and predictions (category, score, box) of one image."""
    truth = {
        "annotations": [
            {"id": i, "image_id": 1, "category_id": category, "bbox": box, "iscrowd": int(bool(crowd))}
            for i, (category, box, *crowd) in enumerate(objects)
        ]
    }
    rows = [[float(category), *map(float, box), score] for category, score, box in found]
    return confusion.count(truth, [(1, ImagePredictions(table(rows), 0))])


def test_what_is_right_confused_invented_and_overlooked():
    result = counted(
        [(1, [0, 0, 10, 10]), (1, [50, 0, 10, 10]), (2, [100, 0, 10, 10]), (2, [150, 0, 10, 10])],
        [
            (1, 0.9, [0, 0, 10, 9]),
            (2, 0.8, [50, 0, 10, 9]),
            (2, 0.7, [100, 0, 10, 6]),
            (2, 0.6, [100, 0, 10, 7]),  # the object is taken by a better score
            (1, 0.5, [300, 0, 10, 10]),
            (1, 0.2, [150, 0, 10, 10]),  # too low a score to be seen
        ],
    )
    assert result.counts == {(1, 1): 1, (2, 2): 1, (1, 2): 1, (None, 2): 1, (None, 1): 1, (2, None): 1}
    assert result.pairs() == [(1, 2, 1)]
    assert [(m.kind, m.truth, m.found, m.score) for m in result.examples] == [
        ("confused", 1, 2, 0.8),
        ("false-positive", None, 2, 0.6),
        ("false-positive", None, 1, 0.5),
        ("missed", 2, None, None),
    ]


def test_the_own_category_comes_before_a_better_overlap_of_another():
    result = counted([(1, [0, 0, 10, 10]), (2, [0, 0, 10, 6])], [(2, 0.9, [0, 0, 10, 9]), (1, 0.8, [0, 0, 10, 10])])
    assert result.counts == {(2, 2): 1, (1, 1): 1}


def test_what_lies_in_a_crowd_is_neither_right_nor_wrong():
    crowd = [(1, [0, 0, 100, 100], True)]
    inside, beside = [10, 10, 10, 10], [96, 0, 10, 10]
    assert counted(crowd, [(1, 0.9, inside), (1, 0.8, inside)]).counts == {}
    assert counted(crowd, [(2, 0.9, inside), (1, 0.8, beside)]).counts == {(None, 2): 1, (None, 1): 1}


def test_examples_are_the_worst_of_many_kinds():
    many = [(1, 0.9 - i / 1000, [20 * i, 0, 10, 10]) for i in range(9)] + [(2, 0.3, [0, 50, 9, 9])]
    examples = counted([], many).examples
    assert [(m.found, m.score) for m in examples[:3]] == [(1, 0.9), (2, 0.3), (1, 0.899)]
    assert len(examples) == confusion.EXAMPLES
    missed = counted([(1, [0, 0, 5, 5]), (1, [50, 0, 9, 9])], []).examples
    assert [m.truth_box[2] for m in missed] == [9.0, 5.0]


def test_counts_and_pictures_are_saved(report, saved):
    counts = json.loads((saved / "confusion.json").read_bytes())
    single = report.objects  # the sample has no crowds
    found = sum(counts["right"].values()) + sum(row["count"] for row in counts["confused"])
    assert found + sum(counts["missed"].values()) == single
    seen = sum(row["score"] >= confusion.SCORE for row in report.predictions)
    assert found + sum(counts["false_positives"].values()) == seen
    assert counts["examples"]
    assert {example["picture"] for example in counts["examples"]} == {
        f"examples/{path.name}" for path in (saved / "examples").iterdir()
    }
    for example in counts["examples"]:
        with (
            Image.open(saved / example["picture"]) as picture,
            Image.open(demo.dataset().images / example["image"]) as source,
        ):
            assert picture.size == source.size
            assert np.asarray(picture).shape == np.asarray(source).shape
            assert (np.asarray(picture, int) - np.asarray(source)).any()


def test_plots_are_pictures(saved):
    for name in ("precision_recall.png", "confusion.png"):
        with Image.open(saved / name) as picture:
            assert picture.format == "PNG"
            assert min(picture.size) > 300
            assert len(picture.convert("RGB").getcolors(1 << 24)) > 20


def test_old_examples_do_not_stay(report, tmp_path):
    folder = tmp_path / "examples"
    folder.mkdir()
    (folder / "confused-99.jpg").touch()
    (folder / "mine.jpg").touch()
    report.save(tmp_path)
    assert not (folder / "confused-99.jpg").exists()
    assert (folder / "mine.jpg").exists()


def test_plots_of_names_that_no_font_has(tmp_path):
    """Of many classes, of strange names, of classes without objects: without a warning, which here is an error."""
    names = dict(enumerate(["猫", "$x^2$", "a" * 90, "\U0001f600", "d\ne", *map(str, range(40))]))
    precision = np.full((10, 101, len(names)), 0.5)
    precision[:, :, 3] = -1
    plots.precision_recall(
        Curves(np.linspace(0, 1, 101), precision, tuple(names.values())), "$ 猫" * 40, tmp_path / "a.png"
    )
    counts = {(0, 0): 3, (1, 2): 4, (None, 3): 1, (44, None): 2}
    plots.matrix(confusion.Confusion(counts, []), names, tmp_path / "b.png")
    plots.precision_recall(Curves(np.linspace(0, 1, 101), precision[:, :, 3:4], ("猫",)), "", tmp_path / "c.png")
    plots.matrix(confusion.Confusion({}, []), {1: "a"}, tmp_path / "d.png")
    for name in "abcd":
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert min(picture.size) > 200
