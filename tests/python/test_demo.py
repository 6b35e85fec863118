"""The bundled detectors, picture and validation sample are true: what they claim is measured here again."""

from __future__ import annotations

import contextlib
import io
import json

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

import scenes
import swiftdet
from make_dataset import SPLITS, coco_json, write_split
from network_cost import cost
from scenes import MIN_VISIBLE, draw_scene
from swiftdet import checkpoints, demo, zoo
from swiftdet.errors import InvalidArgument

DEMOS = zoo.demo_names()
MB = 1_000_000


def iou(first, second) -> float:
    x1, y1 = np.maximum(first[:2], second[:2])
    x2, y2 = np.minimum(first[2:], second[2:])
    inter = max(0.0, x2 - x1) * max(0.0, y2 - y1)
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (first, second)]
    return inter / (sum(areas) - inter)


@pytest.fixture(scope="module")
def truth() -> COCO:
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(demo.dataset().annotations)


@pytest.fixture(scope="module", params=DEMOS)
def detector(request):
    with swiftdet.Detector(request.param) as opened:
        yield opened


# --- The detectors ----------------------------------------------------------------------------------------------------


def test_each_family_has_a_demo():
    assert {zoo.info(name).family for name in DEMOS} == {"yolov7", "damo-yolo"}
    assert not set(DEMOS) & set(zoo.names())


@pytest.mark.parametrize("name", DEMOS)
def test_the_files_are_small(name):
    assert 0.5 * MB < demo.weights(name).stat().st_size <= 3 * MB
    files = [demo.dataset().annotations, *demo.dataset().images.iterdir()]
    assert sum(path.stat().st_size for path in files) <= 2 * MB


@pytest.mark.parametrize("name", DEMOS)
def test_parameters_and_gflops_are_those_of_the_catalogue(name):
    info = zoo.info(name)
    parameters, gflops = cost(zoo.build(name, checkpoints.load(demo.weights(name)), imgsz=info.imgsz, batch=1))
    scales = 3 if info.family == "damo-yolo" else 0  # counted by convention, though folded into the convolutions
    assert parameters + scales == info.params
    assert gflops == pytest.approx(info.gflops, abs=0.0051)


def test_weights_are_named_where_there_are_none():
    with pytest.raises(InvalidArgument, match=r"no weights of 'yolov7'.*demo-damo-yolo, demo-yolov7"):
        demo.weights("yolov7")


def test_the_objects_of_the_picture_are_found_and_nothing_else(detector):
    expected = json.loads(demo.picture().with_suffix(".json").read_text())
    result = detector(demo.picture(), conf=0.4)
    found = [(detector.names[int(c)], box) for c, box in zip(result.cls, result.xyxy, strict=True)]
    for item in expected:
        best = max(found, key=lambda f: iou(f[1], item["box"]))
        assert best[0] == item["name"]
        assert iou(best[1], item["box"]) > 0.6
    assert len(found) == len(expected)


def test_accuracy_on_the_bundled_sample(detector):
    published = next(info.accuracy[0] for info in map(zoo.info, DEMOS) if info.family == detector.spec.family)
    report = swiftdet.evaluate(detector, *demo.dataset(), protocol=published.protocol)
    assert published.ap > 60
    # Published on 600 images; the sample has 100.
    for name, value in (("AP", published.ap), ("AP50", published.ap50), ("AP75", published.ap75)):
        assert 100 * report.scores[name] == pytest.approx(value, abs=4.0)


@pytest.fixture(scope="module")
def validation_set(tmp_path_factory):
    """The 600 images behind the published figures, drawn again."""
    folder = tmp_path_factory.mktemp("data")
    write_split(folder, "val", 600, seed=0)
    return folder / "val", folder / "val.json"


@pytest.mark.slow
def test_the_published_accuracy(detector, validation_set):
    published = next(info.accuracy[0] for info in map(zoo.info, DEMOS) if info.family == detector.spec.family)
    report = swiftdet.evaluate(detector, *validation_set, protocol=published.protocol)
    assert report.images == 600
    for name, value in (("AP", published.ap), ("AP50", published.ap50), ("AP75", published.ap75)):
        assert 100 * report.scores[name] == pytest.approx(value, abs=0.1)


