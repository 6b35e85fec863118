"""Engines that TensorRT builds, end to end on a real GPU. Needs the package built with CUDA and TensorRT."""

from __future__ import annotations

import os

import numpy as np
import pytest

pytestmark = pytest.mark.gpu_trt

DEMOS = ("demo-yolov7", "demo-damo-yolo")


@pytest.fixture(scope="module")
def swiftdet():
    """The package, where its whole chain for GPUs holds."""
    package = pytest.importorskip("swiftdet", reason="swiftdet is not installed")
    from swiftdet import device_policy

    broken = next((link for link in device_policy.chain() if not link.ok), None)
    if broken is not None:
        why = f"{broken.name}: {broken.detail}" + (f" ({broken.fix})" if broken.fix else "")
        (pytest.fail if "SWIFTDET_REQUIRE_GPU" in os.environ else pytest.skip)(why)
    return package


@pytest.fixture(scope="module")
def picture(swiftdet):
    from swiftdet import demo

    return demo.picture()


def matched(a, b, iou=0.9):
    """How many detections of `a` have one of `b` with the same class and at least this IoU."""
    found = 0
    for box, label in zip(a.xyxy, a.cls, strict=True):
        others = b.xyxy[b.cls == label]
        if not len(others):
            continue
        sides = np.minimum(others[:, 2:], box[2:]) - np.maximum(others[:, :2], box[:2])
        inter = np.prod(np.clip(sides, 0, None), axis=1)
        union = np.prod(others[:, 2:] - others[:, :2], axis=1) + np.prod(box[2:] - box[:2]) - inter
        found += bool((inter / union >= iou).any())
    return found


@pytest.mark.parametrize("model", DEMOS)
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.timeout(600)
def test_a_gpu_finds_what_the_cpu_finds(swiftdet, picture, tmp_path, model, precision):
    with (
        swiftdet.Detector(model, device="cpu") as cpu,
        swiftdet.Detector(model, device="cuda", precision=precision, cache_dir=tmp_path) as gpu,
    ):
        # Scores differ in their last bits between engines, so those near the threshold may come or go.
        sure, all_of_gpu = cpu(picture, conf=0.4), gpu(picture, conf=0.3)
        assert len(sure) > 3
        assert matched(sure, all_of_gpu) == len(sure)
        sure, all_of_cpu = gpu(picture, conf=0.4), cpu(picture, conf=0.3)
        assert matched(sure, all_of_cpu) == len(sure)


@pytest.mark.parametrize("model", DEMOS)
@pytest.mark.timeout(600)
def test_calls_repeat_and_threads_agree_bit_for_bit(swiftdet, picture, tmp_path, model):
    from concurrent.futures import ThreadPoolExecutor

    with swiftdet.Detector(model, device="cuda", cache_dir=tmp_path) as gpu:
        first = gpu(picture)
        assert len(first) > 3
        with ThreadPoolExecutor(4) as pool:
            for other in pool.map(lambda _: gpu(picture), range(32)):
                np.testing.assert_array_equal(other.xyxy, first.xyxy)
                np.testing.assert_array_equal(other.conf, first.conf)


@pytest.mark.timeout(600)
def test_the_second_detector_takes_the_engine_of_the_first(swiftdet, picture, tmp_path):
    with swiftdet.Detector(DEMOS[0], device="cuda", cache_dir=tmp_path) as first:
        expected = first(picture)
    made = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert any(path.suffix in {".engine", ".plan"} for path in made)
    with swiftdet.Detector(DEMOS[0], device="cuda", cache_dir=tmp_path) as second:
        np.testing.assert_array_equal(second(picture).xyxy, expected.xyxy)
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.suffix in {".engine", ".plan"}}
    assert after == {path: made[path] for path in after}


@pytest.fixture(params=["torch", "cupy"])
def on_gpu(request):
    """Copies a picture to the GPU by a library that is installed; the copy may still be under way."""
    library = pytest.importorskip(request.param, reason=f"{request.param} is not installed")
    if request.param == "cupy":
        return library.asarray
    return lambda pixels: library.from_numpy(np.ascontiguousarray(pixels)).to("cuda", non_blocking=True)


@pytest.mark.timeout(600)
def test_tensors_on_the_gpu_equal_the_same_pixels_on_the_host(swiftdet, picture, on_gpu, tmp_path):
    from swiftdet import images

    pixels = images.load(picture).bgr().copy()
    with swiftdet.Detector(DEMOS[0], device="cuda", cache_dir=tmp_path) as gpu:
        expected = gpu(pixels)
        assert len(expected) > 3
        for _ in range(20):
            found = gpu(on_gpu(pixels))
            np.testing.assert_array_equal(found.xyxy, expected.xyxy)
            np.testing.assert_array_equal(found.conf, expected.conf)
        with pytest.raises(swiftdet.InvalidArgument, match="permute"):
            gpu(on_gpu(pixels.transpose(2, 0, 1).copy()))


@pytest.mark.timeout(600)
def test_stages_are_timed_by_events(swiftdet, picture, tmp_path):
    with swiftdet.Detector(DEMOS[0], device="cuda", cache_dir=tmp_path) as gpu:
        plain = gpu(picture)
        for _ in range(3):
            timed = gpu(picture, timed=True)
            np.testing.assert_array_equal(timed.xyxy, plain.xyxy)
            np.testing.assert_array_equal(timed.conf, plain.conf)
        assert {"copy_in", "inference", "copy_out"} < set(timed.speed)
        assert all(time > 0 for time in timed.speed.values())
        assert "copy_in" not in gpu(picture).speed
