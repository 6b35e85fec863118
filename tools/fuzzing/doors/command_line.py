"""The command line, called in the process with arguments that a shell could give."""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import json
import os
import random
from pathlib import Path
from typing import Any

import make_models
import numpy as np
import onnx
import typer
from PIL import Image as PilImage

from fuzzing import mutations
from fuzzing.door import Door
from swiftdet import cli, zoo
from swiftdet.benchmarking import cold_start, plan
from swiftdet.errors import SwiftdetError

_WORDS = (
    "predict", "val", "benchmark", "export", "build", "models", "doctor", "cache", "ls", "rm", "verify", "--help", "-h",
    "--version", "--json",
    "--debug", "--model", "-m", "--weights", "--family", "--conf", "--iou", "--max-det", "--imgsz", "--device",
    "--engine",
    "--precision", "--trust-plan", "--classes", "--class-agnostic", "--multi-label", "--save-dir", "--save-txt",
    "--output",
    "-o", "--images", "--annotations", "--protocol", "--cache-dir", "--all", "--damaged", "--channel-order",
    "--fold-divisor",
    "--ref", "--test", "--ref-engine", "--test-precision", "--tolerance", "fp16", "--max-box-error", "off", "--report",
    "--worst",
    "--duration", "--warmup", "--threads", "--rate", "--samples", "--untimed", "--cold-start", "this", "1,2",
    "--batch", "--head", "compare", "--check", "--title", "result.json", "compared",
    "--", "-", "=", "model.onnx", "cut.onnx", "a.png", "cut.png", ".", "folder", "*.png", "**",
    "missing.jpg",
    "truth.json", "out", "out.json", "640", "64x96", "0", "-1", "nan", "inf", "1e999", "0.5", "cpu", "cuda",
    "cuda:9", "auto",
    "openvino", "onnxruntime", "tensorrt", "fp32", "fp16", "int8", "yolov7", "damo-yolo", "ultralytics",
    "yolov7-tiny", "class0",
    "class0,class2", "0,2", "conf=0.5", "model=model.onnx", "imgsz=64", "json=true", "json=maybe", "classes=", "x=y", "rtsp://x/y",
    "0.mp4", "\x1b[2J", "\u00e4.png", "", " ", "\n", "'", "9" * 5000, "[", "[a", "../", "/dev/null",
    "/proc/self/mem", "~", "$HOME",
)  # fmt: skip
_SEEDS = (
    ["predict", "a.png", "--model", "model.onnx", "--conf", "0.3", "--json"],
    ["predict", "a.png", "cut.png", "--model", "model.onnx", "--save-dir", "out", "--save-txt"],
    ["predict", "*.png", "model=model.onnx", "conf=0.1", "classes=0,class2", "imgsz=64x96", "-o", "out.json"],
    ["predict", "folder", "-m", "model.onnx", "--engine", "onnxruntime", "--max-det", "3", "--class-agnostic"],
    ["val", "--model", "model.onnx", "--images", ".", "--annotations", "truth.json", "--json"],
    [
        "verify",
        "--ref",
        "model.onnx",
        "--test",
        "cut.onnx",
        "--images",
        "a.png",
        "--max-box-error",
        "off",
        "--report",
        "out",
    ],
    ["verify", "ref=model.onnx", "test=model.onnx", "images=.", "annotations=truth.json", "conf=0.01", "--json"],
    ["benchmark", "model.onnx", "--images", "a.png", "--duration", "0.02", "--warmup", "0", "--cold-start", "this"],
    ["benchmark", "model.onnx", "--images", "a.png", "--duration", "0.02", "--cold-start", "this", "-o", "result.json"],
    ["compare", "result.json", "-o", "compared", "--json"],
    ["compare", "--check", "compared"],
    ["models"],
    ["models", "model.onnx", "--json"],
    ["models", "yolov7"],
    ["export", "yolov7-tiny", "--weights", "cut.onnx", "-o", "out.onnx", "--precision", "fp16"],
    ["build", "model.onnx", "-o", "out.engine"],
    ["cache", "ls", "--cache-dir", "cache", "--json"],
    ["cache", "rm", "abc", "--cache-dir", "cache"],
    ["cache", "verify", "--cache-dir", "cache"],
    ["doctor", "--json"],
)


_ZOO = frozenset(name for listed in zoo.names() for name in (listed, *zoo.info(listed).aliases))
_WRITTEN_TO = frozenset({"o", "output", "save-dir", "report", "cache-dir", "timing-cache"})


