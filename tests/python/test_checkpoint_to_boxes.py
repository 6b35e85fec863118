"""From a checkpoint in its official shape to boxes, in a process that knows none of the classes in the file.

YOLOv7's are whole pickled trees of modules, of custom training here: other classes, with names and anchors of their
own. DAMO-YOLO's are state dicts. What they give is held against the same arrays handed over as safetensors.
"""

from __future__ import annotations

import json
import subprocess
import sys

import cv2
import numpy as np
import onnx
import pytest
from safetensors import numpy as safetensors

import checkpoint_files as files
import golden
import swiftdet
from network_states import state_of
from swiftdet import checkpoints, engines, zoo
from swiftdet.cli import main
from swiftdet.zoo import weights as zoo_weights
from swiftdet.zoo import yolov7

NAMES = ["Möwe", "sea gull", "buoy"]
HEAD = yolov7.head_index(yolov7.ARCHITECTURES["yolov7-tiny"], training=True)
ANCHORS_PX = np.arange(12.0, 48.0, 2.0, np.float32).reshape(3, 3, 2)
IMGSZ = (128, 160)
SIZE = "128x160"


def tiny_state(classes: int) -> dict[str, np.ndarray]:
    """The training form, with all that a file of the project holds and anchors that are not the official ones."""
    g = golden.load("yolov7-tiny-training")
    state = state_of("yolov7-tiny", g.fill, training=True, num_classes=classes)
    cells = ANCHORS_PX / np.array([8, 16, 32], np.float32)[:, None, None]
    return state | {f"model.{HEAD}.anchors": cells, f"model.{HEAD}.anchor_grid": ANCHORS_PX.reshape(3, 1, 3, 1, 1, 2)}


def nano_state() -> dict[str, np.ndarray]:
    """With the entries that inference ignores."""
    state = state_of("damo-yolo-ns", golden.load("damo-yolo-ns").fill)
    for key in [key for key in state if key.endswith("running_var")]:
        state[key.replace("running_var", "num_batches_tracked")] = np.array(3, np.int64)
    return state | {"head.integral.project": np.arange(8, dtype=np.float32)}


def written(kind: str) -> tuple[str, dict[str, np.ndarray], bytes]:
    """Variant, arrays, and the file of a kind."""
    if kind == "damo-yolo state dict":
        state = nano_state()
        return "damo-yolo-ns", state, files.zip_file({"model": {key: files.tensor(a) for key, a in state.items()}})
    state = tiny_state(len(NAMES))
    if kind == "yolov7 fp32 zip":
        final = {"model": files.yolov7_tree(state, names=NAMES), "ema": None, "optimizer": None, "epoch": -1}
        return "yolov7-tiny", state, files.zip_file(final)
    half = {key: a.astype(np.float16) if a.dtype == np.float32 else a for key, a in state.items()}
    stale = files.yolov7_model()[0]  # weights between two averages: `ema` holds those to use
    running = {"epoch": 3, "best_fitness": np.array([0.5]), "model": stale, "ema": files.yolov7_tree(half, names=NAMES)}
    return "yolov7-tiny", half, files.legacy_file(running)


@pytest.fixture(
    scope="module", params=["yolov7 fp32 zip", "yolov7 fp16 legacy", "damo-yolo state dict"], ids=lambda kind: kind
)
def checkpoint(request, tmp_path_factory):
    """(variant, class names or None, checkpoint, the same arrays as safetensors, a picture)."""
    folder = tmp_path_factory.mktemp("checkpoint")
    variant, state, data = written(request.param)
    path = folder / ("weights.pth" if variant.startswith("damo") else "weights.pt")
    path.write_bytes(data)
    plain = folder / "weights.safetensors"
    safetensors.save_file(state, plain)
    picture = folder / "picture.png"
    cv2.imwrite(str(picture), np.random.default_rng(1).integers(0, 256, (90, 120, 3), dtype=np.uint8))
    return variant, NAMES if variant.startswith("yolov7") else None, path, plain, picture


