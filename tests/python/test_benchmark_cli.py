"""`swiftdet benchmark`: what it prints, writes and refuses."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys

import pytest

from swiftdet import measurements
from swiftdet.cli import main

QUICK = ("--duration", "0.2", "--warmup", "0", "--cold-start", "this", "--device", "cpu")


@pytest.fixture
def run(capsys):
    def run(*args):
        code = main([str(arg) for arg in args])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_the_table_for_people(run, tmp_path):
    file = tmp_path / "out.json"
    code, out, err = run("benchmark", "demo-yolov7", *QUICK, "--rate", "20", "--threads", "1,2", "-o", file)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "demo-yolov7 256x256 fp32"
    assert "100 pictures of the demos' sample, 100 sizes such as 323x306, decoded by every call" in lines[2]
    assert lines[3].startswith("start  in this process: construction")
    rows = [line.split() for line in lines if line.startswith(("late", "decode", "inference", "python", "total"))]
    assert [row[0] for row in rows[:4]] == ["decode", "inference", "python", "total"]
    assert [row[0] for row in rows].count("late") == 2
    header = next(line for line in lines if line.startswith("ms a call"))
    assert header.split()[3:] == ["mean", "p50", "p90", "p95", "p99", "max", "share"]
    assert rows[0][5] == "-"  # no p99 of so few calls
    assert any(line.startswith("- too few calls (") for line in lines)
    assert lines[-1] == f"written to {file}"
    assert measurements.read(file)["measured"]["runs"][1]["loop"] == "paced"


def test_one_document_for_machines_or_a_list_of_them(run, tmp_path):
    code, out, err = run("benchmark", "demo-yolov7", *QUICK, "--json", "batch=2")
    assert (code, err) == (0, "")
    assert json.loads(out)["measured"]["runs"][0]["batch"] == 2
    folder = tmp_path / "out"
    code, out, _ = run("benchmark", "demo-yolov7", "demo-damo-yolo", "demo-yolov7", *QUICK, "--json", "-o", folder)
    assert code == 0
    assert [d["subject"]["model"] for d in json.loads(out)] == ["demo-yolov7", "demo-damo-yolo", "demo-yolov7"]
    assert sorted(p.name for p in folder.iterdir()) == ["demo-damo-yolo.json", "demo-yolov7-2.json", "demo-yolov7.json"]
    assert measurements.read(folder / "demo-yolov7-2.json") == json.loads(out)[2]


def test_made_up_weights_are_told(run):
    code, out, err = run("benchmark", "damo-yolo-ns", *QUICK, "--imgsz", "64", "--json")
    assert code == 0
    assert err == "note: damo-yolo-ns: no weights were given; made-up ones (synthetic) take the same time\n"
    assert json.loads(out)["subject"]["synthetic"] is True
    _, out, _ = run("benchmark", "damo-yolo-ns", *QUICK, "--imgsz", "64")
    assert out.startswith("damo-yolo-ns 64x64 fp32, made-up weights\n")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ((), "MODEL"),
        (("demo-yolov7", "--batch", "1,x"), "expected whole numbers such as 1,4, got '1,x'"),
        (("demo-yolov7", "--batch", "0"), "batch: expected 1 to 1024, got 0"),
        (("demo-yolov7", "--rate", "fast"), "expected numbers such as 10,30"),
        (("demo-yolov7", "--rate", "nan"), "rate_hz"),
        (("demo-yolov7", "--duration", "-1"), "duration_s"),
        (("demo-yolov7", "--cold-start", "no"), "cold_start"),
        (("demo-yolov7", "--conf", "7"), "conf"),
        (("demo-yolov7", "demo-damo-yolo", "-o", "out.json"), "out.json is one file, and there are 2 models"),
        (("no-such-model.onnx",), "no-such-model.onnx"),
        (("demo-yolov7", "-o", "/dev/null/out.json"), "/dev/null"),
        (("demo-yolov7", "--images", "no/folder"), "no/folder: no such file or folder"),
    ],
)
def test_wrong_usage_is_one_line(args, words, run):
    code, out, err = run("benchmark", *args)
    assert code in {1, 2}
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert words in err


def test_a_document_that_cannot_be_written_is_told_before_anything_is_measured(run, tmp_path):
    (tmp_path / "out.json").mkdir()
    code, out, err = run("benchmark", "no-such-model.onnx", "-o", tmp_path / "out.json")
    assert (code, out) == (2, "")
    assert "out.json cannot be written" in err


def test_a_bar_is_drawn_on_a_terminal_alone():
    controller, terminal = pty.openpty()
    command = [sys.executable, "-m", "swiftdet", "benchmark", "demo-yolov7", "--json", *QUICK, "--duration", "1.2"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=terminal, env={**os.environ, "TERM": "xterm"}
    ) as done:
        os.close(terminal)
        shown = b""
        while chunk := _read(controller):
            shown += chunk
        out = done.stdout.read()
    os.close(controller)
    assert done.returncode == 0
    assert b"run 1 of 1, closed loop" in shown
    assert json.loads(out)["format"] == "swiftdet.benchmark/1"


def _read(controller):
    try:
        return os.read(controller, 4096)
    except OSError:  # the other end is closed
        return b""
