"""The command line, with a detector of our own in place of the real one, at `swiftdet.cli.predict.open_detector`."""

import dataclasses
import io
import json
import os
import pty
import re
import subprocess
import sys
from importlib.metadata import version
from types import MappingProxyType

import numpy as np
import pytest
from PIL import Image as PilImage
from rich.console import Console

from swiftdet import images
from swiftdet.cli import arguments, main, models, output
from swiftdet.cli import predict as predict_module
from swiftdet.errors import BackendUnavailable, ModelError
from swiftdet.results import Detections
from swiftdet.spec import Head, ModelSpec, Preprocess

NAMES = {0: "person", 1: "traffic light", 2: "[red]bus"}
SPEC = ModelSpec(
    family="ultralytics",
    names=tuple(NAMES.values()),
    imgsz=(640, 640),
    stride=32,
    preprocess=Preprocess(),
    head=Head(layout="columns", num_classes=3, outputs=("output0",)),
)


class FakeDetector:
    """Finds a person in every image, and a bus where the image is wider than high."""

    names = NAMES
    spec = SPEC
    device = "cpu"
    provenance = MappingProxyType({"model_sha256": "0" * 64, "engine": "fake 1.0", "device": "cpu"})

    def __init__(self, model, **options):
        self.model = model
        self.options = options
        self.calls = []
        self.closed = False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.closed = True

    def __call__(self, source, **per_call):
        self.calls.append((source, per_call))
        image = images.load(source)
        height, width = image.size
        boxes = [[1, 2, width - 1, height - 2]] + ([[0, 0, 5, 5]] if width > height else [])
        return Detections(
            boxes,
            [0.91, 0.5][: len(boxes)],
            [0, 2][: len(boxes)],
            names=NAMES,
            orig_shape=image.size,
            orig_img=image,
            path=image.path,
            note=image.note,
            speed={"preprocess": 1.0, "inference": 2.5, "postprocess": 0.5},
        )


@pytest.fixture
def opened(monkeypatch):
    detectors = []

    def open_detector(model, **options):
        detectors.append(FakeDetector(model, **options))
        return detectors[-1]

    monkeypatch.setattr(predict_module, "open_detector", open_detector)
    return detectors


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    PilImage.new("RGB", (40, 30), "navy").save("wide.jpg")
    PilImage.new("RGB", (30, 40), "olive").save("high.png")
    return tmp_path


@pytest.fixture
def run(capsys):
    def run(*args):
        code = main([str(arg) for arg in args])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def error_line(stderr):
    """The message, after checking that stderr holds one line and nothing else."""
    assert stderr.startswith("error: ")
    assert stderr.endswith("\n")
    assert stderr.count("\n") == 1
    return stderr.removeprefix("error: ").strip()


