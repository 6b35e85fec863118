"""Hypothesis drives the reader of checkpoints: whatever a file is, arrays or a typed error, in bounded memory.

Four kinds of case: streams of the pickle machine's opcodes; a valid pickle with opcodes taken out, doubled, moved and
put in, in archives that are right otherwise; valid files with other numbers where their formats have fields;
safetensors with another header. Each is made of bytes that hypothesis draws, read as a row of choices: a third of the
time that a strategy for every choice would take. The profile is derandomized, so every run has the same cases (see
conftest.py). tools/fuzz.py has cases and checks of its own: docs/reliability.md.
"""

from __future__ import annotations

import copy
import itertools
import json
import pickletools
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import numpy as safetensors

import checkpoint_files as files
import hostile_checkpoints as hostile
from fuzzing.watch import peak_mib, reset_peak
from swiftdet import ModelError, checkpoints

DECISIONS = st.binary(min_size=56, max_size=56)
CASES, ALL_CASES = 100, 25_000  # of each kind: in every run, and in slow ones
SLACK_MIB = 64


class Choices:
    """Bytes as a row of choices; where they end, the first choice each time."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def below(self, count: int) -> int:
        self.at += 2
        return int.from_bytes(self.data[self.at - 2 : self.at].ljust(2, b"\0"), "little") % count

    def of(self, values):
        return values[self.below(len(values))]

    def some(self, made, most: int) -> list:
        """One to `most` of what `made` gives."""
        return [made() for _ in range(1 + self.below(most))]


# --- Pieces of pickles ------------------------------------------------------------------------------------------------

GLOBALS = (
    "posix system", "builtins eval", "a B", "models.yolo Model", "collections OrderedDict", "__builtin__ set",
    "_codecs encode", "copy_reg _reconstructor", "torch Size", "torch device", "torch float16", "torch FloatStorage",
    "torch.storage UntypedStorage", "torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter",
    "torch._tensor _rebuild_from_type_v2", "numpy dtype", "numpy.core.multiarray scalar",
)  # fmt: skip
WORDS = ("storage", "module", "0", "1", "cpu", "x", "model", "ema", "_modules", "_parameters", "_buffers", "names", "")
LINES = (b"0", b"-1", b"01", b"1L", b"9" * 400, b"'x'", b"posix\nsystem", b"\xff", b"")


def with_argument(opcode: pickletools.OpcodeInfo) -> list[bytes]:
    """An opcode with each of a few arguments of its kind."""
    code = opcode.code.encode("latin-1")
    size = 0 if opcode.arg is None else opcode.arg.n
    if size == pickletools.UP_TO_NEWLINE:
        lines = [line for line in LINES if opcode.name in {"GLOBAL", "INST"} or b"\n" not in line]
        return [code + line + b"\n" for line in lines]
    if size >= 0:
        values = {bytes(size), b"\x01".ljust(size, b"\0"), b"\x03".ljust(size, b"\0"), b"\xff" * size}
        return sorted({code + value[:size] for value in values})
    form = {pickletools.TAKEN_FROM_ARGUMENT1: "<B", pickletools.TAKEN_FROM_ARGUMENT8U: "<Q"}.get(size, "<I")
    most = (1 << 8 * struct.calcsize(form)) - 1
    data = b"models"
    return [code + struct.pack(form, length) + data[:length] for length in (0, 1, len(data), most >> 1, most)]


PIECES = sorted({piece for opcode in pickletools.opcodes for piece in with_argument(opcode)})
PIECES += [b"c" + name.replace(" ", "\n").encode() + b"\n" for name in GLOBALS]
PIECES += [hostile.text(word) for word in WORDS]
TENSORS = [
    hostile.GOOD_TENSOR, hostile.storage_id(), hostile.storage_id(key="1"), hostile.storage_id(count=b"K\x05"),
    hostile.tensor_of(hostile.storage_id(), shape=b"K\x02K\x02\x86", strides=b"K\x02K\x01\x86"),
    hostile.tensor_of(hostile.storage_id(), strides=b"K\x00\x85"),
    b"ca\nB\n)\x81}" + hostile.text("_parameters") + b"}" + hostile.text("w") + hostile.GOOD_TENSOR + b"ssb",
]  # fmt: skip
PIECES += TENSORS * 12  # of pieces that fit together there are few


def small_arrays() -> dict[str, np.ndarray]:
    return {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "a.bias": np.ones(2, np.float16)}


def small_tree() -> object:
    inner = files.module("a.B", parameters={"w": files.parameter(np.ones(3, np.float32))}, buffers={"b": None})
    state = {key: files.tensor(array) for key, array in small_arrays().items()}
    return {"model": files.module("a.C", modules={"0": inner}, names=["x"], nc=1), "epoch": 1, "state_dict": state}


def in_archive(data: bytes, storages: dict[str, files.Storage]) -> bytes:
    return files.zip_of_pickle(data, {key: storage.data.tobytes() for key, storage in storages.items()})


FOUR = {"0": files.Storage(np.arange(4, dtype=np.float32), "float32")}
FORMS = (in_archive, files.legacy_of_pickle)
HEADS = (b"\x80\x02", b"\x80\x04", b"")
KEY = b"}" + hostile.text("x")
FRAMES = ((KEY + hostile.GOOD_TENSOR + b"s", b"."), (KEY, b"s."), (b"", b"."))  # around the pieces


def stream(choices: Choices) -> bytes:
    form, head, (before, after) = choices.of(FORMS), choices.of(HEADS), choices.of(FRAMES)
    pieces = choices.some(lambda: choices.of(PIECES), 20)
    return form(b"".join([head, before, *pieces, after]), FOUR)


# --- A valid pickle, changed between its opcodes ----------------------------------------------------------------------


def opcodes(data: bytes) -> list[bytes]:
    starts = [at for _, _, at in pickletools.genops(data)] + [len(data)]
    return [data[a:b] for a, b in itertools.pairwise(starts)]


VALID = {form: files.pickled(small_tree(), legacy=form is files.legacy_of_pickle) for form in FORMS}
OPCODES = {form: opcodes(data) for form, (data, _) in VALID.items()}


def changed_pickle(choices: Choices) -> bytes:
    form = choices.of(FORMS)
    found = list(OPCODES[form])

    def change() -> None:
        at, kind, piece = choices.below(len(found)), choices.below(5), choices.of(PIECES)
        if kind == 0 and len(found) > 1:
            del found[at]
        elif kind == 1:
            found.insert(at, found[at])
        elif kind == 2:
            found[at], found[at - 1] = found[at - 1], found[at]
        elif kind == 3:
            found.insert(at, piece)
        else:
            found[at] = piece

    choices.some(change, 5)
    return form(b"".join(found), VALID[form][1])


# --- Valid files, changed where their formats have fields -------------------------------------------------------------

WHOLE = [files.zip_file(small_tree()), files.legacy_file(small_tree()), safetensors.save(small_arrays())]
NUMBERS = (0, 1, 2, 8, 0x14, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 1 << 16, 1 << 20, (1 << 31) - 1, (1 << 32) - 1)
RECORDS = {b"PK\x03\x04": 30, b"PK\x01\x02": 46, b"PK\x05\x06": 22}


def fields(data: bytes) -> list[int]:
    """Where a ZIP archive's records have numbers; of another file any place, the first ones above all."""
    if not data.startswith(b"PK"):
        return [*range(64), *range(min(len(data), 2048))]
    places = []
    for mark, size in RECORDS.items():
        at = data.find(mark)
        while at >= 0:
            places += range(at + 4, at + size, 2)
            at = data.find(mark, at + 1)
    return places


