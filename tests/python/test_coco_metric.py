"""The twelve numbers: pycocotools' own on the same files, and those of COCO's definition in plain loops."""

from __future__ import annotations

import contextlib
import io
import json

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

import naive_coco
from swiftdet.evaluation import coco
from swiftdet.evaluation.dataset import read_dataset

SEEDS = range(50)


def random_data_set(seed):
    """Annotations and predictions with everything that the metric treats specially.

    Crowds, objects marked to be ignored, areas unlike those of the boxes, images without objects or without
    predictions, categories without either, boxes of no size, equal scores, duplicates, more boxes than the limits take,
    ids in disorder.
    """
    rng = np.random.default_rng(seed)
    images = [int(i) for i in rng.permutation(40)[: rng.integers(1, 7)]]
    categories = [int(i) for i in rng.permutation(90)[: rng.integers(1, 5)]]
    annotations, predictions = [], []
    for image in images:
        for _ in range(rng.integers(0, 9) if rng.random() < 0.8 else 0):
            side = float(rng.choice([8, 31, 32, 33, 60, 96, 97, 150])) * rng.uniform(0.9, 1.1)
            box = [*rng.uniform(0, 300, 2).round(1).tolist(), side, round(side * rng.uniform(0.5, 2), 2)]
            category = int(rng.choice(categories))
            row = {"id": len(annotations), "image_id": image, "category_id": category, "bbox": box}
            row["iscrowd"] = int(rng.random() < 0.15)
            row["area"] = box[2] * box[3] * (rng.uniform(0.3, 1.0) if rng.random() < 0.5 else 1.0)
            if rng.random() < 0.1:
                row["ignore"] = 1  # of other tools; COCO's metric knows no such field
            annotations.append(row)
            for _ in range(rng.integers(0, 4)):
                moved = (np.array(box) + rng.normal(0, 0.08 * side, 4)).clip(0).round(2).tolist()
                guessed = category if rng.random() < 0.8 else int(rng.choice(categories))
                score = round(float(rng.random()), 1 if rng.random() < 0.5 else 4)
                predictions.append({"image_id": image, "category_id": guessed, "bbox": moved, "score": score})
        for _ in range(rng.integers(0, 130) if rng.random() < 0.2 else rng.integers(0, 4)):
            box = [*rng.uniform(0, 300, 2).tolist(), *rng.uniform(0, 120, 2).tolist()]
            category = int(rng.choice(categories))
            predictions.append({"image_id": image, "category_id": category, "bbox": box, "score": float(rng.random())})
    rng.shuffle(annotations)
    document = {
        "images": [{"id": i, "file_name": f"{i}.png", "height": 400, "width": 400} for i in images],
        "annotations": annotations,
        "categories": [{"id": i, "name": f"thing {i}"} for i in categories],
    }
    return document, predictions


def scored(document, predictions, folder):
    """By the package, as `evaluate` does."""
    for image in document["images"]:
        (folder / image["file_name"]).touch()
    path = folder / "truth.json"
    path.write_text(json.dumps(document))
    return coco.score(read_dataset(folder, path).truth, predictions)


