"""The GPU path gives what the CPU path gives, bit for bit, when both see the same network outputs."""

from __future__ import annotations

from pathlib import Path

import make_models
import numpy as np
import pytest

import swiftdet
from conftest import assert_same, picture
from swiftdet.model import load

# As tests/python/test_recognition.py proves.
REFUSED = {"classifier", "segmentation", "damo-with-preprocess", "ultralytics-transposed"}
DETECTORS = sorted(set(make_models.LAYOUTS) - REFUSED)
SIZES = [(64, 96), (128, 192), (97, 41), (33, 200), (480, 640), (1, 1), (3, 500)]


@pytest.fixture(scope="module")
def pair(read_model, write_plan):
    """The same detector on the CPU and on the GPU."""
    made = {}

    def make(layout, **options):
        key = (layout, tuple(sorted(options.items())))
        if key not in made:
            loaded = read_model(layout)
            made[key] = (
                swiftdet.Detector(loaded.path, device="cpu", conf=0.05),
                swiftdet.Detector(write_plan(loaded, **options), device="cuda:0", conf=0.05),
            )
        return made[key]

    yield make
    for cpu, gpu in made.values():
        cpu.close()
        gpu.close()


@pytest.mark.parametrize("layout", DETECTORS)
def test_every_layout(pair, layout):
    cpu, gpu = pair(layout)
    assert gpu.device == "cuda:0"
    assert gpu.spec.head == cpu.spec.head
    found = 0
    for seed, size in enumerate(SIZES):
        image = picture(*size, seed)
        expected, result = cpu(image), gpu(image)
        assert_same(result, expected)
        found += len(result)
    assert found > 0


@pytest.mark.parametrize(
    "options",
    [
        {"conf": 0.001, "max_det": 5},
        {"conf": 0.001, "iou": 0.1},
        {"conf": 0.001, "class_agnostic": True, "iou": 0.3},
        {"conf": 0.001, "multi_label": True, "max_det": 1000},
        {"conf": 0.01, "classes": [1]},
        {"conf": 0.01, "classes": [0, 2], "multi_label": True},
        {"conf": 1.0},
    ],
    ids=str,
)
@pytest.mark.parametrize("layout", ["ultralytics-columns", "yolov7-raw", "damo-two-outputs"])
def test_every_option(pair, layout, options):
    cpu, gpu = pair(layout)
    image = picture(150, 222, 5)
    assert_same(gpu(image, **options), cpu(image, **options))


@pytest.mark.parametrize("count", [1, 2, 3, 8, 9, 19])
def test_batches_of_different_images(pair, count):
    cpu, gpu = pair("ultralytics-columns")
    images = [picture(*SIZES[i % len(SIZES)], i) for i in range(count)]
    for result, expected in zip(gpu(images), cpu(images), strict=True):
        assert_same(result, expected)
    assert gpu([]) == []


def test_more_images_than_one_session_takes(read_model, write_plan):
    """One session, two batch sizes: the call must not wait for itself."""
    loaded = read_model("ultralytics-columns")
    images = [picture(*SIZES[i % len(SIZES)], i) for i in range(11)]
    with (
        swiftdet.Detector(loaded.path, device="cpu", conf=0.05) as cpu,
        swiftdet.Detector(write_plan(loaded), device="cuda", conf=0.05, sessions=1, max_batch=3) as gpu,
    ):
        for result, expected in zip(gpu(images), cpu(images), strict=True):
            assert_same(result, expected)


def test_an_engine_of_a_fixed_batch(pair):
    cpu, gpu = pair("ultralytics-columns", batches=(4, 4, 4))
    images = [picture(60 + i, 80, i) for i in range(6)]
    for result, expected in zip(gpu(images), cpu(images), strict=True):
        assert_same(result, expected)


def test_every_kind_of_array(pair):
    cpu, gpu = pair("ultralytics-columns")
    image = picture(90, 120, 3)
    wide = picture(90, 240, 4)
    four = picture(70, 50, 5, channels=4)
    kinds = [
        image[::-1],
        image[:, ::-1],
        image[..., ::-1],
        wide[:, ::2],
        four,
        image[:, :, 0],
        np.asfortranarray(image),
    ]
    for kind in kinds:
        for color in ("bgr", "rgb"):
            assert_same(gpu(kind, color=color), cpu(kind, color=color))


@pytest.mark.parametrize("name", ["demo-yolov7", "demo-damo-yolo"])
def test_the_bundled_demos(name, write_plan):
    pictures = sorted((Path(swiftdet.__file__).parent / "demo/val").glob("*.jpg"))[:12]
    with (
        swiftdet.Detector(name, device="cpu") as cpu,
        swiftdet.Detector(write_plan(load(name)), device="cuda") as gpu,
    ):
        expected = cpu(pictures)
        assert sum(map(len, expected)) >= 12
        for result, wanted in zip(gpu(pictures), expected, strict=True):
            assert_same(result, wanted)


def test_a_real_export(real_model, photographs, write_plan):
    """YOLOv8s at 640 x 640 on photographs."""
    loaded = load(real_model)
    with (
        swiftdet.Detector(real_model, device="cpu") as cpu,
        swiftdet.Detector(write_plan(loaded), device="cuda") as gpu,
    ):
        expected = cpu(photographs)
        assert sum(map(len, expected)) >= 2
        for result, wanted in zip(gpu(photographs), expected, strict=True):
            assert_same(result, wanted)
        for path in photographs:
            assert_same(gpu(path, conf=0.001, multi_label=True), cpu(path, conf=0.001, multi_label=True))


def test_threads_share_a_detector(pair):
    from concurrent.futures import ThreadPoolExecutor

    cpu, gpu = pair("yolov7-raw")
    images = [picture(40 + 7 * i, 90 - 3 * i, i) for i in range(12)]
    expected = [cpu(image) for image in images]
    with ThreadPoolExecutor(6) as threads:
        for result, wanted in zip(threads.map(gpu, images), expected, strict=True):
            assert_same(result, wanted)
