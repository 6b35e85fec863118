"""The command line as a user runs it: a process of its own, real files, its exit code and what it prints."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys

import cv2
import make_models
import numpy as np
import onnx
import pytest

from swiftdet import demo, measurements, zoo


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two pictures, a detector, and files that are neither."""
    folder = tmp_path_factory.mktemp("cli")
    rng = np.random.default_rng(11)
    for name in ("one.png", "two.jpg"):
        cv2.imwrite(str(folder / name), rng.integers(0, 256, (60, 90, 3), dtype=np.uint8))
    (folder / "cut.jpg").write_bytes((folder / "two.jpg").read_bytes()[:500])
    (folder / "empty.jpg").write_bytes(b"")
    model = make_models.build("ultralytics-columns", size=(64, 96), classes=3, seed=3)
    onnx.save(model, folder / "model.onnx")
    (folder / "cut.onnx").write_bytes((folder / "model.onnx").read_bytes()[:2000])
    onnx.save(make_models.build("classifier", size=(64, 96), classes=3), folder / "classifier.onnx")
    onnx.save(
        model,
        folder / "outside.onnx",
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
        convert_attribute=True,
    )
    outside = onnx.load(folder / "outside.onnx", load_external_data=False)
    for tensor in outside.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../weights.bin"
    (folder / "outside.onnx").write_bytes(outside.SerializeToString())
    return folder


