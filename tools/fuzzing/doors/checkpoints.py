"""Checkpoints: random programs for the pickle machine, and valid files of every form with random changes."""

from __future__ import annotations

import random
import struct

import numpy as np
from safetensors import numpy as safetensors

import checkpoint_files as files
from fuzzing import mutations
from fuzzing.door import Door
from swiftdet import checkpoints

_NAMES = (
    "posix system", "builtins eval", "__builtin__ getattr", "a B", "models.yolo Model", "collections OrderedDict",
    "collections defaultdict", "__builtin__ set", "__builtin__ bytes", "_codecs encode", "copy_reg _reconstructor",
    "torch Size", "torch device", "torch float16", "torch FloatStorage", "torch.storage UntypedStorage",
    "torch.cuda HalfStorage", "torch._utils _rebuild_tensor", "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_tensor_v3", "torch._utils _rebuild_parameter", "torch._tensor _rebuild_from_type_v2",
    "numpy dtype", "numpy.core.multiarray scalar", "pathlib PosixPath",
)  # fmt: skip
_WORDS = (
    "storage", "module", "0", "1", "cpu", "x", "model", "ema", "state_dict", "_modules", "_parameters", "_buffers",
    "_non_persistent_buffers_set", "names", "nc", "yaml", "latin1", "module.x", "__setstate__", "",
)  # fmt: skip
_PLAIN = b"(.012N)]}tadeslubRo\x81\x85\x86\x87\x88\x89\x8f\x90\x91\x92\x93\x94Q"
_STORAGES = (("FloatStorage", 4), ("HalfStorage", 8), ("UntypedStorage", 16), ("IntStorage", 5))


class CheckpointDoor(Door):
    """`swiftdet.checkpoints.load`: .pt, .pth and .safetensors; nothing may be imported, opened or run on the way."""

    may_import = False
    memory_mib = 64
    """Besides the file: what `swiftdet.checkpoints` promises, and less, as here the arrays count too."""

    def prepare(self) -> None:
        """A small file of each form; pickles that go into archives with right checksums, so that they are read."""
        four = {"0": files.Storage(np.arange(4, dtype=np.float32), "float32")}
        self._four = (_entries(four), four)
        self._pickled = _valid_pickle(legacy=False)
        self._legacy = _valid_pickle(legacy=True)
        self._files = _valid_files()

    def warm_up(self) -> None:
        """Loads what the standard library imports on first use."""
        for data in self._files:
            self.run(data)

    def allowed_mib(self, case: bytes) -> float:
        """The file's size and the slack."""
        return self.memory_mib + len(case) / (1 << 20)

    def case(self, rng: random.Random) -> bytes:
        """A whole file."""
        kind = rng.randrange(5)
        if kind == 0:
            return files.zip_of_pickle(_program(rng), self._four[0])
        if kind == 1:
            return files.legacy_of_pickle(_program(rng), self._four[1])
        tokens = [_opcodes(rng) for _ in range(4)]
        if kind == 2:
            pickled, storages = self._pickled
            return files.zip_of_pickle(mutations.of_bytes(pickled, rng, tokens=tokens), _entries(storages))
        if kind == 3:
            pickled, storages = self._legacy
            return files.legacy_of_pickle(mutations.of_bytes(pickled, rng, tokens=tokens), storages)
        return mutations.of_bytes(rng.choice(self._files), rng, others=self._files, tokens=tokens)

    def run(self, case: bytes) -> str:
        """Reads it; whatever comes of it is a mapping to arrays."""
        path = self.folder / ("case.safetensors" if case[8:10] == b'{"' else "case.pt")
        path.unlink(missing_ok=True)  # what is written over is flushed to the disk first
        path.write_bytes(case)
        state = checkpoints.load(path)
        if not state or not all(isinstance(value, np.ndarray) for value in state.values()):
            raise AssertionError(f"expected arrays, got {state!r:.200}")
        return "read"


def _text(value: str) -> bytes:
    """The opcode that pushes a text."""
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def _storage(kind: str, count: int) -> bytes:
    """The opcodes that push a storage."""
    name = f"ctorch\n{kind}\n".encode()
    return b"(" + _text("storage") + name + _text("0") + _text("cpu") + b"K" + bytes([count]) + b"tQ"


def _opcodes(rng: random.Random) -> bytes:
    """One opcode with its argument, or a few that belong together."""
    kind = rng.randrange(12)
    if kind <= 1:
        return bytes([rng.choice(_PLAIN)])
    if kind == 2:
        return b"c" + rng.choice(_NAMES).replace(" ", "\n").encode() + b"\n"
    if kind == 3:
        return _text(rng.choice(_WORDS))
    if kind == 4:
        return b"K" + bytes([rng.randrange(6)])
    if kind == 5:
        return rng.choice((b"q", b"h")) + bytes([rng.randrange(8)])
    if kind == 6:
        number = rng.randbytes(rng.randrange(10))
        return b"\x8a" + bytes([len(number)]) + number
    if kind == 7:
        return _storage(*rng.choice(_STORAGES))
    if kind == 8:
        parts = _storage(*rng.choice(_STORAGES)) + b"K" + bytes([rng.randrange(6)]) + _shape(rng) + _shape(rng)
        return b"ctorch._utils\n_rebuild_tensor_v2\n(" + parts + b"\x89}tR"
    if kind == 9:
        return (
            rng.choice((b"I", b"L", b"F", b"S", b"V", b"P", b"p", b"g", b"i")) + rng.randbytes(rng.randrange(7)) + b"\n"
        )
    if kind == 10:
        return b"ca\nB\n)\x81}" + _text("_modules") + b"}s" + _text("_parameters") + b"}"
    return rng.randbytes(rng.randrange(1, 11))


def _shape(rng: random.Random) -> bytes:
    return b"(" + b"".join(b"K" + bytes([rng.randrange(6)]) for _ in range(rng.randrange(5))) + b"t"


def _program(rng: random.Random) -> bytes:
    """A pickle."""
    head = rng.choice((b"\x80\x02", b"\x80\x04", b""))
    return head + b"".join(_opcodes(rng) for _ in range(rng.randrange(41))) + b"."


def _valid_pickle(*, legacy: bool) -> tuple[bytes, dict[str, files.Storage]]:
    """A pickle of everything that a training file has, and its storages."""
    model, _ = files.yolov7_model()
    state = {"a": files.tensor(np.ones((2, 2), np.float32))}
    return files.pickled(
        {"model": model, "ema": None, "best_fitness": np.array([0.5]), "state_dict": state}, legacy=legacy
    )


def _valid_files() -> list[bytes]:
    """A small file of each form."""
    arrays = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "a.bias": np.ones(2, np.float16)}
    state = {name: files.tensor(array) for name, array in arrays.items()}
    tree = files.module("a.B", parameters={"w": files.parameter(np.ones(3))}, names=["x"], nc=1)
    return [write(value) for write in (files.zip_file, files.legacy_file) for value in (state, {"model": tree})] + [
        safetensors.save(arrays)
    ]


def _entries(storages: dict[str, files.Storage]) -> dict[str, bytes]:
    """The entries of an archive for the storages."""
    return {key: storage.data.tobytes() for key, storage in storages.items()}
