"""Hostile and damaged checkpoints: nothing is executed, nothing else opened, memory is bounded, errors are typed."""

from __future__ import annotations

import json
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

import checkpoint_files as files
import hostile_checkpoints as hostile
from swiftdet import ModelError, checkpoints

SLACK = 64 << 20

# Reads every file named on stdin under an audit hook, which hears of imports, code, files, processes and sockets.
WATCHED_READER = """
import json, sys, time, tracemalloc
from swiftdet import ModelError, checkpoints

good, measure, *paths = json.load(sys.stdin)
checkpoints.load(good)  # what the standard library imports on first use
HARMLESS = {"array.__new__", "object.__getattr__", "builtins.id", "sys._getframe", "time.sleep"}
watched, heard = [None], []

def listen(event, arguments):
    if watched[0] is None or event in HARMLESS:
        return
    if event == "open" and str(arguments[0]) == watched[0] and arguments[1] in ("r", "rb"):
        return
    heard.append([watched[0], event, str(arguments)[:200]])

sys.addaudithook(listen)
results = {}
for path in paths:
    if measure:
        tracemalloc.start()
    start = time.perf_counter()
    watched[0] = path
    try:
        state = checkpoints.load(path)
        outcome = None
    except ModelError as e:
        state, outcome = {}, str(e)
    finally:
        watched[0] = None
    seconds = time.perf_counter() - start
    peak = tracemalloc.get_traced_memory()[1] if measure else 0
    tracemalloc.stop()
    results[path] = [outcome, peak - sum(a.nbytes for a in state.values()), seconds]
    del state
print(json.dumps({"heard": heard, "results": results}))
"""


def read_watched(folder: pathlib.Path, corpus: dict[str, bytes], *, measure: bool = False) -> dict[str, tuple]:
    """Message (None where the file was read), bytes besides the arrays, and seconds, of each file of the corpus."""
    paths = {}
    for number, (name, data) in enumerate(corpus.items()):
        paths[name] = folder / f"{number}.pt"
        paths[name].write_bytes(data)
    good = folder / "good.pt"
    good.write_bytes(files.zip_file({"x": files.tensor(np.ones(3))}))
    done = subprocess.run(
        [sys.executable, "-c", WATCHED_READER],
        input=json.dumps([str(good), measure, *map(str, paths.values())]),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["heard"] == []
    assert not (folder / hostile.SENTINEL).exists()
    return {name: tuple(answer["results"][str(path)]) for name, path in paths.items()}


def test_the_watch_can_hear():
    """The reader of this file, given a module that executes what it reads."""
    code = WATCHED_READER.replace("from swiftdet import ModelError, checkpoints", "import io, pickle as checkpoints")
    code = code.replace("ModelError", "ValueError").replace("checkpoints.load(good)", "")
    code = code.replace("checkpoints.load(path)", "checkpoints.loads(b'cos\\ngetcwd\\n)R.') and {}")
    done = subprocess.run(
        [sys.executable, "-c", code], input='["", false, "x"]', capture_output=True, text=True, check=True
    )
    assert ["x", "pickle.find_class"] in [heard[:2] for heard in json.loads(done.stdout)["heard"]]


def test_hostile_files_execute_nothing_and_stay_small(tmp_path):
    corpus = hostile.corpus()
    results = read_watched(tmp_path, {name: data for name, (data, _) in corpus.items()}, measure=True)
    wrong = {}
    for name, (data, expected) in corpus.items():
        message, extra, seconds = results[name]
        if expected and not re.search(expected, message or "", re.DOTALL):
            wrong[name] = f"expected {expected!r}, got {message!r}"
        elif not expected and message is not None:
            wrong[name] = f"refused: {message}"
        elif extra > len(data) + SLACK:
            wrong[name] = f"{extra >> 20} MiB besides the arrays, of a file of {len(data)} bytes"
        elif seconds > 30:
            wrong[name] = f"{seconds:.1f} s"
    assert wrong == {}
    assert len(corpus) > 300


def test_an_object_of_a_dangerous_class_is_only_a_record(tmp_path):
    inert = (
        b"csubprocess\nPopen\n("
        + hostile.text("touch " + hostile.SENTINEL)
        + b"t\x81}"
        + hostile.text("a")
        + b"K\x01sb"
    )
    data = b"\x80\x02}(" + hostile.text("x") + hostile.GOOD_TENSOR + hostile.text("y") + inert + b"u."
    results = read_watched(tmp_path, {"inert": hostile.with_four(data)})
    assert results["inert"][0] is None


def yolov7_file(form: str) -> tuple[bytes, dict[str, np.ndarray]]:
    model, expected = files.yolov7_model()
    write = {"zip": files.zip_file, "legacy": files.legacy_file}[form]
    return write({"model": model, "ema": None, "best_fitness": np.array([0.5])}), expected


def small_file(form: str) -> tuple[bytes, dict[str, np.ndarray]]:
    arrays = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "a.bias": np.ones(2, np.float16)}
    state = {name: files.tensor(array) for name, array in arrays.items()}
    if form == "safetensors":
        from safetensors import numpy as reference

        return reference.save(arrays), arrays
    return {"zip": files.zip_file, "legacy": files.legacy_file}[form]({"state_dict": state}), arrays


@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
def test_truncated_at_every_byte(tmp_path, form):
    data, _ = small_file(form)
    path = tmp_path / "truncated.pt"
    for size in range(len(data)):
        path.write_bytes(data[:size])
        with pytest.raises(ModelError):
            checkpoints.load(path)


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_truncated_at_every_kibibyte(tmp_path, form):
    model, _ = yolov7_file(form)
    weight = files.tensor(np.zeros((64, 256), np.float32))
    write = {"zip": files.zip_file, "legacy": files.legacy_file}[form]
    data = write({"model": files.yolov7_model()[0], "more": [weight]})
    assert len(data) > 64 << 10
    corpus = {str(size): data[:size] for size in range(0, len(data), 1024)} | {"model": model[: len(model) // 2]}
    results = read_watched(tmp_path, corpus)
    assert [name for name, (message, _, _) in results.items() if message is None] == []


def test_a_flipped_bit_is_found_or_harmless_in_a_zip(tmp_path):
    """Each byte of the archive is under a checksum, or compared, or without effect on the arrays."""
    data, expected = small_file("zip")
    path = tmp_path / "flipped.pt"
    refused = 0
    for at in range(len(data)):
        path.write_bytes(hostile.patched(data, at, bytes([data[at] ^ 1 << at % 8])))
        try:
            state = checkpoints.load(path)
        except ModelError:
            refused += 1
            continue
        assert state.keys() == expected.keys(), at
        for name, array in state.items():
            np.testing.assert_array_equal(array, expected[name], err_msg=f"byte {at}")
    assert refused > len(data) / 2


@pytest.mark.parametrize("form", ["legacy", "safetensors"])
def test_a_flipped_bit_ends_in_a_typed_error_or_arrays(tmp_path, form):
    data, _ = small_file(form)
    path = tmp_path / "flipped.pt"
    for at in range(len(data)):
        for bit in (at % 8, (at + 5) % 8):
            path.write_bytes(hostile.patched(data, at, bytes([data[at] ^ 1 << bit])))
            try:
                checkpoints.load(path)
            except ModelError:
                continue