@pytest.mark.usefixtures("opened", "folder")
class TestPredict:
    def test_made_up_weights_are_told_once(self, run, monkeypatch):
        monkeypatch.setattr(FakeDetector, "spec", dataclasses.replace(SPEC, synthetic=True))
        code, out, err = run("predict", "wide.jpg", "high.png", "--model", "yolov7", "--weights", "synthetic", "--json")
        assert (code, len(json.loads(out)["images"])) == (0, 2)
        assert err.startswith("note: the weights are made up (synthetic): the boxes mean nothing")
        assert err.count("\n") == 1

    def test_plain_output(self, opened, run):
        code, out, err = run("predict", "wide.jpg", "--model", "m.onnx")
        assert (code, err) == (0, "")
        assert out.splitlines() == [
            "wide.jpg 40x30: 1 person, 1 [red]bus",
            "  person 0.910 1.0 2.0 39.0 28.0",
            "  [red]bus 0.500 0.0 0.0 5.0 5.0",
            "1 image, 2 objects, 4.0 ms per image",
        ]
        assert opened[0].closed

    def test_options_reach_the_detector(self, opened, run):
        flags = "--weights w.pt --family yolov7 --conf 0.4 --iou 0.6 --max-det 9 --imgsz 480x640 --device cpu"
        more = "--engine openvino --precision fp16 --trust-plan --class-agnostic --multi-label --classes"
        code, _, err = run("predict", "wide.jpg", "-m", "m.onnx", *flags.split(), *more.split(), "0,traffic light")
        assert (code, err) == (0, "")
        assert opened[0].model == "m.onnx"
        assert opened[0].options == {
            "weights": "w.pt",
            "family": "yolov7",
            "conf": 0.4,
            "iou": 0.6,
            "max_det": 9,
            "imgsz": (480, 640),
            "device": "cpu",
            "engine": "openvino",
            "precision": "fp16",
            "trust_plan": True,
            "class_agnostic": True,
            "multi_label": True,
        }
        assert opened[0].calls[0][1] == {"classes": [0, 1]}

    def test_defaults(self, opened, run):
        run("predict", "wide.jpg", "--model", "m.onnx")
        options = opened[0].options
        assert (options["conf"], options["iou"], options["max_det"], options["imgsz"]) == (0.25, 0.7, 300, None)
        assert (options["device"], options["engine"]) == ("auto", "auto")

    def test_key_values(self, opened, run):
        code, _, err = run(
            "predict",
            "source=wide.jpg",
            "model=m.onnx",
            "conf=0.4",
            "max_det=7",
            "imgsz=[480, 640]",
            "multi_label=True",
            "class_agnostic=false",
        )
        assert (code, err) == (0, "")
        options = opened[0].options
        assert (options["conf"], options["max_det"], options["imgsz"]) == (0.4, 7, (480, 640))
        assert (options["multi_label"], options["class_agnostic"]) == (True, False)

    def test_folder_pattern_and_several_sources(self, opened, folder, run):
        (folder / "sub").mkdir()
        PilImage.new("RGB", (9, 9)).save("sub/x.bmp")
        code, out, _ = run("predict", ".", "sub/*.bmp", "wide.jpg", "--model", "m")
        assert code == 0
        assert [str(source) for source, _ in opened[0].calls] == ["high.png", "wide.jpg", "sub/x.bmp", "wide.jpg"]
        assert out.splitlines()[-1] == "4 images, 6 objects, 4.0 ms per image"
        assert opened[0].calls[0][1] == {}

    def test_the_stages_are_shown_on_request(self, opened, run):
        code, out, _ = run("predict", ".", "--model", "m", "--timed")
        assert code == 0
        assert out.splitlines()[-2:] == [
            "2 images, 3 objects, 4.0 ms per image",
            "ms per image: preprocess 1.000, inference 2.500, postprocess 0.500",
        ]
        assert [per_call for _, per_call in opened[0].calls] == [{"timed": True}] * 2

    def test_json_is_the_only_output(self, run):
        code, out, err = run("predict", ".", "--model", "m.onnx", "--conf", "0.3", "--json")
        assert (code, err) == (0, "")
        document = json.loads(out)
        assert document["format"] == "swiftdet.predictions/1"
        assert [image["path"] for image in document["images"]] == ["high.png", "wide.jpg"]
        assert document["images"][1] == {
            "path": "wide.jpg",
            "width": 40,
            "height": 30,
            "detections": [
                {
                    "name": "person",
                    "class": 0,
                    "confidence": 0.91,
                    "box": {"x1": 1.0, "y1": 2.0, "x2": 39.0, "y2": 28.0},
                },
                {
                    "name": "[red]bus",
                    "class": 2,
                    "confidence": 0.5,
                    "box": {"x1": 0.0, "y1": 0.0, "x2": 5.0, "y2": 5.0},
                },
            ],
            "truncated": 0,
            "speed_ms": {"preprocess": 1.0, "inference": 2.5, "postprocess": 0.5},
        }
        assert document["errors"] == []
        assert document["model"] == "m.onnx"
        assert document["options"]["conf"] == 0.3
        assert ModelSpec.from_json(json.dumps(document["spec"])) == SPEC
        assert document["provenance"]["swiftdet"] == version("swiftdet")

    def test_output_file(self, folder, run):
        code, out, _ = run("predict", "wide.jpg", "--model", "m.onnx", "-o", "new/result.json")
        assert code == 0
        assert "wide.jpg" in out
        document = json.loads((folder / "new/result.json").read_text())
        assert document["model_sha256"] == "0" * 64
        assert document["engine"] == "fake 1.0"

    def test_save_dir(self, folder, run):
        (folder / "other").mkdir()
        PilImage.new("RGB", (20, 10)).save("other/wide.jpg")
        PilImage.new("RGB", (20, 10)).save("other/page.tif")
        code, out, err = run("predict", "wide.jpg", "other", "--model", "m", "--save-dir", "out", "--save-txt")
        assert (code, err) == (0, "")
        assert out.splitlines()[-1].endswith("; saved to out")
        written = sorted(
            str(path.relative_to("out"))
            for path in (folder / "out").rglob("*.*")
            for path in [path.relative_to(folder)]
        )
        assert written == [
            *("labels/page.txt", "labels/wide.txt", "labels/wide_2.txt"),
            *("page.png", "predictions.json", "wide.jpg", "wide_2.jpg"),
        ]
        assert images.load("out/wide.jpg").size == (30, 40)
        assert images.load("out/wide_2.jpg").size == (10, 20)
        assert (folder / "out/labels/wide.txt").read_text().splitlines()[
            0
        ] == "0 0.500000 0.500000 0.950000 0.866667 0.910000"
        document = json.loads((folder / "out/predictions.json").read_text())
        assert [image["picture"] for image in document["images"]] == ["out/wide.jpg", "out/page.png", "out/wide_2.jpg"]

    def test_never_replaces_a_source(self, folder, run):
        before = (folder / "wide.jpg").read_bytes()
        code, _, err = run("predict", "wide.jpg", "--model", "m", "--save-dir", ".")
        assert code == 2
        assert "would replace" in error_line(err)
        assert (folder / "wide.jpg").read_bytes() == before

    def test_one_bad_image_among_many(self, folder, run):
        (folder / "broken.jpg").write_bytes(b"")
        code, out, err = run("predict", ".", "gone.jpg", "--model", "m", "--json")
        assert code == 1
        document = json.loads(out)
        assert [image["path"] for image in document["images"]] == ["high.png", "wide.jpg"]
        assert [error["path"] for error in document["errors"]] == ["gone.jpg", "broken.jpg"]
        assert err.splitlines() == [
            "error: gone.jpg: no such file or folder",
            "error: broken.jpg: the file is empty (0 bytes)",
        ]

    def test_nothing_to_do_does_not_load_the_model(self, opened, run):
        code, out, err = run("predict", "gone.jpg", "--model", "m")
        assert (code, out, opened) == (1, "", [])
        assert error_line(err) == "gone.jpg: no such file or folder"

    def test_tables_and_progress_on_a_terminal(self, run, monkeypatch):
        screen = io.StringIO()

        def console(**_):
            return Console(file=screen, force_terminal=True, width=60, highlight=False)

        monkeypatch.setattr(output, "console", console)
        code, out, err = run("predict", ".", "--model", "m")
        assert (code, err) == (0, "")
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
        assert "wide.jpg 40x30: 1 person, 1 [red]bus\n" in text
        assert re.search(r"\[red\]bus +0\.500 +0\.0 +0\.0 +5\.0 +5\.0", text)
        assert re.search(r"detecting .* 1/2", text)
        assert out == "2 images, 3 objects, 4.0 ms per image\n"

    def test_no_progress_beside_json_in_a_pipe(self, run):
        assert run("predict", ".", "--model", "m", "--json")[2] == ""

    def test_note_is_shown(self, run):
        exif = PilImage.Exif()
        exif[0x0112] = 6
        PilImage.new("RGB", (40, 30)).save("turned.jpg", exif=exif)
        _, out, _ = run("predict", "turned.jpg", "--model", "m")
        assert out.splitlines()[1] == "  note: EXIF orientation 6 applied (rotated by 90 degrees clockwise)"


