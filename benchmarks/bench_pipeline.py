"""From pixels to boxes: a detector's whole call against ultralytics' `predict` and against a pipeline written plainly.

"plain" is what a service writes for itself: cv2.resize and cv2.copyMakeBorder, the engine's Python API, NumPy for the
threshold, `torchvision.ops.batched_nms`; its buffers are allocated beforehand. All sides of a case run the same network
on the same engine with the same hints, threads left to the engine, so what differs is the work around it. The network
is most of the time, even of the small demo's, hence a bound that only says "not slower"; bench_overhead.py leaves it
out. ultralytics has no reader of YOLOv7's layout.
"""

from __future__ import annotations

import cv2
import numpy as np
import pytest

import peers
from alternating import Rounds, replayed, timed
from swiftdet import Detector, checkpoints, demo, images, zoo

torch = pytest.importorskip("torch", reason="torchvision's NMS works on tensors")
torchvision = pytest.importorskip("torchvision", reason="the plain pipeline uses its NMS")

CONF, IOU, MAX_DET = 0.25, 0.7, 300
NOT_SLOWER = 1.03
ROUNDS, WARMUP = 40, 3


class PlainPipeline:
    """A detector of the two layouts: columns (4 + classes, no objectness) or rows (5 + classes)."""

    def __init__(self, run, size, *, rows):
        self._run, self._size, self._rows = run, size, rows
        self._bordered = np.empty((*size, 3), np.uint8)
        self._tensor = np.empty((1, 3, *size), np.float32)

    def __call__(self, image):
        """Boxes [K, 4] in px of the image, scores [K], classes [K]."""
        ratio, left, top = self._letterbox(image)
        boxes, scores, classes = self._candidates(self._run(self._tensor)[0][0])
        keep = torchvision.ops.batched_nms(torch.from_numpy(boxes), torch.from_numpy(scores), classes, IOU)[:MAX_DET]
        keep = keep.numpy()
        boxes = (boxes[keep] - np.float32([left, top, left, top])) / np.float32(ratio)
        height, width = image.shape[:2]
        np.clip(boxes, 0, np.float32([width, height, width, height]), out=boxes)
        return boxes, scores[keep], classes.numpy()[keep]

    def _letterbox(self, image):
        height, width = image.shape[:2]
        ratio = min(self._size[0] / height, self._size[1] / width)
        small = image
        if ratio != 1:
            small = cv2.resize(image, (round(width * ratio), round(height * ratio)), interpolation=cv2.INTER_LINEAR)
        left, top = (self._size[1] - small.shape[1]) // 2, (self._size[0] - small.shape[0]) // 2
        right, bottom = self._size[1] - small.shape[1] - left, self._size[0] - small.shape[0] - top
        grey = (114, 114, 114)
        cv2.copyMakeBorder(small, top, bottom, left, right, cv2.BORDER_CONSTANT, dst=self._bordered, value=grey)
        np.divide(self._bordered[:, :, ::-1].transpose(2, 0, 1), np.float32(255), out=self._tensor[0])
        return ratio, left, top

    def _candidates(self, output):
        if self._rows:
            output = output[output[:, 4] > CONF].T
            scores = output[4] * output[5:]
        else:
            scores = output[4:]
        best = scores.max(axis=0)
        chosen = np.flatnonzero(best > CONF)
        classes = torch.from_numpy(scores[:, chosen].argmax(axis=0))
        x, y, width, height = output[:4, chosen]
        boxes = np.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], axis=1)
        return boxes, best[chosen], classes


def on_openvino(model):
    """The network as its function from a tensor to a list of outputs."""
    openvino = pytest.importorskip("openvino")
    request = openvino.Core().compile_model(str(model), "CPU", peers.OPENVINO_HINTS).create_infer_request()

    def run(tensor):
        outputs = request.infer([tensor], share_inputs=True, share_outputs=True)
        return list(outputs.values())

    return run


def on_onnxruntime(model):
    """The same by onnxruntime."""
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda tensor: session.run(None, {name: tensor})


RUNS = {"openvino": on_openvino, "onnxruntime": on_onnxruntime}


def call_of_ultralytics(ultralytics, engine, model, exported, image):
    if engine == "openvino":
        made = peers.ultralytics_on_openvino(ultralytics, exported, image)
    else:
        made = ultralytics.YOLO(model, task="detect")
    return lambda: made.predict(image, imgsz=640, conf=CONF, iou=IOU, max_det=MAX_DET, verbose=False)[0]


def check_same_boxes(ours, theirs):
    boxes, scores, classes = theirs
    assert len(ours) == len(boxes) > 0
    np.testing.assert_allclose(ours.conf, scores, atol=1e-5)
    np.testing.assert_array_equal(ours.cls, classes)
    np.testing.assert_allclose(ours.xyxy, boxes, atol=0.01)


def rounds_of(calls):
    return Rounds({side: timed(call) for side, call in calls.items()}, rounds=ROUNDS, warmup=WARMUP)


@pytest.fixture(scope="module", params=RUNS)
def engine(request):
    return request.param


@pytest.fixture(scope="module")
def yolov8s(engine, ultralytics, real_model, exported_model, frame):
    """Rounds of three calls whose answers are the same."""
    plain = PlainPipeline(RUNS[engine](real_model), (640, 640), rows=False)
    with Detector(real_model, device="cpu", engine=engine, conf=CONF, iou=IOU, max_det=MAX_DET) as detector:
        calls = {
            "swiftdet": lambda: detector(frame),
            "plain": lambda: plain(frame),
            "ultralytics": call_of_ultralytics(ultralytics, engine, real_model, exported_model, frame),
        }
        check_same_boxes(calls["swiftdet"](), calls["plain"]())
        peers.check_same_detections(calls["swiftdet"](), calls["ultralytics"]())
        yield rounds_of(calls)


@pytest.fixture(scope="module")
def demo_yolov7(engine, tmp_path_factory):
    """Rounds of two calls whose answers are the same, and the height and width of their image."""
    name = "demo-yolov7"
    model = tmp_path_factory.mktemp("demo") / f"{name}.onnx"
    state = checkpoints.load(demo.weights(name))
    model.write_bytes(zoo.build(name, state, batch=1, head="decoded").SerializeToString())
    image = np.ascontiguousarray(images.load(demo.picture()).bgr())
    plain = PlainPipeline(RUNS[engine](model), zoo.info(name).imgsz, rows=True)
    with Detector(model, device="cpu", engine=engine, conf=CONF, iou=IOU, max_det=MAX_DET) as detector:
        calls = {"swiftdet": lambda: detector(image), "plain": lambda: plain(image)}
        check_same_boxes(calls["swiftdet"](), calls["plain"]())
        yield rounds_of(calls), image.shape[:2]


@replayed
@pytest.mark.parametrize("side", ["swiftdet", "plain", "ultralytics"])
def test_yolov8s(benchmark, engine, yolov8s, side):
    bound = NOT_SLOWER if side == "swiftdet" else None
    benchmark.extra_info.update(case=f"call, 1920x1080, YOLOv8s on {engine}", side=side, bound=bound)
    yolov8s.report(benchmark, side)


@replayed
@pytest.mark.parametrize("side", ["swiftdet", "plain"])
def test_demo(benchmark, engine, demo_yolov7, side):
    rounds, (height, width) = demo_yolov7
    bound = NOT_SLOWER if side == "swiftdet" else None
    benchmark.extra_info.update(case=f"call, {width}x{height}, demo-yolov7 on {engine}", side=side, bound=bound)
    rounds.report(benchmark, side)