class CommandLineDoor(Door):
    """`swiftdet` with random arguments: exit codes 0, 1 and 2, errors in one line, no traceback, JSON that parses."""

    memory_mib = 768

    def prepare(self) -> None:
        """A model, pictures, annotations; and damaged ones."""
        model = make_models.build("ultralytics-columns", size=(64, 96), classes=3, seed=3)
        onnx.save(model, self.folder / "model.onnx")
        (self.folder / "cut.onnx").write_bytes(model.SerializeToString()[:2000])
        PilImage.new("RGB", (40, 30), (200, 30, 60)).save(self.folder / "a.png")
        content = (self.folder / "a.png").read_bytes()
        (self.folder / "cut.png").write_bytes(content[: len(content) // 2])
        (self.folder / "folder").mkdir()
        (self.folder / "folder/b.png").write_bytes(content)
        truth: dict[str, Any] = {
            "images": [{"id": 1, "file_name": "a.png"}],
            "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 10, 10]}],
            "categories": [{"id": 1, "name": "class0"}],
        }
        (self.folder / "truth.json").write_text(json.dumps(truth))

    def warm_up(self) -> None:
        """Loads everything that a verb loads."""
        # Making the parser of all verbs takes longer than all that a case does with it.
        typer.main.get_command = functools.cache(typer.main.get_command)
        plan._LONGEST_S = 0.2  # noqa: SLF001 - a benchmark of a week is none of a case's business
        # The one verb that starts a process, which a case must not.
        cold_start.in_new_process = lambda *_: cold_start.in_this_process(0, lambda _: None, np.empty(0, np.uint8))
        for arguments in _SEEDS:
            with contextlib.suppress(SwiftdetError):
                self.run(json.dumps(arguments).encode())

    def case(self, rng: random.Random) -> bytes:
        """A command after words were put in, taken out, exchanged, changed."""
        words = list(rng.choice(_SEEDS)) if rng.random() < 0.9 else []
        for _ in range(rng.choice((1, 1, 2, 3, 5))):
            at = rng.randrange(len(words) + 1)
            kind = rng.randrange(5)
            if kind == 0 and words:
                del words[min(at, len(words) - 1)]
            elif kind == 1 and at < len(words):
                words[at] = rng.choice(_WORDS)
            elif kind == 2 and at < len(words):
                text = mutations.of_bytes(words[at].encode(errors="surrogateescape"), rng).decode(
                    errors="surrogateescape"
                )
                words[at] = text.replace("\0", "")
            elif kind == 3 and len(words) > 1:
                other = rng.randrange(len(words))
                words[other], words[at - 1] = words[at - 1], words[other]
            else:
                words.insert(at, rng.choice(_WORDS))
        return json.dumps(words).encode()

    def run(self, case: bytes) -> str:
        """Runs it; what it wrote to its outputs is checked."""
        try:
            arguments = json.loads(case)
        except (ValueError, RecursionError):
            return "not a case"
        if not isinstance(arguments, list) or not all(isinstance(word, str) for word in arguments):
            return "not a case"
        if _builds_a_network(arguments):
            return "not a case: it would build a large network"
        try:
            if _is_told_to_write_outside(arguments, self.folder):
                return "not a case: it is told to write outside its folder"
        except ValueError:
            return "not a case: no shell hands out such a word"
        out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace")
        err = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace")
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = cli.main(arguments)
        for stream in (out, err):
            stream.flush()
        printed = out.buffer.getvalue().decode()  # type: ignore[attr-defined]
        errors = err.buffer.getvalue().decode()  # type: ignore[attr-defined]
        _check(arguments, code, printed, errors)
        return f"{next((word for word in arguments if word in _WORDS[:7]), 'no verb')}: exit code {int(code)}"


def _builds_a_network(arguments: list[str]) -> bool:
    """A whole network, of made-up weights for a name of the zoo, takes seconds and much memory, and is no input."""
    if any("synthetic" in word or word.startswith("demo") or "=demo" in word for word in arguments):
        return True
    return "benchmark" in arguments and not _ZOO.isdisjoint(
        word.rpartition("=")[2].removeprefix("-m") for word in arguments
    )


def _is_told_to_write_outside(arguments: list[str], folder: Path) -> bool:
    """As its user wants it, then; /dev/null is a good enough place."""
    targets = []
    for word, following in itertools.zip_longest(arguments, arguments[1:], fillvalue=""):
        name, assigned, value = word.partition("=")
        if name.lstrip("-").replace("_", "-") in _WRITTEN_TO:
            targets.append(value if assigned else following)
        elif word.startswith("-o"):
            targets.append(word.removeprefix("-o"))
    resolved = (Path(os.path.realpath(folder / target)) for target in targets)
    return any(not path.is_relative_to(folder) and path != Path("/dev/null") for path in resolved)


def _check(arguments: list[str], code: int, printed: str, errors: str) -> None:
    if code not in (0, 1, 2):
        raise AssertionError(f"exit code {code}")
    if "this is a bug in swiftdet" in errors:
        raise AssertionError(errors)
    if "Traceback" in errors and "--debug" not in arguments and not any(a.startswith("debug=") for a in arguments):
        raise AssertionError(errors)
    lines = errors.splitlines()
    if "Traceback" not in errors:
        strange = [line for line in lines if not line.startswith(("error: ", "note: "))]
        if strange:
            raise AssertionError(f"expected lines of errors and notes on stderr, got {strange[0]!r:.200}")
    if code != 0 and not any(
        line.startswith("error: ") for line in lines
    ):  # images that failed have lines of their own
        raise AssertionError(f"exit code {code}, but no error on stderr: {errors!r:.400}")
    is_help = any(word in ("--help", "-h", "--version") for word in arguments)
    if "--json" in arguments and printed.lstrip().startswith("{") and not is_help:
        json.loads(printed)