@pytest.mark.usefixtures("opened", "folder")
class TestUsage:
    @pytest.mark.parametrize(
        ("args", "words"),
        [
            (["predict", "wide.jpg"], "Missing option '--model'"),
            (["predict", "--model", "m"], "Invalid value for 'SOURCE': expected images to look at"),
            (["predict", "wide.jpg", "--model", "m", "--conf", "1.5"], "expected a number from 0 to 1, got"),
            (["predict", "wide.jpg", "--model", "m", "--conf", "-0.1"], "expected a number from 0 to 1, got"),
            (["predict", "wide.jpg", "--model", "m", "--iou", "nan"], "expected a number from 0 to 1, got"),
            (["predict", "wide.jpg", "--model", "m", "--conf", "high"], "Invalid value for '--conf'"),
            (["predict", "wide.jpg", "--model", "m", "conf=2"], "expected a number from 0 to 1, got"),
            (["predict", "wide.jpg", "--model", "m", "--max-det", "0"], "expected at least 1, got 0"),
            (["predict", "wide.jpg", "--model", "m", "--imgsz", "wide"], "640 or 480x640"),
            (["predict", "wide.jpg", "--model", "m", "--imgsz", "0"], "640 or 480x640"),
            (["predict", "wide.jpg", "--model", "m", "--classes", "persn"], "did you mean 'person'?"),
            (["predict", "wide.jpg", "--model", "m", "--classes", "3"], "none of the model's 3 classes"),
            (["predict", "wide.jpg", "--model", "m", "--cnof", "0.5"], "No such option"),
            (["predict", "wide.jpg", "--model", "m", "cnof=0.5"], "did you mean conf=?"),
            (["predict", "wide.jpg", "--model", "m", "multi_label=maybe"], "expected true or false"),
            (["predict", "wide.jpg", "--model", "m", "--save-txt"], "--save-txt needs --save-dir"),
            (["models", "yolov8000"], "unknown model 'yolov8000'"),
            (["frobnicate"], "No such command 'frobnicate'"),
            (["--frobnicate"], "No such option"),
        ],
    )
    def test_exits_2_with_one_line(self, run, args, words):
        code, out, err = run(*args)
        assert (code, out) == (2, "")
        assert words in error_line(err)

    def test_says_where_help_is(self, run):
        assert error_line(run("predict", "--model", "m")[2]).endswith("(see: swiftdet predict --help)")
        assert error_line(run("frobnicate")[2]).endswith("(see: swiftdet --help)")

    def test_version(self, run):
        assert run("--version") == (0, f"swiftdet {version('swiftdet')}\n", "")

    @pytest.mark.parametrize("args", [[], ["--help"], ["-h"]])
    def test_help(self, run, args):
        code, out, err = run(*args)
        assert (code, err) == (0, "")
        for verb in ("predict", "models", "doctor"):
            assert verb in out
            assert run(verb, "--help")[0] == 0


