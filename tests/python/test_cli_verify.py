"""`swiftdet verify`: its options, exit codes, documents and page."""

from __future__ import annotations

import json
import re
import shutil

import onnx
import pytest

from swiftdet import demo, measurements
from swiftdet.cli import main
from swiftdet.verification import page, pictures
from swiftdet.zoo import weights as zoo_weights

IMAGES = sorted(demo.dataset().images.glob("*.jpg"))[:3]
SIDES = ("--ref", "demo-damo-yolo", "--test", "demo-damo-yolo")


@pytest.fixture
def run(capsys):
    def run(*args):
        code = main(["verify", *(str(arg) for arg in args)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for path in IMAGES:
        shutil.copy(path, folder)
    return folder


def errors(stderr):
    return [line for line in stderr.splitlines() if line.startswith("error: ")]


def test_two_engines_of_a_demo_agree(run, images, tmp_path):
    code, out, err = run(
        *SIDES, "--test-engine", "onnxruntime", "--images", images, "-o", tmp_path / "out" / "a.json", "--json"
    )
    assert (code, errors(err)) == (0, [])
    document = json.loads(out)
    assert document == measurements.read(tmp_path / "out" / "a.json")
    assert document["format"] == "swiftdet.verification/1"
    assert document["subject"]["engine"].startswith("ONNX Runtime")
    assert document["measured"]["reference"]["engine"].startswith("OpenVINO")
    assert document["measured"]["images"]["count"] == len(IMAGES)
    assert document["measured"]["passed"] is True


def test_each_broken_gate_is_a_line(run, images, tmp_path):
    code, out, err = run(
        *SIDES, "--images", images, "--min-detections", "9999", "--max-nms-choices", "off", "--report", tmp_path
    )
    assert code == 1
    assert errors(err) == [
        next(line for line in errors(err) if "detections of the reference" in line and "(min_detections)" in line)
    ]
    assert "differs from" in out
    assert re.search(r"choices of NMS, share +0 +- +off", out)
    assert re.search(r"detections of the reference +\d+ +>= 9999 +broken", out)
    gates = measurements.read(tmp_path / "verification.json")["measured"]["gates"]
    outcomes = {gate["name"]: gate["outcome"] for gate in gates}
    assert outcomes["min_detections"] == "broken"
    assert outcomes["max_map_change"] == "not measured"


def test_options_reach_both_sides(run, images):
    options = ["--conf", "0.3", "--iou", "0.6", "--max-det", "5", "--multi-label", "--imgsz", "224x256"]
    _, out, _ = run(*SIDES, "--images", images, *options, "--tolerance", "fp16", "--worst", "1", "--json")
    measured = json.loads(out)["measured"]
    for side in measured["options"].values():
        assert (side["iou"], side["max_det"], side["multi_label"], side["imgsz"]) == (0.6, 5, True, [224, 256])
    assert (measured["conf"], measured["tolerance"]["name"], len(measured["worst"])) == (0.3, "fp16", 1)
    assert any("limits cut off" in note for note in measured["notes"])


def test_weights_go_to_the_sides_that_have_none(run, images, tmp_path):
    path = tmp_path / "demo.onnx"
    onnx.save(zoo_weights.find("demo-yolov7").build(), path)
    sides = ["--ref", "demo-yolov7", "--test", path, "--images", images, "--json"]
    code, out, _ = run(*sides, "--weights", demo.weights("demo-yolov7"))
    assert code == 0
    assert json.loads(out)["measured"]["reference"]["file"].endswith("demo-yolov7.safetensors")
    code, _, err = run(*sides, "--test-weights", demo.weights("demo-yolov7"))
    assert (code, len(errors(err))) == (2, 1)
    assert "an export carries its weights" in err


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["--ref", "demo-yolov7"], 2, "--test"),
        ([*SIDES, "--images", "{images}", "--max-box-error", "few"], 2, "expected a number or 'off', got 'few'"),
        ([*SIDES, "--images", "{images}", "--max-box-error=-1"], 2, "expected a number of 0 or more"),
        ([*SIDES, "--images", "{images}", "--tolerance", "fp8"], 2, "expected one of 'auto', 'fp32'"),
        ([*SIDES, "--images", "{images}", "--conf", "2"], 2, "conf: expected a number from 0 to 1"),
        ([*SIDES, "--images", "nowhere"], 1, "nowhere: no such file or folder"),
        ([*SIDES, "--annotations", "val.json"], 2, "only two demos bring a sample"),
        ([*SIDES, "--images", "{images}", "--annotations", "none.json"], 1, "none.json: cannot be read"),
        ([*SIDES, "--images", "{images}", "--test-engine", "tensorrt"], 1, "tensorrt"),
        (["--ref", "demo-yolov7", "--test", "none.onnx", "--images", "{images}"], 1, "none.onnx: no such file"),
        (["--ref", "none.onnx", "--test", "demo-yolov7"], 2, "only two demos bring a sample"),
    ],
)
def test_what_cannot_be_done_is_one_line(run, images, args, code, words):
    result, out, err = run(*(arg.format(images=images) for arg in args))
    assert (result, out) == (code, "")
    assert len(errors(err)) == 1
    assert words in err


