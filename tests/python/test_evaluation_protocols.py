"""Protocols: the official pixels bit for bit, the official way back for boxes, and no mixing of unlike ones."""

from __future__ import annotations

import dataclasses
import json

import cv2
import make_models
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import official_evaluation as official
import swiftdet
from swiftdet import demo, ops
from swiftdet.errors import ImageError, InvalidArgument
from swiftdet.evaluation import PROTOCOLS, protocols, rectangular
from swiftdet.recognition.families import FAMILY_DEFAULTS

SIZES = 200
RECTANGULAR = PROTOCOLS["yolov7"].resize

sides = st.one_of(st.integers(1, 40), st.integers(1, 500), st.sampled_from([31, 32, 33, 63, 64, 65, 96, 128]))
sizes = st.tuples(sides, sides)


def noise(size, seed=0):
    """A BGR image of random pixels."""
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


class Recorder:
    """An engine for any size that keeps its inputs, and answers with a few boxes that depend on the shape alone."""

    def __init__(self, outputs):
        self.seen = []
        self.inputs = [("images", [1, 3, -1, -1])]
        self.outputs = [(name, [1, channels, -1, -1]) for name, channels in outputs]

    def run(self, inputs):
        image = inputs["images"]
        self.seen.append(image[0].copy())
        rng = np.random.default_rng([*image.shape])
        strides = (8, 16, 32) * (len(self.outputs) // 3)
        return [
            rng.normal(-4, 2, (1, shape[1], image.shape[2] // stride, image.shape[3] // stride)).astype(np.float32)
            for (_, shape), stride in zip(self.outputs, strides, strict=True)
        ]


@pytest.fixture
def recording(tmp_path):
    """Makes a detector of a family around a recorder."""

    def make(layout, outputs, **options):
        path = tmp_path / f"{layout}.onnx"
        onnx.save(make_models.build(layout, size=(64, 64), classes=2, seed=3, dynamic_size=True), path)
        engine = Recorder(outputs)
        return swiftdet.Detector(path, engine=engine, **options), engine

    return make


@pytest.fixture
def data_set(tmp_path):
    """Writes images and annotations in which every category occurs."""

    def write(images, suffix=".png"):
        folder = tmp_path / "images"
        folder.mkdir(exist_ok=True)
        rows = []
        for number, image in enumerate(images):
            name = f"{(number * 7919) % 1000:03d}{suffix}"  # in another order than that of the list
            cv2.imwrite(str(folder / name), image)
            rows.append({"id": number + 1, "file_name": name})
        truth = {
            "images": rows,
            "annotations": [{"id": i, "image_id": 1, "category_id": i, "bbox": [0, 0, 9, 9]} for i in (1, 2)],
            "categories": [{"id": i, "name": f"class{i - 1}"} for i in (1, 2)],
        }
        (tmp_path / "truth.json").write_text(json.dumps(truth))
        return folder, tmp_path / "truth.json", {row["id"]: row["file_name"] for row in rows}

    return write


# -- pixels ------------------------------------------------------------------------------------------------------------


@given(st.lists(sizes, min_size=1, max_size=40), st.sampled_from([64, 96, 416, 640]), st.sampled_from([32, 64]))
@settings(max_examples=SIZES)
def test_groups_have_the_official_shapes(group, side, stride):
    order, placements = rectangular.plan(group, side, stride, RECTANGULAR)
    expected_order, shapes = official.batch_shapes(group, side, stride, 32)
    assert order == expected_order.tolist()
    for place, i in enumerate(order):
        assert placements[i].shape == tuple(shapes[place // 32])


@given(sizes, sizes, st.sampled_from([32, 64, 96, 256]), st.randoms(use_true_random=False))
@settings(max_examples=SIZES)
def test_rectangular_pixels_equal_the_official_ones(size, mate, side, random):
    """An image beside a mate of other proportions, which the shape of both depends on."""
    image = noise(size, random.randrange(1000))
    _, placements = rectangular.plan([size, mate], side, 32, RECTANGULAR)
    placement = placements[0]
    expected = official.rectangular(image, placement.shape, side)
    canvas = rectangular.place(image, placement, RECTANGULAR)
    tensor, meta = ops.letterbox(canvas, placement.shape)
    assert tuple(meta) == (1.0, 1.0, 0, 0)  # the detector's own letterbox leaves it as it is
    if expected is None:  # OpenCV resizes nothing to no px
        assert min(placement.resized) == 1
        return
    assert tensor.dtype == np.float32
    assert np.array_equal(tensor, expected.tensor)
    boxes = np.random.default_rng(side).uniform(-40, 340, (50, 4)).astype(np.float32)
    assert np.array_equal(placement.to_source(boxes), official.boxes_to_source(boxes, expected))


def test_large_photographs_shrink_by_area_as_the_official_ones():
    for size in ((480, 640), (427, 640), (640, 427), (1080, 1920), (1281, 1280), (333, 500)):
        image = noise(size)
        _, (placement,) = rectangular.plan([size], 640, 32, RECTANGULAR)
        expected = official.rectangular(image, placement.shape, 640)
        tensor, _ = ops.letterbox(rectangular.place(image, placement, RECTANGULAR), placement.shape)
        assert np.array_equal(tensor, expected.tensor), size
    _, (placement,) = rectangular.plan([(480, 640)], 640, 32, RECTANGULAR)
    assert placement.shape == (512, 672)  # as the official evaluation of COCO has it


@given(sizes, st.sampled_from([32, 64, 96, 256, 416]), st.integers(0, 999))
@settings(max_examples=SIZES)
def test_stretched_pixels_equal_the_official_ones(tmp_path_factory, size, side, seed):
    path = tmp_path_factory.getbasetemp() / "stretched.png"
    cv2.imwrite(str(path), noise(size, seed))
    preprocess = FAMILY_DEFAULTS["damo-yolo"].preprocess
    image = swiftdet.images.load(path)
    tensor, _ = ops.letterbox(
        image.pixels,
        (side, side),
        mode=preprocess.mode,
        interpolation=preprocess.interpolation,
        color=image.order,
        divisor=preprocess.divisor,
        pad_value=preprocess.pad_value,
    )
    assert np.array_equal(tensor, official.stretched(path, side))


def test_the_network_sees_the_official_rectangular_pixels(recording, data_set):
    """From files to the engine's input, in the official order, and back to boxes, through `evaluate`."""
    rng = np.random.default_rng(4)
    images = [noise(rng.integers(4, 160, 2), seed) for seed in range(70)]
    images += [noise((64, 64)), noise((50, 1)), noise((3, 150)), np.repeat(noise((40, 70))[:, :, :1], 3, axis=2)]
    folder, truth, names = data_set(images)
    cv2.imwrite(str(folder / names[len(images)]), images[-1][:, :, 0])  # a grey file
    detector, engine = recording("yolov7-zoo", [("p3", 21), ("p4", 21), ("p5", 21)], imgsz=64, family="yolov7")
    report = swiftdet.evaluate(detector, folder, truth)
    assert report.protocol.name == "yolov7"

    ids = sorted(names, key=names.get)
    ordered = [cv2.imread(str(folder / names[i])) for i in ids]
    order, shapes = official.batch_shapes([image.shape[:2] for image in ordered], 64, 32, 32)
    prepared = {
        ids[i]: official.rectangular(ordered[i], tuple(shapes[place // 32]), 64) for place, i in enumerate(order)
    }
    assert all(prepared.values())
    # Several are in flight, so that they may reach the engine in another order.
    assert sorted(x.tobytes() for x in engine.seen) == sorted(p.tensor.tobytes() for p in prepared.values())

    rows = list(report.predictions)
    protocol = PROTOCOLS["yolov7"]
    for image_id, expected in prepared.items():
        canvas = np.rint(expected.tensor * 255).astype(np.uint8).transpose(1, 2, 0)
        result = detector(
            canvas, color="rgb", imgsz=canvas.shape[:2], conf=protocol.conf, iou=protocol.iou, multi_label=True
        )
        boxes = official.boxes_to_source(result.xyxy, expected)
        mine = [row for row in rows if row["image_id"] == image_id]
        assert [row["score"] for row in mine] == [round(score, 5) for score in result.conf.tolist()]
        for row, (x1, y1, x2, y2) in zip(mine, boxes.tolist(), strict=True):
            assert row["bbox"] == [round(side, 3) for side in (x1, y1, x2 - x1, y2 - y1)]
    assert len(rows) > 1000


def test_the_network_sees_the_official_stretched_pixels(recording, data_set):
    rng = np.random.default_rng(5)
    images = [noise(rng.integers(1, 160, 2), seed) for seed in range(40)]
    folder, truth, names = data_set(images, suffix=".jpg")
    outputs = [(f"cls_p{k}", 2) for k in (3, 4, 5)] + [(f"reg_p{k}", 68) for k in (3, 4, 5)]
    detector, engine = recording("damo-raw", outputs, imgsz=64)
    report = swiftdet.evaluate(detector, folder, truth)
    assert report.protocol.name == "damo-yolo"
    expected = [official.stretched(folder / name, 64) for name in names.values()]
    assert sorted(x.tobytes() for x in engine.seen) == sorted(x.tobytes() for x in expected)
    row = report.predictions[0]
    assert row["score"] == float(np.float32(row["score"]))  # not rounded, as the official ones


def test_a_picture_that_lies_on_its_side_is_turned_first(recording, data_set):
    """Its proportions are those of the picture as it shows, by which the groups are made."""
    folder, truth, names = data_set([noise((50, 120))], suffix=".jpg")
    path = folder / names[1]
    with Image.open(path) as image:
        exif = image.getexif()
        exif[0x0112] = 6
        image.save(path, exif=exif, quality=95)
    detector, engine = recording("yolov7-zoo", [("p3", 21), ("p4", 21), ("p5", 21)], imgsz=64, family="yolov7")
    swiftdet.evaluate(detector, folder, truth)
    assert engine.seen[0].shape == (3, 96, 64)
    upright = cv2.imread(str(path))
    assert upright.shape[:2] == (120, 50)
    assert np.array_equal(engine.seen[0], official.rectangular(upright, (96, 64), 64).tensor)


def test_a_damaged_image_is_named_also_where_it_is_read_late(recording, data_set):
    folder, truth, names = data_set([noise((50, 120)), noise((60, 60))])
    path = folder / names[2]
    path.write_bytes(path.read_bytes()[:-2000])
    detector, _ = recording("yolov7-zoo", [("p3", 21), ("p4", 21), ("p5", 21)], imgsz=64, family="yolov7")
    with pytest.raises(ImageError, match=rf"{path.name}.*truncated"):
        swiftdet.evaluate(detector, folder, truth)


# -- which protocol ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def specs():
    found = {}
    for name in ("demo-yolov7", "demo-damo-yolo"):
        with swiftdet.Detector(name) as detector:
            found[detector.spec.family] = detector.spec
    found["ultralytics"] = dataclasses.replace(found["yolov7"], family="ultralytics")
    return found


def test_auto_takes_the_one_of_the_family_that_fits(specs):
    def chosen(family, *, dynamic_size=True, **changes):
        spec = dataclasses.replace(specs[family], **changes)
        return protocols.choose("auto", spec, dynamic_size=dynamic_size)

    assert chosen("yolov7").protocol.name == "yolov7"
    fixed = chosen("yolov7", dynamic_size=False)
    assert fixed.protocol.name == "yolov7-fixed"
    assert fixed.reason == "yolov7 needs a model of open size, this one is fixed at 256x256"
    assert chosen("yolov7", imgsz=(256, 320)).protocol.name == "yolov7-fixed"
    assert chosen("damo-yolo").protocol.name == "damo-yolo"
    assert chosen("damo-yolo", iou=0.65).protocol.name == "damo-yolo-nano"
    assert chosen("ultralytics", dynamic_size=False).protocol.name == "ultralytics"


@pytest.mark.parametrize(
    ("name", "family", "changes", "words"),
    [
        ("damo-yolo", "yolov7", {}, "damo-yolo needs a model with stretch pre-processing, this one has letterbox"),
        ("yolov7", "damo-yolo", {}, "yolov7 needs a model with letterbox pre-processing, this one has stretch"),
        ("ultralytics", "damo-yolo", {}, "needs a model with letterbox pre-processing"),
        ("yolov7", "yolov7", {"dynamic_size": False}, "needs a model of open size"),
        ("yolov7", "yolov7", {"imgsz": (256, 320)}, "needs a square size, got 256x320"),
        ("yolov7-fixed", "yolov7", {"pad_value": 0}, "pads with 114, the model's description with 0"),
        ("yolov7-fixed", "yolov7", {"interpolation": "area"}, "resizes with linear interpolation"),
        ("auto", "damo-yolo", {"mode": "letterbox"}, "the model's family, damo-yolo, needs a model with stretch"),
    ],
)
def test_a_protocol_that_contradicts_the_model_is_refused(specs, name, family, changes, words):
    changes = dict(changes)
    dynamic_size = changes.pop("dynamic_size", True)
    spec = specs[family]
    pixels = {key: changes.pop(key) for key in ("mode", "interpolation", "pad_value") if key in changes}
    spec = dataclasses.replace(spec, preprocess=dataclasses.replace(spec.preprocess, **pixels), **changes)
    with pytest.raises(InvalidArgument, match=words):
        protocols.choose(name, spec, dynamic_size=dynamic_size)


def test_a_forced_protocol_keeps_the_models_pixels_and_says_so(specs):
    choice = protocols.choose("damo-yolo", specs["yolov7"], dynamic_size=True, force=True)
    protocol = choice.protocol
    assert (protocol.name, protocol.conf, protocol.max_det) == ("damo-yolo-forced", 0.05, 500)
    assert (protocol.resize.rule, protocol.resize.pad_value) == ("letterbox", 114)
    assert "needs a model with stretch pre-processing" in protocol.deviations[-1]
    # Where nothing contradicts, there is nothing to force.
    assert (
        protocols.choose("ultralytics", specs["yolov7"], dynamic_size=True, force=True).protocol.name == "ultralytics"
    )


def test_a_forced_protocol_is_recorded_with_the_result(specs):
    with swiftdet.Detector("demo-yolov7") as detector:
        with pytest.raises(InvalidArgument, match="needs a model with stretch"):
            swiftdet.evaluate(detector, *demo.dataset(), protocol="damo-yolo")
        report = swiftdet.evaluate(detector, *demo.dataset(), protocol="damo-yolo", force_protocol=True)
    recorded = report.to_dict()["measured"]["protocol"]
    assert recorded["name"] == "damo-yolo-forced"
    assert recorded["resize"]["rule"] == "letterbox"


def test_each_protocol_is_written_down():
    """Names, thresholds and geometry of the sources; a change of any is a change of what figures mean."""
    facts = {
        "yolov7": (0.001, 0.65, 300, "rectangular", "area", 32, 0.5, 3, 5),
        "yolov7-fixed": (0.001, 0.65, 300, "letterbox", "linear", None, None, 3, 5),
        "damo-yolo": (0.05, 0.7, 500, "stretch", "linear", None, None, None, None),
        "damo-yolo-nano": (0.03, 0.65, 500, "stretch", "linear", None, None, None, None),
        "ultralytics": (0.001, 0.7, 300, "letterbox", "linear", None, None, 3, 5),
    }
    assert {
        name: (
            p.conf,
            p.iou,
            p.max_det,
            *dataclasses.astuple(p.resize)[:2],
            p.resize.group,
            p.resize.extra_strides,
            p.box_decimals,
            p.score_decimals,
        )
        for name, p in PROTOCOLS.items()
    } == facts
    for name, protocol in PROTOCOLS.items():
        assert protocol.name == name
        assert protocol.multi_label
        assert protocol.source
        assert protocol.resize.enlarge == "linear"
        assert not name.endswith(protocols.FORCED_SUFFIX)