@pytest.mark.usefixtures("folder")
class TestFailures:
    @pytest.mark.parametrize(
        "error", [ModelError("m.onnx: no\ndetector"), BackendUnavailable("no\ndetector"), OSError("no detector")]
    )
    def test_exits_1_with_one_line(self, run, monkeypatch, error):
        def fail(*_, **__):
            raise error

        monkeypatch.setattr(predict_module, "open_detector", fail)
        code, out, err = run("predict", "wide.jpg", "--model", "m.onnx", "--json")
        assert (code, out) == (1, "")
        assert error_line(err).endswith("no detector")

    @pytest.mark.usefixtures("opened")
    def test_a_file_name_is_no_command_to_the_terminal(self, folder, run):
        name = "\x1b[31mred.png"
        (folder / "high.png").rename(folder / name)
        code, out, _ = run("predict", name, "--model", "m.onnx")
        assert code == 0
        assert "red.png" in out
        code, more, err = run("predict", name + "missing", "--model", "m.onnx")
        assert code == 1
        assert "\x1b" not in out + more + err

    def test_debug_shows_the_traceback(self, run, monkeypatch):
        def fail(*_, **__):
            raise ModelError("no detector")

        monkeypatch.setattr(predict_module, "open_detector", fail)
        code, _, err = run("predict", "wide.jpg", "--model", "m.onnx", "--debug")
        assert code == 1
        assert "Traceback" in err
        assert err.splitlines()[-1] == "error: no detector"

    def test_a_defect_of_ours_says_so(self, run, monkeypatch):
        def fail(*_, **__):
            raise KeyError("stride")

        monkeypatch.setattr(predict_module, "open_detector", fail)
        code, _, err = run("predict", "wide.jpg", "--model", "m.onnx")
        assert code == 1
        assert error_line(err) == "KeyError: 'stride' (this is a bug in swiftdet; --debug shows where)"

    def test_interrupt(self, run, monkeypatch):
        def fail(*_, **__):
            raise KeyboardInterrupt

        monkeypatch.setattr(predict_module, "open_detector", fail)
        assert run("predict", "wide.jpg", "--model", "m.onnx")[0] == 130

    @pytest.mark.usefixtures("opened")
    def test_unwritable_folder(self, folder, run):
        (folder / "out").write_bytes(b"a file")
        code, _, err = run("predict", "wide.jpg", "--model", "m", "--save-dir", "out")
        assert code == 1
        assert error_line(err) == "out: expected a folder, and there is something else; name another one"
        code, _, err = run("predict", "wide.jpg", "--model", "m", "--save-dir", "out/below/it")
        assert error_line(err) == "out: expected a folder, and there is something else; name another one"

    @pytest.mark.usefixtures("opened")
    def test_a_folder_in_the_place_of_a_file(self, folder, run):
        (folder / "out.json").mkdir()
        code, _, err = run("predict", "wide.jpg", "--model", "m", "-o", "out.json")
        assert code == 1
        assert error_line(err) == "out.json: expected a file, and there is a folder; name another one"


