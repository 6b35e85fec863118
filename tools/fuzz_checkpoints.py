"""Reads random checkpoint files and checks that each gives arrays or a ModelError, and that nothing else happens.

    python tools/fuzz_checkpoints.py --cases 100000

Files are random programs for the pickle machine, and valid files of every form with random changes; hypothesis makes
them. The programs lie in archives with right checksums, so that they reach the machine. An audit hook hears of every
import, opened file, process, socket and piece of code while a file is read.
"""

from __future__ import annotations

import argparse
import collections
import re
import resource
import struct
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from safetensors import numpy as safetensors

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests/python"))

import checkpoint_files as files
from swiftdet import ModelError, checkpoints

BATCH = 5000  # cases that hypothesis remembers at a time
NAMES = [
    "posix system", "builtins eval", "__builtin__ getattr", "a B", "models.yolo Model", "collections OrderedDict",
    "collections defaultdict", "__builtin__ set", "__builtin__ bytes", "_codecs encode", "copy_reg _reconstructor",
    "torch Size", "torch device", "torch float16", "torch FloatStorage", "torch.storage UntypedStorage",
    "torch.cuda HalfStorage", "torch._utils _rebuild_tensor", "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_tensor_v3", "torch._utils _rebuild_parameter", "torch._tensor _rebuild_from_type_v2",
    "numpy dtype", "numpy.core.multiarray scalar", "pathlib PosixPath",
]  # fmt: skip
WORDS = [
    "storage", "module", "0", "1", "cpu", "x", "model", "ema", "state_dict", "_modules", "_parameters", "_buffers",
    "_non_persistent_buffers_set", "names", "nc", "yaml", "latin1", "module.x", "__setstate__", "",
]  # fmt: skip
HARMLESS = {"array.__new__", "object.__getattr__", "builtins.id", "sys._getframe"}


def text(value: str) -> bytes:
    """The opcode that pushes a text."""
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def storage_id(kind: str, count: int) -> bytes:
    """The opcodes that push a storage."""
    return (
        b"(" + text("storage") + f"ctorch\n{kind}\n".encode() + text("0") + text("cpu") + b"K" + bytes([count]) + b"tQ"
    )


def opcodes() -> st.SearchStrategy[bytes]:
    """One opcode with its argument, or a few that belong together."""
    number = st.integers(0, 255).map(lambda n: bytes([n]))
    small = st.integers(0, 5).map(lambda n: b"K" + bytes([n]))
    slot = st.integers(0, 7).map(lambda n: bytes([n]))
    long = st.binary(max_size=9).map(lambda b: b"\x8a" + bytes([len(b)]) + b)
    plain = st.sampled_from(
        [bytes([code]) for code in b"(.012N)]}tadeslubRo\x81\x85\x86\x87\x88\x89\x8f\x90\x91\x92\x93\x94Q"]
    )
    named = st.sampled_from(NAMES).map(lambda n: b"c" + n.replace(" ", "\n").encode() + b"\n")
    word = st.sampled_from(WORDS).map(text)
    memo = st.tuples(st.sampled_from([b"q", b"h"]), slot).map(b"".join)
    storage = st.sampled_from([("FloatStorage", 4), ("HalfStorage", 8), ("UntypedStorage", 16), ("IntStorage", 5)]).map(
        lambda of: storage_id(*of)
    )
    shape = st.lists(st.integers(0, 5), max_size=4).map(lambda s: b"(" + b"".join(b"K" + bytes([n]) for n in s) + b"t")
    tensor = st.tuples(storage, small, shape, shape).map(
        lambda of: b"ctorch._utils\n_rebuild_tensor_v2\n(" + b"".join(of) + b"\x89}tR"
    )
    lines = st.tuples(
        st.sampled_from([b"I", b"L", b"F", b"S", b"V", b"P", b"p", b"g", b"i"]), st.binary(max_size=6)
    ).map(lambda of: of[0] + of[1] + b"\n")
    module = st.just(b"ca\nB\n)\x81}" + text("_modules") + b"}s" + text("_parameters") + b"}")
    any_byte = st.tuples(number, st.binary(max_size=9)).map(b"".join)
    return st.one_of(plain, plain, named, word, small, memo, long, storage, tensor, lines, module, any_byte)


def programs() -> st.SearchStrategy[bytes]:
    """Pickles."""
    return st.tuples(st.sampled_from([b"\x80\x02", b"\x80\x04", b""]), st.lists(opcodes(), max_size=40)).map(
        lambda of: of[0] + b"".join(of[1]) + b"."
    )


def valid_pickle(*, legacy: bool) -> tuple[bytes, dict[str, files.Storage]]:
    """A pickle of everything that a training file has, and its storages."""
    model, _ = files.yolov7_model()
    state = {"a": files.tensor(np.ones((2, 2), np.float32))}
    return files.pickled(
        {"model": model, "ema": None, "best_fitness": np.array([0.5]), "state_dict": state}, legacy=legacy
    )