def test_an_image_that_cannot_be_read_is_one_line(run, images):
    (images / "val_00001.jpg").write_bytes(b"no image")
    code, _, err = run(*SIDES, "--images", images)
    assert (code, len(errors(err))) == (1, 1)
    assert "val_00001.jpg" in err


@pytest.mark.slow
def test_two_demos_are_compared_on_their_own_sample(run):
    code, out, err = run("--ref", "demo-yolov7", "--test", "demo-yolov7", "--test-engine", "onnxruntime")
    assert (code, errors(err)) == (0, [])
    assert "on 100 images" in out
    assert re.search(r"AP \(yolov7-fixed\): 6\d\.\d\d and 6\d\.\d\d, [+-]0\.0", out)


# --- the page -------------------------------------------------------------------------------------------------------


def test_the_page_stands_alone_and_shows_what_differs(run, images, tmp_path):
    hostile = images / "<script>alert(1)<&'.jpg"
    (images / "val_00000.jpg").rename(hostile)
    folder = tmp_path / "report"
    code, _, _ = run("--ref", "demo-yolov7", "--test", "demo-damo-yolo", "--images", images, "--report", folder)
    assert code == 1
    assert sorted(path.name for path in folder.iterdir()) == ["report.html", "verification.json"]
    html = (folder / "report.html").read_text()
    assert "<script" not in html
    assert "&lt;script&gt;alert(1)&lt;&amp;&#39;.jpg" in html
    loads = re.findall(r"(?:src|href|url)\s*[=(]\s*[\"']?([^\"')>]{1,30})", html)
    assert len(loads) == 2 * len(IMAGES)
    assert all(load.startswith("data:image/jpeg;base64,") for load in loads)
    assert "http" not in html
    assert "The test differs from the reference" in html
    for gate in measurements.read(folder / "verification.json")["measured"]["gates"]:
        assert f'<td class="{gate["outcome"]}">' in html


def test_a_report_of_agreement(run, images, tmp_path):
    code, _, _ = run(*SIDES, "--images", images, "--report", tmp_path, "--worst", "0")
    assert code == 0
    html = (tmp_path / "report.html").read_text()
    assert "The test agrees with the reference" in html
    assert "they can only agree" in html
    assert "data:image" not in html


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "\u2013"), (0, "0"), (1234567, "1\u202f234\u202f567"), (0.00012345, "0.0001234"), (2.0, "2")],
)
def test_figures_are_written_for_people(value, text):
    assert page._number(value) == text


def test_every_outcome_has_a_colour_of_its_own():
    assert len(set(pictures.COLOURS.values())) == len(pictures.COLOURS)