def run(folder, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "swiftdet", *arguments],
        cwd=folder,
        env={**os.environ, "NO_COLOR": "1", "COLUMNS": "80"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_predict_writes_pictures_and_json(folder, tmp_path):
    done = run(
        folder, "predict", "one.png", "two.jpg", "-m", "model.onnx", "--conf", "0.01", "--save-dir", str(tmp_path)
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert {p.name for p in tmp_path.iterdir()} == {"one.png", "two.jpg", "predictions.json"}
    document = json.loads((tmp_path / "predictions.json").read_text())
    assert [image["path"] for image in document["images"]] == ["one.png", "two.jpg"]
    assert all(image["detections"] for image in document["images"])
    assert cv2.imread(str(tmp_path / "one.png")).shape == (60, 90, 3)


def test_json_is_alone_on_stdout(folder):
    done = run(folder, "predict", "one.png", "-m", "model.onnx", "conf=0.01", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["errors"] == []
    assert document["spec"]["family"] == "ultralytics"


def test_one_bad_picture_does_not_stop_the_others(folder):
    done = run(folder, "predict", "one.png", "cut.jpg", "two.jpg", "-m", "model.onnx", "--json")
    assert done.returncode == 1
    document = json.loads(done.stdout)
    assert [image["path"] for image in document["images"]] == ["one.png", "two.jpg"]
    assert len(document["errors"]) == 1
    assert "cut.jpg" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["missing.jpg", "-m", "model.onnx"], 1, "missing.jpg"),
        (["empty.jpg", "-m", "model.onnx"], 1, "empty"),
        (["cut.jpg", "-m", "model.onnx"], 1, "cut.jpg"),
        (["one.png", "-m", "missing.onnx"], 1, "missing.onnx"),
        (["one.png", "-m", "cut.onnx"], 1, "cut.onnx"),
        (["one.png", "-m", "classifier.onnx"], 1, "classifier.onnx"),
        (["one.png", "-m", "outside.onnx"], 1, "../weights.bin"),
        (["one.png", "-m", "model.onnx", "--device", "cuda"], 1, "no NVIDIA driver"),
        (["one.png", "-m", "yolov7"], 1, "yolov7"),
        (["one.png", "-m", "model.onnx", "--conf", "1.5"], 2, "--conf"),
        (["one.png", "-m", "model.onnx", "--iou", "nan"], 2, "--iou"),
        (["one.png", "-m", "model.onnx", "--imgsz", "100"], 2, "imgsz"),
        (["one.png", "-m", "model.onnx", "--classes", "unicorn"], 2, "unicorn"),
        (["one.png", "-m", "model.onnx", "--frobnicate"], 2, "--frobnicate"),
        (["one.png"], 2, "--model"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_what_goes_wrong_is_one_line_and_an_exit_code(folder, arguments, code, words):
    done = run(folder, "predict", *arguments)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_debug_shows_the_traceback(folder):
    done = run(folder, "predict", "one.png", "-m", "cut.onnx", "--debug")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_models_describes_a_file_and_lists_the_catalogue(folder):
    done = run(folder, "models", "model.onnx", "--json")
    assert json.loads(done.stdout)["spec"]["head"]["layout"] == "columns"
    assert len(json.loads(run(folder, "models", "--json").stdout)["variants"]) >= 15


def test_doctor_is_well(folder):
    done = run(folder, "doctor", "--json")
    assert done.returncode == 0, done.stdout
    assert json.loads(done.stdout)["ok"] is True


@pytest.mark.parametrize("model", zoo.demo_names())
def test_a_demo_looks_at_its_own_picture(folder, tmp_path, model):
    done = run(folder, "predict", "--model", model, "--save-dir", str(tmp_path), "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert [image["path"] for image in document["images"]] == [str(demo.picture())]
    assert document["spec"]["synthetic"] is False
    assert (tmp_path / demo.picture().name).is_file()
    found = {detection["name"] for detection in document["images"][0]["detections"]}
    assert found == {item["name"] for item in json.loads(demo.picture().with_suffix(".json").read_text())}


def test_without_images_only_the_demos_know_what_to_look_at(folder):
    done = run(folder, "predict", "--model", "model.onnx")
    assert done.returncode == 2
    assert "expected images to look at; only demo-yolov7 or demo-damo-yolo bring a picture" in done.stderr


def test_the_catalogue_ends_with_the_demos(folder):
    done = run(folder, "models")
    assert done.returncode == 0, done.stderr
    assert all(any(line.startswith(name) for line in done.stdout.splitlines()) for name in zoo.demo_names())
    document = json.loads(run(folder, "models", "--json").stdout)
    assert [variant["name"] for variant in document["demos"]] == zoo.demo_names()


def test_val_on_the_bundled_sample(folder, tmp_path):
    done = run(folder, "val", "--model", "demo-yolov7", "--json", "--save-dir", str(tmp_path))
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    measured = document["measured"]
    assert measured["scores"]["AP"] > 0.6
    assert measured["dataset"]["images"] == 100
    assert measurements.read(tmp_path / "report.json") == document
    assert len(json.loads((tmp_path / "predictions.json").read_bytes())) == measured["predictions"]["count"]
    done = run(folder, "val", "--model", "demo-yolov7")
    assert done.stdout.startswith(
        f"demo-yolov7: AP {100 * measured['scores']['AP']:.1f} (95 %: {100 * measured['ap_interval']['low']:.1f} to "
        f"{100 * measured['ap_interval']['high']:.1f}) on 100 images with 479 objects, "
        "protocol yolov7 (the model takes any size)"
    )


def test_val_writes_its_report_where_it_is_asked_to(folder, tmp_path):
    arguments = ["val", "--model", "demo-damo-yolo", "--performance", "latency", "-o", str(tmp_path / "a" / "out.json")]
    done = run(folder, *arguments, "--save-dir", str(tmp_path / "b"), "--json")
    assert done.returncode == 0, done.stderr
    document = measurements.read(tmp_path / "a" / "out.json")
    assert document == json.loads(done.stdout)
    assert document["subject"]["performance"] == "latency"
    assert document["provenance"]["command"][1:] == [*arguments, "--save-dir", str(tmp_path / "b"), "--json"]
    predictions = document["measured"]["predictions"]
    content = (tmp_path / "a" / predictions["file"]).read_bytes()
    assert hashlib.sha256(content).hexdigest() == predictions["sha256"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--model", "model.onnx"], 2, "expected a folder and its annotations; only the demos bring a sample"),
        (["--model", "demo-yolov7", "--protocol", "damo-yolo"], 2, "needs a model with stretch pre-processing"),
        (["--model", "demo-yolov7", "--performance", "fast"], 2, "expected one of 'latency', 'throughput'"),
        (["--model", "demo-yolov7", "--images", "."], 2, "expected a folder and its annotations"),
        (["--model", "demo-yolov7", "--weights", "synthetic"], 1, "made up"),
        (["--model", "demo-yolov7", "--protocol", "coco"], 2, "expected one of 'auto', 'yolov7'"),
    ],
)
def test_val_refuses(folder, arguments, code, words):
    done = run(folder, "val", *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