def test_a_demo_is_not_synthetic_and_describes_itself(detector):
    assert not detector.spec.synthetic
    assert detector.imgsz == (256, 256)
    assert list(detector.names.values()) == [
        c["name"] for c in json.loads(demo.dataset().annotations.read_text())["categories"]
    ]


def test_two_engines_agree(detector):
    with swiftdet.Detector(
        next(n for n in DEMOS if zoo.info(n).family == detector.spec.family), engine="onnxruntime"
    ) as other:
        ours, theirs = detector(demo.picture()), other(demo.picture())
    np.testing.assert_allclose(ours.xyxy, theirs.xyxy, atol=2e-2)
    np.testing.assert_allclose(ours.conf, theirs.conf, atol=1e-4)
    np.testing.assert_array_equal(ours.cls, theirs.cls)


# --- The data set -----------------------------------------------------------------------------------------------------


def test_the_sample_is_what_the_generator_draws(truth):
    """Image i of the validation set depends on the seed, the split and i alone."""
    for index in (0, 1, 2):
        entry = truth.dataset["images"][index]
        rng = np.random.default_rng([0, SPLITS.index("val"), index])
        long, short = int(rng.integers(256, 385)), int(rng.integers(192, 321))
        size = (min(long, short), max(long, short)) if rng.random() < 0.7 else (max(long, short), min(long, short))
        image, objects = draw_scene(rng, size)
        stored = cv2.imread(str(demo.dataset().images / entry["file_name"]))
        assert stored.shape == image.shape
        assert np.abs(stored.astype(int) - image).mean() < 12  # JPEG
        again = coco_json([(entry["file_name"], size, objects)])["annotations"]
        boxes = [a["bbox"] for a in truth.loadAnns(truth.getAnnIds(imgIds=[entry["id"]]))]
        assert [a["bbox"] for a in again] == boxes


@pytest.mark.parametrize("seed", range(5))
def test_every_object_lies_in_the_image_and_can_be_seen(seed):
    size = (200, 260)
    _, objects = draw_scene(np.random.default_rng(seed), size, objects=(3, 8))
    assert objects
    for item in objects:
        x1, y1, x2, y2 = item.box
        assert 0 <= x1 < x2 <= size[1]
        assert 0 <= y1 < y2 <= size[0]
        assert 0.1 * MIN_VISIBLE * (x2 - x1) * (y2 - y1) < item.area <= (x2 - x1) * (y2 - y1)


def test_a_box_holds_what_the_object_changed():
    """With one object and nothing before it: the pixels that differ from the same scene without it lie in its box."""
    checked = 0
    for seed in range(40):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(scenes, "_foreground", lambda _, canvas, owner, __: (canvas, owner))
            patch.setattr(scenes, "_camera", lambda _, image: image)
            image, objects = draw_scene(np.random.default_rng(seed), (150, 200), objects=(1, 1))
            empty, none = draw_scene(np.random.default_rng(seed), (150, 200), objects=(0, 0))
        assert none == []
        if not objects:
            continue
        # The number of objects is drawn after the background, which is therefore the same.
        changed = np.argwhere(np.abs(image.astype(int) - empty).max(axis=2) > 12)
        (top, left), (bottom, right) = changed.min(axis=0), changed.max(axis=0) + 1
        np.testing.assert_allclose(objects[0].box, (left, top, right, bottom), atol=3.0)
        checked += 1
    assert checked >= 30


def test_the_same_seed_draws_the_same_scene():
    first, second = (draw_scene(np.random.default_rng(5), (120, 160)) for _ in range(2))
    np.testing.assert_array_equal(first[0], second[0])
    assert first[1] == second[1]


def test_every_class_is_in_the_sample(truth):
    assert len(truth.getCatIds()) == 8
    assert all(len(truth.getAnnIds(catIds=[i])) >= 20 for i in truth.getCatIds())
    assert len(truth.getImgIds()) == 100
