"""The whole path on real photographs and a real export, against a pipeline that shares no code with ours."""

from __future__ import annotations

import threading

import cv2
import numpy as np
import pytest

import swiftdet
from reference_pipeline import ReferenceDetector

BOX_TOLERANCE_PX = 1e-2
SCORE_TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def detector(real_model):
    with swiftdet.Detector(real_model) as det:
        yield det


@pytest.fixture(scope="module")
def reference(real_model):
    return ReferenceDetector(real_model)


@pytest.fixture(scope="module")
def pictures(photographs):
    return {path.stem: cv2.imread(str(path)) for path in photographs}


def assert_equal_to_reference(result, expected):
    assert len(result) == len(expected.conf)
    np.testing.assert_array_equal(result.cls, expected.cls)
    np.testing.assert_allclose(result.conf, expected.conf, atol=SCORE_TOLERANCE, rtol=0)
    np.testing.assert_allclose(result.xyxy, expected.xyxy, atol=BOX_TOLERANCE_PX, rtol=0)


@pytest.mark.parametrize("name", ["bus", "zidane"])
def test_photographs_equal_the_independent_pipeline(detector, reference, pictures, name):
    result = detector(pictures[name])
    assert_equal_to_reference(result, reference(pictures[name]))
    assert len(result) >= 1


def test_the_people_on_the_bus_picture(detector, pictures):
    people = detector(pictures["bus"], conf=0.3)
    assert 3 <= len(people) <= 4


def test_the_astronaut(detector, reference, astronaut):
    picture = cv2.imread(str(astronaut))
    assert_equal_to_reference(detector(astronaut), reference(picture))
    assert len(detector(astronaut, conf=0.4)) == 1


def test_random_crops_and_scalings_equal_the_independent_pipeline(detector, reference, pictures):
    rng = np.random.default_rng(20261122)
    found = 0
    for i in range(50):
        picture = pictures[("bus", "zidane")[i % 2]]
        height, width = picture.shape[:2]
        crop_height, crop_width = rng.integers(height // 4, height + 1), rng.integers(width // 4, width + 1)
        y, x = rng.integers(0, height - crop_height + 1), rng.integers(0, width - crop_width + 1)
        crop = picture[y : y + crop_height, x : x + crop_width]
        scale = rng.uniform(0.3, 2.0)
        size = (max(1, round(crop_width * scale)), max(1, round(crop_height * scale)))
        image = cv2.resize(crop, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
        result = detector(image)
        assert_equal_to_reference(result, reference(image))
        found += len(result)
    assert found >= 40


def test_low_threshold_equals_the_independent_pipeline(detector, reference, pictures):
    """At conf 0.001 hundreds of boxes meet NMS; where two engines' scores tie, order may differ, the set may not."""
    result = detector(pictures["bus"], conf=0.001)
    expected = reference(pictures["bus"], conf=0.001)
    assert abs(len(result) - len(expected.conf)) <= 2
    strong = expected.conf > 0.01
    np.testing.assert_allclose(
        np.sort(result.conf[result.conf > 0.01]), np.sort(expected.conf[strong]), atol=SCORE_TOLERANCE, rtol=0
    )


def test_files_bytes_arrays_and_pil_give_the_same_boxes(detector, photographs):
    from PIL import Image

    path = photographs[0]
    from_file = detector(path)
    bgr = cv2.imread(str(path))
    for source in (str(path), path.read_bytes(), bgr, Image.open(path)):
        result = detector(source)
        np.testing.assert_array_equal(result.xyxy, from_file.xyxy)
        np.testing.assert_array_equal(result.conf, from_file.conf)
    rgb = np.ascontiguousarray(bgr[:, :, ::-1])
    np.testing.assert_array_equal(detector(rgb, color="rgb").xyxy, from_file.xyxy)
    np.testing.assert_array_equal(detector(rgb[:, :, ::-1]).xyxy, from_file.xyxy)  # negative channel stride


def test_a_batch_gives_what_each_image_gives_alone(detector, pictures):
    images = [pictures["bus"], pictures["zidane"], pictures["bus"][:, ::-1], pictures["zidane"][::2, ::2]]
    for result, image in zip(detector(images), images, strict=True):
        alone = detector(image)
        np.testing.assert_array_equal(result.xyxy, alone.xyxy)
        np.testing.assert_array_equal(result.conf, alone.conf)


def test_threads_share_one_detector_without_seeing_each_others_options(detector, pictures):
    confs = [0.05, 0.25, 0.6, 0.9]
    serial = {conf: detector(pictures["bus"], conf=conf) for conf in confs}
    mistakes = []
    barrier = threading.Barrier(len(confs))

    def work(conf):
        barrier.wait()
        for _ in range(4):
            result = detector(pictures["bus"], conf=conf)
            if not np.array_equal(result.xyxy, serial[conf].xyxy):
                mistakes.append(conf)

    threads = [threading.Thread(target=work, args=(conf,)) for conf in confs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert mistakes == []


def test_throughput_mode_and_onnxruntime_agree_with_latency_mode(real_model, detector, pictures):
    expected = detector(pictures["bus"])
    for options in ({"performance": "throughput"}, {"engine": "onnxruntime"}):
        with swiftdet.Detector(real_model, **options) as other:
            result = other(pictures["bus"])
            np.testing.assert_allclose(result.xyxy, expected.xyxy, atol=BOX_TOLERANCE_PX, rtol=0)
            np.testing.assert_allclose(result.conf, expected.conf, atol=SCORE_TOLERANCE, rtol=0)
