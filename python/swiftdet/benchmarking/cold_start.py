"""How long the first answer takes in a process that has just begun."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from swiftdet.errors import BackendError

_TIMEOUT_S = 600
_TAIL = 300

# Runs before anything of ours is imported, so it cannot be a module of the package.
_CHILD = """
import json, sys, time
asked = json.loads(sys.stdin.buffer.readline())
pixels = sys.stdin.buffer.read()
sys.path[:] = asked["path"]
def since(start):
    return (time.perf_counter_ns() - start) / 1e6
start = time.perf_counter_ns()
import swiftdet
import_ms = since(start)
start = time.perf_counter_ns()
detector = swiftdet.Detector(asked["model"], **asked["options"])
load_ms = since(start)
import numpy
image = numpy.frombuffer(pixels, numpy.uint8).reshape(asked["shape"])
start = time.perf_counter_ns()
detector(image)
first_call_ms = since(start)
import psutil
print(json.dumps({"import_ms": import_ms, "load_ms": load_ms, "first_call_ms": first_call_ms,
                  "rss_bytes": psutil.Process().memory_info().rss}))
"""


def in_new_process(model: str, options: Mapping[str, Any], image: npt.NDArray[np.uint8]) -> dict[str, Any]:
    """Import, construction and first call in a new Python process, timed apart, and its memory after them.

    Args:
        model: as for `Detector`.
        options: of its constructor; all but an engine that is an object.
        image: uint8 [H, W, C].

    Raises:
        BackendError: the process failed, or took longer than ten minutes.
    """
    asked = {"path": sys.path, "model": model, "options": dict(options), "shape": image.shape}
    try:
        done = subprocess.run(  # noqa: S603 - this very interpreter, with code of ours
            [sys.executable, "-c", _CHILD],
            input=json.dumps(asked, default=_plain).encode() + b"\n" + np.ascontiguousarray(image).tobytes(),
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
        if done.returncode != 0:
            raise BackendError(f"cold start: a new process failed: {_last_line(done.stderr)}")
        measured: dict[str, Any] = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired) as e:
        raise BackendError(f"cold start: a new process of {sys.executable!r} gave no figures ({e!s:.{_TAIL}})") from e
    return {"process": "new", **measured}


def in_this_process(load_ns: int, detector: Any, image: npt.NDArray[np.uint8]) -> dict[str, Any]:
    """The same where only this process can make the detector: `load_ns` was measured, the first call is made here."""
    start = time.perf_counter_ns()
    detector(image)
    first_call_ms = (time.perf_counter_ns() - start) / 1e6
    return {
        "process": "this",
        "import_ms": None,
        "load_ms": load_ns / 1e6,
        "first_call_ms": first_call_ms,
        "rss_bytes": None,
    }


def _plain(value: Any) -> Any:
    """A value of JSON's types for an option that has another."""
    return os.fspath(value) if isinstance(value, os.PathLike) else value.item()  # of NumPy


def _last_line(stderr: bytes) -> str:
    lines = stderr.decode("utf-8", "replace").strip().splitlines()
    return lines[-1][:_TAIL] if lines else "without a word"