class TestModels:
    def test_catalogue(self, run):
        code, out, err = run("models")
        assert (code, err) == (0, "")
        row = next(line for line in out.splitlines() if line.startswith("yolov7 "))
        assert row.split() == ["yolov7", "640", "36.9", "M", "104.5", "51.2", "51.4"]
        assert ".onnx" in out

    def test_catalogue_json(self, run):
        code, out, _ = run("models", "--json")
        document = json.loads(out)
        assert code == 0
        assert len(document["variants"]) == 16
        assert set(document["readable"]) == {".onnx", ".pt", ".xml"}
        assert set(document["counting"]) == {"form", "params", "gflops"}
        assert json.loads(run("models", "yolov7", "--json")[1])["counting"] == document["counting"]

    def test_variant(self, run):
        code, out, _ = run("models", "yolov7-d6")
        assert code == 0
        assert "133,757,052" in out
        assert "training form" in out
        assert json.loads(run("models", "yolov7l", "--json")[1])["name"] == "yolov7"

    def test_file(self, folder, run, monkeypatch):
        (folder / "m.onnx").write_bytes(b"model")
        spec = {"family": "yolov7", "head": {"layout": "rows", "strides": [8, 16], "anchors": []}, "version": 1}
        described = {"path": "m.onnx", "family": "yolov7", "names": [f"c{k}" for k in range(80)], "spec": spec}
        monkeypatch.setattr(models, "describe_file", lambda _: described)
        code, out, err = run("models", "m.onnx")
        assert (code, err) == (0, "")
        rows = dict(line.split(maxsplit=1) for line in out.splitlines())
        assert list(rows) == ["file", "family", "names", "head.layout", "head.strides", "version"]
        assert rows["head.strides"].strip() == "8, 16"
        assert "(80 in all)" in rows["names"]
        assert json.loads(run("models", "m.onnx", "--json")[1]) == described

    @pytest.mark.parametrize("name", ["gone.onnx", "some/folder/yolov7"])
    def test_missing_file(self, run, name):
        code, out, err = run("models", name)
        assert (code, out) == (1, "")
        assert "no such file" in error_line(err)


