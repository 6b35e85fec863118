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

# Reads every file named on stdin, each in a process of its own, under an audit hook, which hears of imports, code,
# files, processes and sockets.
WATCHED_READER = """
import json, os, resource, sys, time
from swiftdet import ModelError, checkpoints

good, *paths = json.load(sys.stdin)
checkpoints.load(good)  # what the standard library imports on first use
HARMLESS = {"array.__new__", "object.__getattr__", "builtins.id", "sys._getframe"}
watched, heard = [None], []

def listen(event, arguments):
    if watched[0] is None or event in HARMLESS:
        return
    if event == "open" and str(arguments[0]) == watched[0] and arguments[1] in ("r", "rb"):
        return
    heard.append([event, str(arguments)[:200]])

def resident():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10

def read(path):
    before, start = resident(), time.perf_counter()
    watched[0] = path
    try:
        state, outcome = checkpoints.load(path), None
    except ModelError as e:
        state, outcome = {}, str(e)
    finally:
        watched[0] = None
    extra = resident() - before - sum(a.nbytes for a in state.values())
    return {"message": outcome, "extra": extra, "seconds": time.perf_counter() - start, "heard": heard}

sys.addaudithook(listen)
for path in paths:
    child = os.fork()
    if not child:
        print(json.dumps([path, read(path)]), flush=True)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if status:
        sys.exit(f"{path}: status {status}")
"""


def run_reader(code: str, paths: list[str], folder: pathlib.Path) -> dict[str, dict]:
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps(paths),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(line) for line in done.stdout.splitlines())


def read_watched(folder: pathlib.Path, corpus: dict[str, bytes]) -> dict[str, dict]:
    """Of each file: message (None where it was read), resident bytes besides the arrays, and seconds."""
    paths = {}
    for number, (name, data) in enumerate(corpus.items()):
        paths[name] = folder / f"{number}.pt"
        paths[name].write_bytes(data)
    good = folder / "good.pt"
    good.write_bytes(files.zip_file({"x": files.tensor(np.ones(3))}))
    answers = run_reader(WATCHED_READER, [str(good), *map(str, paths.values())], folder)
    results = {name: answers[str(path)] for name, path in paths.items()}
    assert {name: result["heard"] for name, result in results.items() if result["heard"]} == {}
    assert not (folder / hostile.SENTINEL).exists()
    return results


def test_the_watch_can_hear_and_measure(tmp_path):
    """The same reader, with functions in the place of ours that execute what they read, and take memory."""
    ours = "from swiftdet import ModelError, checkpoints"
    path = tmp_path / "evil.pt"
    path.write_bytes(b"cos\ngetcwd\n)R.")
    reads = (
        "import pathlib, pickle, types; ModelError = ValueError; checkpoints = types.SimpleNamespace(load=lambda p: {})"
    )
    executes = f"{reads}; executing = lambda p: pickle.loads(pathlib.Path(p).read_bytes()) and {{}}"
    code = WATCHED_READER.replace(ours, executes).replace("checkpoints.load(path)", "executing(path)")
    answer = run_reader(code, ["", str(path)], tmp_path)[str(path)]
    assert "pickle.find_class" in [event for event, _ in answer["heard"]]
    code = WATCHED_READER.replace(ours, reads).replace("checkpoints.load(path)", "len(b'x' * (100 << 20)) and {}")
    answer = run_reader(code, ["", str(path)], tmp_path)[str(path)]
    assert answer["extra"] > 90 << 20


def test_hostile_files_execute_nothing_and_stay_small(tmp_path):
    corpus = hostile.corpus()
    results = read_watched(tmp_path, {name: data for name, (data, _) in corpus.items()})
    wrong = {}
    for name, (data, expected) in corpus.items():
        message, extra, seconds = (results[name][key] for key in ("message", "extra", "seconds"))
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
    assert results["inert"]["message"] is None


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
    assert len(results) > 64
    assert [name for name, result in results.items() if result["message"] is None] == []
    over = {name: result["extra"] for name, result in results.items() if result["extra"] > len(corpus[name]) + SLACK}
    assert over == {}


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
