"""The Detector on tiny networks: every layout end to end, options, sizes, threads, engines and bad input."""

from __future__ import annotations

import gc
import io
import threading
import weakref

import cv2
import make_models
import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image

import swiftdet

SIZE = (64, 96)
SIZE_P6 = (128, 192)
CLASSES = 3
DETECTORS = sorted(set(make_models.LAYOUTS) - {"classifier", "segmentation", "yolov5-raw", "damo-with-preprocess"})
FAMILIES = {"yolov7-tiny-raw": "yolov7-tiny", "ultralytics-transposed": "ultralytics"}  # where the file leaves it open
TWINS = {  # an export with a suppression inside, and the plain export of the same network
    "yolov7-end2end": "yolov7-grid",
    "yolov7-include-nms": "yolov7-grid",
    "yolov7-include-nms-intermediate": "yolov7-grid",
    "yolov7-end2end-ort": "yolov7-grid",
    "damo-end2end-trt8": "damo-two-outputs",
    "damo-end2end-trt7": "damo-two-outputs",
    "damo-end2end-ort": "damo-two-outputs",
    "damo-two-outputs-swapped": "damo-two-outputs",
    "damo-raw": "damo-two-outputs",
    "damo-benchmark": "damo-two-outputs",
    "ultralytics-transposed": "ultralytics-columns",
}


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(7).integers(0, 256, (70, 130, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def make_detector(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")

    def make(layout="ultralytics-columns", *, build=None, **options):
        path = folder / f"{layout}-{len(list(folder.iterdir()))}.onnx"
        build = {"size": SIZE_P6 if "w6" in layout else SIZE, "classes": CLASSES, "seed": 3, **(build or {})}
        onnx.save(make_models.build(layout, **build), path)
        return swiftdet.Detector(path, **{"family": FAMILIES.get(layout), **options})

    return make


def a_middling_score(detector, image):
    """A threshold that some candidates pass and some do not, far from any score."""
    scores = np.unique(detector(image, conf=0.0, iou=1.0, max_det=30000, multi_label=True).conf)
    gaps = np.diff(scores)
    middle = slice(len(gaps) // 4, max(len(gaps) // 4 + 1, 3 * len(gaps) // 4))
    k = int(np.argmax(gaps[middle])) + middle.start
    return float((scores[k] + scores[k + 1]) / 2)


def assert_same(result, expected, *, box_atol=1e-2, score_atol=1e-4):
    """Equal as sets: where two engines' scores nearly tie, the order may differ."""
    assert len(result) == len(expected)

    def by_place(r):
        return np.lexsort((*np.round(r.xyxy, 0).T, r.cls))

    a, b = by_place(result), by_place(expected)
    np.testing.assert_array_equal(result.cls[a], expected.cls[b])
    np.testing.assert_allclose(result.xyxy[a], expected.xyxy[b], atol=box_atol, rtol=1e-5)
    np.testing.assert_allclose(result.conf[a], expected.conf[b], atol=score_atol, rtol=0)


# --- layouts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", DETECTORS)
def test_every_layout_detects_and_two_engines_agree(make_detector, image, layout):
    with make_detector(layout) as openvino:
        conf = a_middling_score(openvino, image)
        result = openvino(image, conf=conf, iou=1.0, multi_label=True, max_det=3000)
        assert len(result) > 0
        assert (np.diff(result.conf) <= 0).all()
        assert (result.conf > np.float32(conf)).all()
        height, width = image.shape[:2]
        assert (result.xyxy >= 0).all()
        assert (result.xyxy <= [width, height, width, height]).all()
        with make_detector(layout, engine="onnxruntime") as reference:
            assert_same(result, reference(image, conf=conf, iou=1.0, multi_label=True, max_det=3000))


@pytest.mark.parametrize(("layout", "plain"), TWINS.items())
def test_an_export_with_a_suppression_inside_gives_what_the_plain_one_gives(make_detector, image, layout, plain):
    with make_detector(layout) as cut, make_detector(plain) as reference:
        conf = a_middling_score(reference, image)
        options = {"conf": conf, "iou": 0.6, "max_det": 3000}
        assert_same(cut(image, **options), reference(image, **options))


def test_the_pipeline_equals_its_steps_in_numpy(make_detector, image, tmp_path):
    """Stretching, decoding and mapping back of a DAMO-YOLO export, each written out here."""
    proto = make_models.build("damo-two-outputs", size=SIZE, classes=CLASSES, seed=3)
    path = tmp_path / "damo.onnx"
    onnx.save(proto, path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    resized = cv2.resize(image, (SIZE[1], SIZE[0]), interpolation=cv2.INTER_LINEAR)
    tensor = np.ascontiguousarray(resized[:, :, ::-1].transpose(2, 0, 1)[None].astype(np.float32))
    scores, boxes = session.run(None, {session.get_inputs()[0].name: tensor})
    with swiftdet.Detector(path) as detector:
        conf = a_middling_score(detector, image)
        result = detector(image, conf=conf, iou=1.0, max_det=3000)
    best = scores[0].max(axis=1)
    wanted = best > np.float32(conf)
    height, width = image.shape[:2]
    scale = np.float32([SIZE[1] / width, SIZE[0] / height] * 2)
    expected = np.clip(boxes[0][wanted] / scale, 0, np.float32([width, height, width, height]))
    order = np.argsort(-best[wanted], kind="stable")
    classes = scores[0].argmax(axis=1)[wanted][order]
    names = ["class0", "class1", "class2"]
    plain = swiftdet.Detections(expected[order], best[wanted][order], classes, names=names, orig_shape=(height, width))
    assert len(plain) > 0
    assert_same(result, plain)


# --- options --------------------------------------------------------------------------------------------------------


def test_per_call_options_are_that_calls_alone(make_detector, image):
    with make_detector(conf=0.9) as detector:
        before = len(detector(image))
        assert len(detector(image, conf=0.0, iou=1.0)) > before
        assert len(detector(image)) == before


def test_timed_changes_nothing_on_the_cpu(make_detector, image):
    with make_detector() as detector:
        plain, timed = detector(image), detector(image, timed=True)
        assert_same(timed, plain)
        assert list(timed.speed) == list(plain.speed) == ["preprocess", "inference", "postprocess"]
        assert all(time > 0 for time in timed.speed.values())


def test_max_det_is_counted_as_truncation(make_detector, image):
    with make_detector(conf=0.0, iou=1.0) as detector:
        everything = detector(image, max_det=30000)
        assert everything.truncated == 0
        cut = detector(image, max_det=5)
        assert len(cut) == 5
        assert cut.truncated == len(everything) - 5  # iou 1: every candidate survives
        np.testing.assert_array_equal(cut.xyxy, everything.xyxy[:5])


def test_classes_by_id_and_by_name(make_detector, image):
    with make_detector(conf=0.0, iou=1.0, max_det=30000) as detector:
        everything = detector(image)
        for wanted in ([1], [detector.names[1]], 1, (1, 1)):
            result = detector(image, classes=wanted)
            np.testing.assert_array_equal(result.xyxy, everything.xyxy[everything.cls == 1])
        assert len(detector(image, classes=[])) == 0


@pytest.mark.parametrize(
    "option",
    [
        {"conf": -0.1},
        {"conf": 1.5},
        {"conf": float("nan")},
        {"conf": "high"},
        {"conf": "0.5"},
        {"conf": True},
        {"iou": 2},
        {"max_det": 0},
        {"max_det": 2.5},
        {"max_det": True},
        {"classes": [99]},
        {"classes": ["unicorn"]},
        {"classes": True},
        {"classes": [True]},
        {"classes": 1.5},
        {"classes": [[1]]},
        {"class_agnostic": "false"},
        {"multi_label": None},
        {"timed": 1},
        {"color": "hsv"},
        {"imgsz": 128},
        {"imgsz": (64, 96, 3)},
        {"imgsz": 0},
        {"imgsz": 64.0},
        {"imgsz": "64"},
        {"threshold": 0.5},
    ],
    ids=str,
)
def test_a_bad_option_is_one_clear_error(make_detector, image, option):
    with make_detector() as detector:
        with pytest.raises((swiftdet.InvalidArgument, swiftdet.InvalidType), match=next(iter(option))):
            detector(image, **option)
        assert isinstance(detector(image), swiftdet.Detections)


@pytest.mark.parametrize(
    ("option", "error"),
    [
        ({"device": "cuda"}, swiftdet.BackendUnavailable),
        ({"device": "cuda:1"}, swiftdet.BackendUnavailable),
        ({"device": "tpu"}, swiftdet.InvalidArgument),
        ({"engine": "tensorrt"}, swiftdet.BackendUnavailable),
        ({"engine": "caffe"}, swiftdet.InvalidArgument),
        ({"engine": 3}, swiftdet.InvalidType),
        ({"precision": "int3"}, swiftdet.InvalidArgument),
        ({"performance": "warp"}, swiftdet.InvalidArgument),
        ({"weights": "w.pt"}, swiftdet.InvalidArgument),
        ({"cache_dir": 3}, swiftdet.InvalidType),
        ({"imgsz": 64.0}, swiftdet.InvalidType),
        ({"trust_plan": "yes"}, swiftdet.InvalidType),
        ({"family": "yolov99"}, swiftdet.InvalidArgument),
        ({"sessions": 0}, swiftdet.InvalidArgument),
        ({"conf": 2}, swiftdet.InvalidArgument),
    ],
    ids=str,
)
def test_a_bad_constructor_option_is_one_clear_error(make_detector, option, error):
    with pytest.raises(error) as caught:
        make_detector(**option)
    assert "\n" not in str(caught.value).strip()


@pytest.mark.parametrize("model", [3, None, b"model.onnx"], ids=repr)
def test_a_model_that_is_no_path_is_an_invalid_type(model):
    with pytest.raises(swiftdet.InvalidType, match="model: expected a path"):
        swiftdet.Detector(model)


def test_numpy_integers_are_integers(make_detector, image):
    with make_detector(conf=0.0, iou=1.0, imgsz=tuple(np.array(SIZE))) as detector:
        expected = detector(image, classes=1)
        np.testing.assert_array_equal(detector(image, classes=np.array([1])).xyxy, expected.xyxy)
        np.testing.assert_array_equal(detector(image, classes=np.int64(1)).xyxy, expected.xyxy)


def test_a_dynamic_model_takes_other_sizes_per_call(make_detector, image):
    """A convolutional head without constants of the size: raw maps, decoded by us for any size."""
    with make_detector(
        "yolov7-zoo", build={"dynamic_size": True}, imgsz=SIZE, conf=0.0, iou=1.0, max_det=9
    ) as detector:
        assert detector.imgsz == SIZE
        own = detector(image)
        larger = detector(image, imgsz=(128, 160))
        with make_detector("yolov7-zoo", build={"dynamic_size": True}, imgsz=(128, 160)) as other:
            expected = other(image, conf=0.0, iou=1.0, max_det=9)
        np.testing.assert_allclose(larger.conf, expected.conf, atol=1e-5)
        np.testing.assert_array_equal(detector(image).xyxy, own.xyxy)
        with pytest.raises(swiftdet.InvalidArgument, match="multiples of 32"):
            detector(image, imgsz=(100, 100))


# --- sharing --------------------------------------------------------------------------------------------------------


def test_threads_with_mixed_options_and_sizes_get_their_own_results(make_detector):
    rng = np.random.default_rng(3)
    images = [rng.integers(0, 256, (40 + 17 * i, 50 + 23 * i, 3), dtype=np.uint8) for i in range(8)]
    with make_detector(iou=1.0, max_det=50) as detector:
        options = [{"conf": c, "multi_label": bool(i % 2)} for i, c in enumerate(np.linspace(0.0, 0.7, 8))]
        serial = [detector(im, **o) for im, o in zip(images, options, strict=True)]
        mistakes = []
        barrier = threading.Barrier(8)

        def work(i):
            barrier.wait()
            for _ in range(50):
                result = detector(images[i], **options[i])
                if not (np.array_equal(result.xyxy, serial[i].xyxy) and np.array_equal(result.conf, serial[i].conf)):
                    mistakes.append(i)

        threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert mistakes == []


def test_a_bad_image_in_a_batch_loses_no_session(make_detector, image, tmp_path):
    with make_detector(sessions=1) as detector:
        for _ in range(5):
            with pytest.raises(swiftdet.ImageError):
                detector([image, tmp_path / "missing.jpg"])
        assert len(detector([image, image])) == 2
        assert detector([]) == []


def test_closing(make_detector, image):
    detector = make_detector()
    detector(image)
    detector.close()
    detector.close()
    with pytest.raises(swiftdet.DetectorClosed, match="closed"):
        detector(image)
    assert "closed" in repr(detector)


@pytest.mark.parametrize("dynamic_size", [False, True])
def test_closing_lets_go_of_the_engine(make_detector, image, tmp_path, dynamic_size):
    """Nothing that the closed detector or its results hold keeps the engine or the content of the file."""
    path = tmp_path / "model.onnx"
    onnx.save(make_models.build("yolov7-zoo", size=SIZE, classes=CLASSES, seed=3, dynamic_size=dynamic_size), path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    shapes = {p.name: p.shape for p in swiftdet.engines.inspect(path.read_bytes(), input_shape=(1, 3, *SIZE)).outputs}

    class Engine:
        inputs = ((session.get_inputs()[0].name, (1, 3, *SIZE)),)
        outputs = tuple(shapes.items())

        def run(self, inputs):
            return session.run(None, inputs)

    engine = Engine()
    alive = weakref.ref(engine)
    detector = swiftdet.Detector(path, engine=engine, conf=0.0, imgsz=SIZE)
    del engine
    result = detector(image)
    assert alive() is not None
    detector.close()
    gc.collect()
    assert alive() is None
    assert detector.provenance["engine"] == "Engine"
    assert len(result) > 0


def test_closing_while_others_detect(make_detector, image):
    """A call either finishes with the right boxes or says that the detector is closed."""
    detector = make_detector(conf=0.0, sessions=2)
    expected = detector(image)
    started, wrong, refused = threading.Barrier(5), [], []

    def work():
        started.wait()
        try:
            while True:
                if not np.array_equal(detector(image).xyxy, expected.xyxy):
                    wrong.append(True)
        except swiftdet.DetectorClosed:
            refused.append(True)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    started.wait()
    detector.close()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(refused) == 4


def test_results_outlive_their_detector(make_detector, image):
    detector = make_detector(conf=0.0)
    result = detector(image)
    copy = result.xyxy.copy()
    detector.close()
    del detector
    np.testing.assert_array_equal(result.xyxy, copy)


def test_a_python_object_can_be_the_engine(image, tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save(make_models.build("ultralytics-columns", size=SIZE, classes=CLASSES, seed=3), path)

    class Engine:
        def __init__(self):
            self.session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
            self.inputs = [(i.name, i.shape) for i in self.session.get_inputs()]
            self.outputs = [(o.name, o.shape) for o in self.session.get_outputs()]

        def run(self, inputs):
            return self.session.run(None, inputs)

    with swiftdet.Detector(path, engine=Engine(), conf=0.0) as mine, swiftdet.Detector(path, conf=0.0) as reference:
        assert_same(mine(image), reference(image))


def test_predict_streams_and_lists(make_detector, image, tmp_path):
    for name in ("b.png", "a.png"):
        cv2.imwrite(str(tmp_path / name), image)
    with make_detector(conf=0.0) as detector:
        listed = detector.predict(tmp_path)
        assert [r.path.rsplit("/", 1)[1] for r in listed] == ["a.png", "b.png"]
        stream = detector.predict(str(tmp_path / "*.png"), stream=True)
        first = next(stream)
        detector(image)  # a stream that is not exhausted blocks nobody
        np.testing.assert_array_equal(first.xyxy, listed[0].xyxy)
        assert len(list(stream)) == 1


def test_provenance_names_what_made_a_result(make_detector):
    with make_detector() as detector:
        provenance = detector.provenance
    assert provenance["engine"].startswith("OpenVINO 20")
    assert len(provenance["model_sha256"]) == 64
    assert provenance["swiftdet"] == swiftdet.__version__


# --- images ---------------------------------------------------------------------------------------------------------


def encoded(image, fmt="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, fmt, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("shape", [(1, 1), (1, 10000), (10000, 1), (3, 2), (64, 96), (1080, 1920)])
def test_sizes_from_one_pixel_up(make_detector, shape):
    picture = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
    with make_detector(conf=0.0, iou=1.0) as detector:
        result = detector(picture)
        assert result.orig_shape == shape
        assert (result.xyxy >= 0).all()
        assert (result.xyxy <= [shape[1], shape[0], shape[1], shape[0]]).all()


def test_strides_and_writability_do_not_matter(make_detector):
    wide = np.random.default_rng(2).integers(0, 256, (80, 240, 3), dtype=np.uint8)
    views = [wide[:, ::2], wide[::-1], wide[:, ::-1], wide[10:50, 20:90], wide.transpose(1, 0, 2), wide[..., ::-1]]
    frozen = wide.copy()
    frozen.setflags(write=False)
    with make_detector(conf=0.0, iou=1.0) as detector:
        for view in [*views, frozen]:
            packed = detector(np.ascontiguousarray(view))
            np.testing.assert_array_equal(detector(view).xyxy, packed.xyxy)
            np.testing.assert_array_equal(detector(view).conf, packed.conf)


def bad_images(tmp_path):
    picture = Image.fromarray(np.random.default_rng(4).integers(0, 256, (40, 60, 3), dtype=np.uint8))
    jpeg = encoded(picture, "JPEG")
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "cut.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    (tmp_path / "text.jpg").write_text("not an image")
    (tmp_path / "bomb.png").write_bytes(encoded(Image.new("1", (30000, 30000)), optimize=True))
    return {
        "missing": tmp_path / "missing.jpg",
        "empty": tmp_path / "empty.jpg",
        "truncated": tmp_path / "cut.jpg",
        "text": tmp_path / "text.jpg",
        "bomb": tmp_path / "bomb.png",
        "truncated bytes": jpeg[: len(jpeg) // 2],
        "no bytes": b"",
        "float array": np.zeros((8, 8, 3), np.float32),
        "uint16 array": np.zeros((8, 8, 3), np.uint16),
        "two channels": np.zeros((8, 8, 2), np.uint8),
        "channels first": np.zeros((3, 8, 8), np.uint8),
        "four axes": np.zeros((1, 8, 8, 3), np.uint8),
        "no rows": np.zeros((0, 8, 3), np.uint8),
        "none": None,
        "number": 3,
    }


def test_a_bad_image_is_one_clear_error_and_the_detector_goes_on(make_detector, image, tmp_path):
    with make_detector(conf=0.0) as detector:
        expected = detector(image)
        for name, bad in bad_images(tmp_path).items():
            with pytest.raises((swiftdet.ImageError, swiftdet.InvalidArgument, swiftdet.InvalidType)) as caught:
                detector(bad)
            assert len(str(caught.value)) > 20, name
            assert "\n" not in str(caught.value), name
            np.testing.assert_array_equal(detector(image).xyxy, expected.xyxy)


def test_unusual_files_are_read_as_they_look(make_detector):
    rng = np.random.default_rng(5)
    rgb = Image.fromarray(rng.integers(0, 256, (50, 70, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    grey16 = Image.fromarray(rng.integers(0, 65536, (50, 70), dtype=np.uint16))
    files = {
        "CMYK": (encoded(rgb.convert("CMYK"), "TIFF"), rgb.convert("CMYK").convert("RGB")),
        "palette": (encoded(rgb.convert("P")), rgb.convert("P").convert("RGB")),
        "16 bit": (encoded(grey16), Image.fromarray((np.asarray(grey16) >> 8).astype(np.uint8)).convert("RGB")),
        "turned": (encoded(rgb, exif=exif), rgb.transpose(Image.Transpose.ROTATE_270)),
        "alpha": (encoded(rgb.convert("RGBA")), rgb),
    }
    with make_detector(conf=0.0, iou=1.0) as detector:
        for name, (data, looks) in files.items():
            result = detector(data)
            expected = detector(np.asarray(looks), color="rgb")
            assert result.orig_shape == expected.orig_shape, name
            np.testing.assert_array_equal(result.xyxy, expected.xyxy, err_msg=name)