def by_pycocotools(document, predictions, folder):
    """By pycocotools alone, from files."""
    (folder / "alone.json").write_text(json.dumps(document))
    (folder / "found.json").write_text(json.dumps(predictions))
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(folder / "alone.json"))
        run = COCOeval(truth, truth.loadRes(str(folder / "found.json")), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return dict(zip(coco.SUMMARY, [None if value < 0 else value for value in run.stats], strict=True))


def renumbered(document):
    """Ids of objects from 1: pycocotools takes a match with the object of id 0 for none."""
    rows = [{**row, "id": number} for number, row in enumerate(document["annotations"], start=1)]
    return {**document, "annotations": rows}


def assert_equal(first, second):
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert (value is None) == (second[name] is None), name
        assert value is None or value == pytest.approx(second[name], abs=1e-9), name


@pytest.mark.parametrize("seed", SEEDS)
def test_the_numbers_are_those_of_the_definition(seed, tmp_path):
    document, predictions = random_data_set(seed)
    assert_equal(scored(document, predictions, tmp_path).summary, naive_coco.evaluate(document, predictions))


@pytest.mark.parametrize("seed", SEEDS)
def test_the_numbers_are_those_of_pycocotools_on_files(seed, tmp_path):
    document, predictions = random_data_set(seed)
    if not predictions:
        pytest.skip("pycocotools cannot load an empty list")
    scores = scored(document, predictions, tmp_path)
    assert_equal(scores.summary, by_pycocotools(renumbered(document), predictions, tmp_path))
    known = [one.ap for one in scores.per_class.values() if one.ap is not None]
    assert scores.summary["AP"] == (pytest.approx(np.mean(known), abs=1e-9) if known else None)


def test_the_data_sets_hold_what_they_should():
    """Each special case occurs in several of them."""
    cases = dict.fromkeys(("crowd", "ignore", "empty image", "no predictions", "id 0", "over 100", "empty class"), 0)
    sizes = set()
    for seed in SEEDS:
        document, predictions = random_data_set(seed)
        rows = document["annotations"]
        per_image = [
            sum(p["image_id"] == image["id"] and p["category_id"] == category["id"] for p in predictions)
            for image in document["images"]
            for category in document["categories"]
        ]
        cases["crowd"] += any(row["iscrowd"] for row in rows)
        cases["ignore"] += any("ignore" in row for row in rows)
        cases["empty image"] += len({row["image_id"] for row in rows}) < len(document["images"])
        cases["no predictions"] += len({row["image_id"] for row in predictions}) < len(document["images"])
        cases["id 0"] += any(row["id"] == 0 for row in rows)
        cases["over 100"] += max(per_image) > 100
        cases["empty class"] += len({row["category_id"] for row in rows}) < len(document["categories"])
        sizes |= {name for name, (low, high) in naive_coco.AREAS.items() for row in rows if low <= row["area"] <= high}
    assert min(cases.values()) >= 2, cases
    assert sizes == set(naive_coco.AREAS)


def test_an_object_of_id_0_is_found(tmp_path):
    """By pycocotools alone it is not, which its own annotations, counted from 1, never show."""
    document = {
        "images": [{"id": 1, "file_name": "1.png"}],
        "annotations": [{"id": 0, "image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9], "area": 81, "iscrowd": 0}],
        "categories": [{"id": 1, "name": "thing"}],
    }
    predictions = [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9], "score": 0.5}]
    assert scored(document, predictions, tmp_path).summary["AP"] == pytest.approx(1.0)
    assert by_pycocotools(document, predictions, tmp_path)["AP"] == 0.0


def test_neither_annotations_nor_predictions_are_changed(tmp_path):
    document, predictions = random_data_set(3)
    before = json.dumps([document, predictions])
    scored(document, predictions, tmp_path)
    coco.score(renumbered(document), predictions)
    assert json.dumps([document, predictions]) == before


def test_classes_have_their_own_numbers(tmp_path):
    document, predictions = random_data_set(5)
    scores = scored(document, predictions, tmp_path)
    for category in document["categories"]:
        alone = {
            **document,
            "categories": [category],
            "annotations": [row for row in document["annotations"] if row["category_id"] == category["id"]],
        }
        own = [row for row in predictions if row["category_id"] == category["id"]]
        expected = naive_coco.evaluate(alone, own)
        found = scores.per_class[category["name"]]
        assert found.objects == len(alone["annotations"])
        assert_equal({"AP": found.ap, "AP50": found.ap50}, {name: expected[name] for name in ("AP", "AP50")})


def test_the_curves_are_what_the_numbers_are_means_of(tmp_path):
    document, predictions = random_data_set(8)
    scores = scored(document, predictions, tmp_path)
    precision = scores.curves.precision
    assert precision.shape == (10, 101, len(document["categories"]))
    assert precision[precision > -1].mean() == pytest.approx(scores.summary["AP"], abs=1e-9)
    category = next(c for c in document["categories"] if c["name"] == scores.curves.categories[0])
    levels, _ = naive_coco.precision_and_recall(
        document, predictions, category["id"], 0.5, naive_coco.AREAS["all"], 100
    )
    np.testing.assert_allclose(precision[0, :, 0], levels, atol=1e-9)