FIELDS = [fields(data) for data in WHOLE]


def changed_file(choices: Choices) -> bytes:
    number = choices.of((0, 0, 1, 2))
    data = bytearray(WHOLE[number])

    def change() -> None:
        at, size = choices.of(FIELDS[number]), choices.of((1, 2, 2, 4, 4, 8))
        data[at : at + size] = (choices.of(NUMBERS) % (1 << 8 * size)).to_bytes(size, "little")

    choices.some(change, 3)
    return bytes(data[: choices.below(len(data)) + 1] if choices.below(4) == 3 else data)


# --- Safetensors with another header ----------------------------------------------------------------------------------

ODD = (
    *(None, True, -1, 0, 1, 6, 24, 1 << 31, 1 << 63, 10**400, 1.5, "", "F32", "F16", "BF16", "U64", "x" * 300),
    *([], [0], [2, 3], [3, 2], [6], [0, 24], [24, 28], [24, 0], [0, 1 << 62], [-1, 4], [1 << 40, 0], [[]]),
    *({}, {"dtype": "F32"}, {"names": '["a"]'}),
)
KEYS = ("a.weight", "a.bias", "__metadata__", "b", "", "names")


def changed_header(choices: Choices) -> bytes:
    data = WHOLE[2]
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])

    def change() -> None:
        key, name = choices.of(KEYS), choices.of(("shape", "dtype", "data_offsets", "more", None))
        value = copy.copy(choices.of(ODD))
        if name is None or not isinstance(header.get(key), dict):
            header[key] = value
        else:
            header[key][name] = value

    choices.some(change, 4)
    text = bytearray(json.dumps(header).encode())
    if choices.below(4) == 3:
        text[choices.below(len(text))] = choices.below(256)
    length = len(text) + (choices.of((1, -1, 100)) if choices.below(8) == 7 else 0)
    return length.to_bytes(8, "little") + bytes(text) + data[8 + size :]


KINDS = {"opcodes": stream, "pickles": changed_pickle, "files": changed_file, "headers": changed_header}

# --- The property -----------------------------------------------------------------------------------------------------


def assert_read_or_refused(path: Path, data: bytes) -> bool:
    """Whether the reader took the file."""
    path.unlink(missing_ok=True)  # what is written over is flushed to the disk first
    path.write_bytes(data)
    reset_peak()
    before = peak_mib()
    try:
        state = checkpoints.load(path)
    except ModelError:
        state = {}
    arrays = sum(array.nbytes for array in state.values())
    assert peak_mib() - before <= SLACK_MIB + (len(data) + arrays) / (1 << 20)
    return bool(state)


def drive(kind: str, cases: int, folder: Path) -> tuple[int, int]:
    """(cases, files read) of a kind."""
    path, outcomes = folder / "case.pt", []

    @settings(max_examples=cases)
    @given(DECISIONS)
    def holds(decisions: bytes) -> None:
        outcomes.append(assert_read_or_refused(path, KINDS[kind](Choices(decisions))))

    holds()
    return len(outcomes), sum(outcomes)


@pytest.mark.parametrize("kind", KINDS)
def test_any_file_is_read_or_refused(tmp_path, kind):
    cases, read = drive(kind, CASES, tmp_path)
    assert cases >= CASES
    assert read < cases


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kind", KINDS)
def test_any_of_a_hundred_thousand_files_is_read_or_refused(tmp_path, kind):
    """25,000 of each kind; of each some are taken, so that what lies behind the first checks is reached."""
    cases, read = drive(kind, ALL_CASES, tmp_path)
    assert cases >= ALL_CASES
    assert 0 < read < cases


def test_the_files_are_valid_before_they_are_changed(tmp_path):
    for data in [*WHOLE, *(form(*VALID[form]) for form in VALID)]:
        assert assert_read_or_refused(tmp_path / "case.pt", data)