class TestKeyValues:
    @pytest.fixture
    def group(self):
        import typer

        from swiftdet import cli

        return typer.main.get_command(cli._app)

    @pytest.mark.parametrize(
        ("args", "expected"),
        [
            (["predict", "a.jpg", "conf=0.5"], ["predict", "a.jpg", "--conf=0.5"]),
            (["predict", "source=a=b.jpg"], ["predict", "a=b.jpg"]),
            (["predict", "save_dir=out"], ["predict", "--save-dir=out"]),
            (["predict", "save-dir=out"], ["predict", "--save-dir=out"]),
            (["predict", "--model", "conf=1"], ["predict", "--model", "conf=1"]),
            (["predict", "-m", "conf=1"], ["predict", "-m", "conf=1"]),
            (["predict", "--model"], ["predict", "--model"]),
            (["predict", "--model=x=1"], ["predict", "--model=x=1"]),
            (["predict", "./conf=1"], ["predict", "./conf=1"]),
            (["predict", "--", "conf=1"], ["predict", "--", "conf=1"]),
            (["predict", "json=true", "debug=False"], ["predict", "--json"]),
            (["nonsense", "conf=1"], ["nonsense", "conf=1"]),
            (["--version"], ["--version"]),
            ([], []),
        ],
    )
    def test_rewriting(self, group, args, expected):
        assert arguments.rewrite_key_values(args, group) == expected

    def test_a_file_with_an_equals_sign(self, group, folder):
        (folder / "frame=1.jpg").write_bytes(b"")
        assert arguments.rewrite_key_values(["predict", "frame=1.jpg"], group) == ["predict", "frame=1.jpg"]


def command(*args, **options):
    environment = {**os.environ, "COLUMNS": "100", "TERM": "xterm-256color"}
    return subprocess.Popen([sys.executable, "-m", "swiftdet", *args], env=environment, **options)


class TestProcess:
    def test_module_and_script(self):
        with command("--version", stdout=subprocess.PIPE, text=True) as process:
            assert process.communicate()[0] == f"swiftdet {version('swiftdet')}\n"
        assert process.returncode == 0

    def test_reader_that_goes_away(self):
        with command("models", "--json", stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            process.stdout.close()
            assert process.stderr.read() == b""
        assert process.returncode == 1

    def test_colours_on_a_terminal_only(self):
        ours, theirs = pty.openpty()
        with command("models", stdout=theirs, stderr=theirs) as process:
            os.close(theirs)
            text = b""
            while True:
                try:
                    block = os.read(ours, 65536)
                except OSError:  # Linux's end of file for a terminal
                    break
                if not block:
                    break
                text += block
        os.close(ours)
        assert process.returncode == 0
        assert b"\x1b[" in text
        with command("models", stdout=subprocess.PIPE) as process:
            assert b"\x1b[" not in process.communicate()[0]

    def test_help_does_not_load_an_engine(self):
        code = (
            "import sys; from swiftdet.cli import main; main(['--help']); "
            "sys.exit(any(m in sys.modules for m in ('onnx', 'openvino', 'onnxruntime', 'supervision')))"
        )
        assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=False).returncode == 0


def test_provenance_is_json():
    assert json.loads(output.json_text(output.provenance()))["build"]["version"] == version("swiftdet")


def test_classes_by_id_and_name():
    names = {0: "person", 1: "traffic light"}
    assert arguments.parse_classes("1", names) == [1]
    assert arguments.parse_classes("[0, 'traffic light']", names) == [0, 1]


def test_nan_never_reaches_json():
    with pytest.raises(ValueError, match="JSON"):
        output.json_text({"score": float(np.nan)})