def valid_files() -> list[bytes]:
    """A small file of each form."""
    arrays = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "a.bias": np.ones(2, np.float16)}
    state = {name: files.tensor(array) for name, array in arrays.items()}
    tree = files.module("a.B", parameters={"w": files.parameter(np.ones(3))}, names=["x"], nc=1)
    return [write(value) for write in (files.zip_file, files.legacy_file) for value in (state, {"model": tree})] + [
        safetensors.save(arrays)
    ]


@st.composite
def changed(draw: st.DrawFn, sources: list[bytes]) -> bytes:
    """A valid input after a few changes: bytes set, removed, repeated, moved, or replaced by opcodes."""
    data = draw(st.sampled_from(sources))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        length = draw(st.integers(0, 12))
        change = draw(st.sampled_from(["set", "remove", "repeat", "insert", "cut"]))
        if change == "set":
            new = draw(st.binary(min_size=1, max_size=9))
            data = data[:at] + new + data[at + len(new) :]
        elif change == "remove":
            data = data[:at] + data[at + length :]
        elif change == "repeat":
            data = data[:at] + data[at : at + length] * draw(st.integers(2, 50)) + data[at + length :]
        elif change == "insert":
            data = data[:at] + draw(opcodes()) + data[at:]
        else:
            data = data[:at]
    return data


def cases() -> st.SearchStrategy[bytes]:
    """Whole files."""
    four = {"0": files.Storage(np.arange(4, dtype=np.float32), "float32")}
    pickled, storages = valid_pickle(legacy=False)
    legacy_pickled, legacy_storages = valid_pickle(legacy=True)
    return st.one_of(
        programs().map(lambda data: files.zip_of_pickle(data, as_bytes(four))),
        programs().map(lambda data: files.legacy_of_pickle(data, four)),
        changed([pickled]).map(lambda data: files.zip_of_pickle(data, as_bytes(storages))),
        changed([legacy_pickled]).map(lambda data: files.legacy_of_pickle(data, legacy_storages)),
        changed(valid_files()),
    )


def as_bytes(storages: dict[str, files.Storage]) -> dict[str, bytes]:
    """The entries of an archive for the storages."""
    return {key: storage.data.tobytes() for key, storage in storages.items()}


class Watch:
    """Hears of everything that Python reports to audit hooks while a file is read."""

    def __init__(self) -> None:
        self.path: str | None = None
        self.heard: list[str] = []
        sys.addaudithook(self._listen)

    def _listen(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.path is None or event in HARMLESS:
            return
        if event == "open" and str(arguments[0]) == self.path and arguments[1] in {"r", "rb"}:
            return
        self.heard.append(f"{event} {arguments!r:.200}")

    def load(self, path: Path) -> dict[str, Any]:
        """`swiftdet.checkpoints.load`, heard."""
        self.path = str(path)
        try:
            return checkpoints.load(path)
        finally:
            self.path = None


def main() -> int:
    """Runs the cases; 1 when one did anything but give arrays or a ModelError."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    outcomes: collections.Counter[str] = collections.Counter()
    slowest = 0.0
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "case.pt"
        for data in valid_files():
            path.write_bytes(data)
            checkpoints.load(path)  # what the standard library imports on first use
        watch = Watch()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

        def check(data: bytes) -> None:
            nonlocal slowest
            path.write_bytes(data)
            begun = time.perf_counter()
            try:
                state = watch.load(path)
            except ModelError as e:
                outcomes[re.sub(r"\d+|'[^']*'|calls [^,]*", "#", str(e).removeprefix(f"checkpoint {path}: "))[:60]] += 1
            else:
                if not state or not all(isinstance(array, np.ndarray) for array in state.values()):
                    raise AssertionError(f"expected arrays, got {state!r:.200}")
                outcomes["read"] += 1
            slowest = max(slowest, time.perf_counter() - begun)
            if watch.heard:
                raise AssertionError(f"reading it did {watch.heard}")

        for batch, start in enumerate(range(0, options.cases, BATCH)):
            run = settings(
                max_examples=min(BATCH, options.cases - start),
                database=None,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            )(given(cases())(check))
            seed(options.seed + batch)(run)()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    total = outcomes.total()
    print(f"{total} files in {time.monotonic() - started:.0f} s: {outcomes['read']} read, the others refused")
    print(
        f"{len(outcomes) - 1} kinds of refusal; slowest {slowest * 1e3:.0f} ms; resident memory grew by {grown:.0f} MiB"
    )
    for reason, count in outcomes.most_common(12):
        print(f"{count:8d}  {reason}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