def boxes(model, picture, **options) -> tuple[dict[int, str], np.ndarray]:
    with swiftdet.Detector(model, imgsz=IMGSZ, conf=0.2, **options) as detector:
        result = detector(picture)
        return detector.names, np.column_stack([result.xyxy, result.conf, result.cls])


def same_boxes(found: np.ndarray, expected: np.ndarray) -> None:
    assert len(expected) > 5
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-3)


def test_the_classes_in_the_files_cannot_be_imported(checkpoint):
    for name in ("models", "torch"):
        assert name not in sys.modules
    kind = checkpoints.read(checkpoint[2]).module_class
    assert kind == ("models.yolo.Model" if checkpoint[1] else None)


def test_the_network_is_that_of_the_same_arrays(checkpoint):
    variant, names, path, plain, _ = checkpoint
    built = zoo_weights.find(variant, path).build(imgsz=IMGSZ, batch=1)
    expected = zoo.build(variant, checkpoints.load(plain), names=names, imgsz=IMGSZ, batch=1)
    assert built.SerializeToString() == expected.SerializeToString()
    recognised = zoo_weights.find(path)
    assert recognised.variant.name == variant
    assert recognised.build(imgsz=IMGSZ, batch=1).SerializeToString() == expected.SerializeToString()


def test_a_detector_of_it(checkpoint):
    variant, names, path, plain, picture = checkpoint
    given, found = boxes(variant, picture, weights=path)
    _, expected = boxes(variant, picture, weights=plain)
    same_boxes(found, expected)
    if names:
        assert given == dict(enumerate(names))
    else:
        assert (len(given), given[0]) == (80, "person")


def test_predict_on_the_command_line(checkpoint, tmp_path):
    variant, names, path, plain, picture = checkpoint
    options = ["--imgsz", SIZE, "--conf", "0.2", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "swiftdet", "predict", picture, "--model", variant, "--weights", path, *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    (image,) = json.loads(done.stdout)["images"]
    rows = [[*item["box"].values(), item["confidence"], item["class"]] for item in image["detections"]]
    given, expected = boxes(variant, picture, weights=plain)
    same_boxes(np.array(rows), expected)
    labels = dict(enumerate(names)) if names else given
    assert [item["name"] for item in image["detections"]] == [labels[item["class"]] for item in image["detections"]]


def test_an_export_of_it(checkpoint, tmp_path):
    variant, names, path, plain, picture = checkpoint
    exported = tmp_path / "exported.onnx"
    assert main(["export", variant, "--weights", str(path), "-o", str(exported), "--imgsz", SIZE]) == 0
    onnx.checker.check_model(onnx.load(exported), full_check=True)
    given, found = boxes(exported, picture)
    same_boxes(found, boxes(variant, picture, weights=plain)[1])
    assert list(given.values())[:3] == (names or ["person", "bicycle", "car"])


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_the_golden_outputs_through_a_pickled_tree(tmp_path, form):
    g = golden.load("yolov7-tiny-training")
    path = tmp_path / "yolov7-tiny.pt"
    state = state_of("yolov7-tiny", g.fill, training=True)
    write = {"zip": files.zip_file, "legacy": files.legacy_file}[form]
    path.write_bytes(write({"model": files.yolov7_tree(state, names=[f"kind {i}" for i in range(80)])}))
    model = zoo_weights.find("yolov7-tiny", path).build(imgsz=g.size, batch=1).SerializeToString()
    for engine in ("openvino", "onnxruntime"):
        backend = engines.compile(model, engine=engine, input_shape=[1, 3, *g.size])
        for (output, _), values in zip(backend.outputs, backend.infer(g.image()), strict=True):
            assert g.worst(golden.official_name(output), golden.official_layout(output, values)) < 1e-4
