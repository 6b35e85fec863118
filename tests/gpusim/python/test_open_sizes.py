"""Engines for a range of sizes: each call chooses one, and gives what the CPU gives at that size."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import onnx
import pytest
from make_models import ultralytics_metadata

import plans
import swiftdet
from conftest import SIZE, assert_same, picture
from swiftdet.errors import InvalidArgument
from swiftdet.model import load
from swiftdet.zoo import weights

RANGE = ((32, 64), (160, 224))
OTHERS = [(32, 64), (128, 192), (160, 224), (96, 64)]
NAMES = ["demo-yolov7", "demo-damo-yolo"]
CONF = 0.005


@pytest.fixture(scope="module")
def decoded(tmp_path_factory):
    """A network with open sides and its boxes decoded, as a file without a description."""
    proto = weights.find("demo-yolov7", None).build(imgsz="dynamic", head="decoded")
    del proto.metadata_props[:]
    path = tmp_path_factory.mktemp("decoded") / "export.onnx"
    onnx.save(proto, path)
    return load(path, imgsz=SIZE)


@pytest.fixture(scope="module")
def on_cpu():
    """Detects on the CPU, by a network that is compiled for that size alone, as the stand-in compiles it."""
    made = {}

    def detect(loaded, imgsz, image):
        key = (loaded.path, imgsz)
        if key not in made:
            made[key] = swiftdet.Detector(loaded.path, device="cpu", imgsz=imgsz, conf=CONF)
        return made[key](image)

    yield detect
    for detector in made.values():
        detector.close()


@pytest.mark.parametrize("name", NAMES)
def test_every_call_may_choose_a_size(cuda, write_plan, on_cpu, name):
    loaded = load(name, imgsz=SIZE)
    found = {}
    with swiftdet.Detector(write_plan(loaded, sizes=RANGE), device="cuda", conf=CONF) as gpu:
        assert gpu.imgsz == SIZE
        for seed, size in enumerate([SIZE, *OTHERS, SIZE]):
            images = [picture(90, 130, seed), picture(200, 70, seed + 9)]
            for result, image in zip(gpu(images, imgsz=size), images, strict=True):
                assert_same(result, on_cpu(loaded, size, image))
                found[size] = found.get(size, 0) + len(result)
        assert_same(gpu(picture(90, 130)), on_cpu(loaded, SIZE, picture(90, 130)))
    assert sum(found.values()) > len(found), found


def test_a_size_is_captured_once_and_kept(cuda, read_model, write_plan):
    loaded = read_model("yolov7-zoo", dynamic_size=True)
    with swiftdet.Detector(write_plan(loaded, sizes=RANGE), device="cuda") as gpu:
        for _ in range(2):
            for size in OTHERS:
                gpu(picture(80, 80), imgsz=size)
        assert sum(line == "cudaStreamBeginCapture" for line in cuda.log()) == len(OTHERS)


def test_one_session_serves_every_size(cuda, read_model, write_plan, on_cpu):
    loaded = read_model("yolov7-zoo", dynamic_size=True)
    image = picture(90, 130)
    with swiftdet.Detector(write_plan(loaded, sizes=RANGE), device="cuda", conf=CONF, sessions=1) as gpu:
        expected = {size: on_cpu(loaded, size, image) for size in OTHERS}
        with ThreadPoolExecutor(4) as threads:
            for size, result in threads.map(lambda size: (size, gpu(image, imgsz=size)), OTHERS * 3):
                assert_same(result, expected[size])


@pytest.mark.parametrize(("size", "words"), [
    ((192, 224), r"imgsz: the engine was built for 32x64 to 160x224, got 192x224; .*--max-imgsz"),
    ((32, 32), r"built for 32x64 to 160x224, got 32x32"),
    ((100, 100), "multiples of 32"),
])  # fmt: skip
def test_sizes_outside_the_profile_are_refused_at_once(cuda, read_model, write_plan, size, words):
    loaded = read_model("yolov7-zoo", dynamic_size=True)
    path = write_plan(loaded, sizes=RANGE)
    with swiftdet.Detector(path, device="cuda") as gpu:
        cuda.clear_log()
        with pytest.raises(InvalidArgument, match=words):
            gpu(picture(80, 80), imgsz=size)
        assert cuda.log() == []
        with swiftdet.BatchDispatcher(gpu) as dispatcher, pytest.raises(InvalidArgument, match=words):
            dispatcher.submit(picture(80, 80), imgsz=size)
    with pytest.raises(InvalidArgument, match=r"multiples of 32|not built for images of"):
        swiftdet.Detector(path, device="cuda", imgsz=size)


def test_a_fixed_engine_takes_its_size_alone(cuda, columns_plan):
    with swiftdet.Detector(columns_plan, device="cuda") as gpu, pytest.raises(InvalidArgument, match="fixed at 64x96"):
        gpu(picture(80, 80), imgsz=128)


def test_a_detector_may_begin_at_another_size(cuda, read_model, write_plan, on_cpu):
    loaded = read_model("yolov7-zoo", dynamic_size=True)
    with swiftdet.Detector(write_plan(loaded, sizes=RANGE), device="cuda", conf=CONF, imgsz=(128, 192)) as gpu:
        assert gpu.imgsz == (128, 192)
        image = picture(90, 130)
        assert_same(gpu(image), on_cpu(loaded, (128, 192), image))
        assert_same(gpu(image, imgsz=(32, 64)), on_cpu(loaded, (32, 64), image))


@pytest.mark.parametrize("imgsz", [None, (128, 192)])
def test_an_open_plan_of_another_tool(cuda, decoded, tmp_path, on_cpu, imgsz):
    """Its ports leave the number of predictions open, so they are read for the size that its header names."""
    header = {**ultralytics_metadata(list(decoded.spec.names)), "imgsz": list(SIZE), "batch": 8}
    path = plans.write_ultralytics(tmp_path / "tiny.engine", decoded, header, sizes=RANGE)
    before = cuda.live()
    with swiftdet.Detector(path, device="cuda", trust_plan=True, family="yolov7", conf=CONF, imgsz=imgsz) as gpu:
        assert gpu.imgsz == (imgsz or SIZE)
        for size in (gpu.imgsz, (96, 64)):
            assert_same(gpu(picture(90, 130), imgsz=size), on_cpu(decoded, size, picture(90, 130)))
    assert sorted(cuda.live()) == sorted(before)
    with pytest.raises(InvalidArgument, match=r"built for inputs of \[1, 3, 32, 64\] to \[8, 3, 160, 224\], got"):
        swiftdet.Detector(path, device="cuda", trust_plan=True, imgsz=640)
