"""The interval of AP: a resampled data set has the AP that pycocotools gives the data set written out."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from swiftdet.evaluation import bootstrap, coco
from test_coco_metric import random_data_set, renumbered


def matched(document, predictions):
    """What pycocotools matched, for all areas, by category and image; and the levels of recall."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = renumbered(document)
        truth.createIndex()
        run = COCOeval(truth, truth.loadRes([dict(row) for row in predictions]), "bbox")
        run.evaluate()
    return coco._matched(run), run.params.recThrs, run.params.imgIds


def written_out(document, predictions, times):
    """The data set in which image i is there times[i] times, its copies beside one another."""
    images, annotations, found = [], [], []
    for i, (image, count) in enumerate(times.items()):
        for copy in range(count):
            new = 1000 * i + copy
            images.append({"id": new, "file_name": f"{new}.png", "height": 400, "width": 400})
            annotations += [{**row, "image_id": new} for row in document["annotations"] if row["image_id"] == image]
            found += [{**row, "image_id": new} for row in predictions if row["image_id"] == image]
    return {**document, "images": images, "annotations": annotations}, found


@pytest.mark.parametrize("seed", range(50))
def test_a_resampled_data_set_has_the_ap_of_one_that_is_written_out(seed):
    document, predictions = random_data_set(seed)
    # Written out, equal scores of an image would alternate with those of its copies, whose order is nobody's promise.
    for i, row in enumerate(predictions):
        row["score"] += 1e-7 * i
    found, recalls, images = matched(document, predictions)
    categories = [bootstrap.matches(category) for category in found]
    rng = np.random.default_rng(seed)
    counts = [np.ones(len(images), int), *(rng.multinomial(len(images), np.full(len(images), 1 / len(images)), 3))]
    for times in counts:
        again, rows = written_out(document, predictions, dict(zip(images, times.tolist(), strict=True)))
        ap = bootstrap.resampled_ap(categories, times, recalls)
        expected = coco.score(renumbered(again), rows).summary["AP"]  # pycocotools'
        assert ap == (None if expected is None else pytest.approx(expected, abs=1e-9))


def one_class(images, right):
    """A class that is found with a chance of `right`, and as often where it is not."""
    rng = np.random.default_rng(1)
    document = {
        "images": [{"id": i, "file_name": f"{i}.png", "height": 400, "width": 400} for i in range(images)],
        "annotations": [
            {"id": i + 1, "image_id": i, "category_id": 1, "bbox": [10, 10, 50, 50], "area": 2500, "iscrowd": 0}
            for i in range(images)
        ],
        "categories": [{"id": 1, "name": "thing"}],
    }
    places = [[10, 10, 50, 50] if rng.random() < right else [200, 200, 50, 50] for _ in range(images)]
    rows = [
        {"image_id": i, "category_id": 1, "bbox": box, "score": float(rng.random())} for i, box in enumerate(places)
    ]
    return document, rows


def test_the_interval_holds_ap_and_narrows_with_more_images():
    widths = []
    for images in (25, 100, 400):
        document, rows = one_class(images, right=0.8)
        scores = coco.score(document, rows, interval=True)
        found = scores.interval
        assert found.low < scores.summary["AP"] < found.high
        assert (found.level, found.resamples) == (0.95, bootstrap.RESAMPLES)
        widths.append(found.high - found.low)
    assert widths[0] > 1.5 * widths[1] > 2.25 * widths[2]  # by the root of four, but for chance
    assert coco.score(document, rows, interval=True).interval == found


def test_it_covers_what_it_says():
    """Of many samples of one kind of images, about 95 % have an interval that holds the AP of all of them."""
    document, rows = one_class(4000, right=0.7)
    truth = coco.score(document, rows).summary["AP"]
    found, recalls, _ = matched(document, rows)
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(60):
        chosen = [[found[0][i] for i in rng.choice(4000, 120, replace=False)]]
        interval = bootstrap.ap_interval(chosen, recalls, resamples=200)
        inside += interval.low <= truth <= interval.high
    assert inside >= 51


def test_what_never_varies_has_an_interval_of_no_width():
    document, rows = one_class(30, right=1.0)
    found = coco.score(document, rows, interval=True).interval
    assert (found.low, found.high) == (pytest.approx(1.0), pytest.approx(1.0))


def test_nothing_to_score_has_none():
    document, rows = one_class(5, right=0.5)
    assert coco.score({**document, "annotations": []}, rows, interval=True).interval is None
    assert coco.score(document, rows).interval is None
    nothing = coco.score(document, [], interval=True).interval
    assert (nothing.low, nothing.high) == (0.0, 0.0)
