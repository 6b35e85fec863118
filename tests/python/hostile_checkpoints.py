"""Checkpoint files made to run code, to fill the memory, to read other files, or to hang; and damaged ones."""

from __future__ import annotations

import builtins
import io
import os
import pickle
import struct
import subprocess
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator

import numpy as np

import checkpoint_files as files

SENTINEL = "executed-by-a-checkpoint"
_CODE = f"open({SENTINEL!r}, 'w').close()"
_SHELL = f"touch {SENTINEL}"
HOSTILE_CALLS: list[tuple[Callable, tuple]] = [
    (os.system, (_SHELL,)),
    (os.popen, (_SHELL,)),
    (subprocess.Popen, (["touch", SENTINEL],)),
    (builtins.eval, (_CODE,)),
    (builtins.exec, (_CODE,)),
    (builtins.compile, (_CODE, "x", "exec")),
    (builtins.__import__, ("antigravity",)),
    (builtins.getattr, (os, "system")),
    (builtins.open, (SENTINEL, "w")),
    (pickle.loads, (b"cos\nsystem\n(S'" + _SHELL.encode() + b"'\ntR.",)),
    (np.load, (SENTINEL,)),
    (io.FileIO, (SENTINEL, "w")),
    (builtins.bytearray, (1 << 40,)),
]


class Calls:
    """Pickles as a call of `function`."""

    def __init__(self, function: Callable, arguments: tuple) -> None:
        self.function = function
        self.arguments = arguments

    def __reduce__(self):
        return self.function, tuple("os" if a is os else a for a in self.arguments)


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def storage_id(*, kind: bytes = b"ctorch\nFloatStorage\n", key: str = "0", count: bytes = b"K\x04") -> bytes:
    return b"(" + text("storage") + kind + text(key) + text("cpu") + count + b"tQ"


def tensor_of(
    storage: bytes, *, offset: bytes = b"K\x00", shape: bytes = b"K\x04\x85", strides: bytes = b"K\x01\x85"
) -> bytes:
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + offset + shape + strides + b"\x89}tR"


def long(value: int) -> bytes:
    data = value.to_bytes(16, "little", signed=True)
    return b"\x8a\x10" + data


GOOD_TENSOR = tensor_of(storage_id())
FOUR = {"0": np.arange(4, dtype=np.float32).tobytes()}


def state_dict(value: bytes, *, beside: bytes = b"") -> bytes:
    """A pickle of {"x": value}, after other opcodes that leave the stack as it was."""
    return b"\x80\x02" + beside + b"}" + text("x") + value + b"s."


def with_four(pickle_bytes: bytes, **how) -> bytes:
    return files.zip_of_pickle(pickle_bytes, FOUR, **how)


def module_pickle(modules: bytes, *, more: bytes = b"") -> bytes:
    """An object of a.B with `_modules`; `modules` makes the mapping."""
    return b"ca\nB\n)\x81}" + text("_modules") + modules + b"s" + more + b"b"


def hostile_calls() -> Iterator[tuple[str, bytes, str]]:
    good, _ = files.pickled(OrderedDict(x=files.tensor(np.ones(4, np.float32))))
    for function, arguments in HOSTILE_CALLS:
        named = rf"calls [\w.]+\.{function.__name__}, .*nothing was executed"  # older protocols name older modules
        short = f"{function.__module__}.{function.__name__}"
        for protocol in range(5):
            data = pickle.dumps(Calls(function, arguments), protocol)
            nested = pickle.dumps({"model": {"x": [Calls(function, arguments)]}, "epoch": 1}, protocol)
            yield f"{short} in a zip, protocol {protocol}", with_four(data), named
            yield f"{short} inside, protocol {protocol}", with_four(nested), named
            yield f"{short} legacy, protocol {protocol}", files.legacy_of_pickle(nested), named
            alone = named if protocol >= 2 else "expected a checkpoint"
            yield f"{short} as a plain pickle, protocol {protocol}", data, alone
        first = pickle.dumps(files.MAGIC, 2) + pickle.dumps(files.VERSION, 2)
        yield f"{short} among the legacy facts", first + pickle.dumps(Calls(function, arguments), 2), named
    call = b"cposix\nsystem\n" + text(_SHELL) + b"\x85R"
    places = {
        "as hooks of a tensor": GOOD_TENSOR.replace(b"}tR", call + b"tR"),
        "as a key of a storage": tensor_of(storage_id().replace(text("0"), call)),
        "as a device": tensor_of(storage_id().replace(text("cpu"), call)),
        "as an argument of an object": b"ca\nB\n" + call + b"\x85\x81",
        "as a state": b"ca\nB\n)\x81" + call + b"b",
        "as arguments of a call": b"ccollections\nOrderedDict\n" + call + b"R",
        "by INST": b"(" + text(_SHELL) + b"iposix\nsystem\n",
        "by OBJ": b"(cposix\nsystem\n" + text(_SHELL) + b"o",
        "by STACK_GLOBAL": text("posix") + text("system") + b"\x93" + text(_SHELL) + b"\x85R",
        "inside a tensor's type": b"ctorch._tensor\n_rebuild_from_type_v2\n(cposix\nsystem\nctorch\nTensor\n"
        + text(_SHELL)
        + b"\x85}tR",
        "after a memo": b"cposix\nsystem\nq\x000h\x00" + text(_SHELL) + b"\x85R",
    }
    for place, value in places.items():
        yield f"os.system {place}", with_four(state_dict(value)), r"posix\.system"
    refused = {
        "torch.load": "ctorch.storage\n_load_from_bytes\nC\x01.\x85R",
        "torch.hub.load": "ctorch.hub\nload\n)R",
        "operator.attrgetter": "coperator\nattrgetter\n" + "X\x06\x00\x00\x00system\x85R",
        "functools.partial": "cfunctools\npartial\n)R",
        "collections.OrderedDict.fromkeys": "ccollections\nOrderedDict.fromkeys\n)R",
        "numpy.core.multiarray.frombuffer": "cnumpy.core.multiarray\nfrombuffer\n)R",
        "builtins.getattr": "c__builtin__\ngetattr\n)R",
    }
    for name, value in refused.items():
        yield f"{name} by name", with_four(state_dict(value.encode("latin-1"))), "calls .*nothing was executed"
    yield "a call of an object", with_four(state_dict(b"ca\nB\n)\x81)R")), "calls an object of a.B"
    yield "a call of a list", with_four(state_dict(b"])R")), "calls list"
    yield "an object of a list", with_four(state_dict(b"])\x81")), "makes an object of list"
    yield "an extension code", with_four(state_dict(b"\x82\x01")), "opcode 0x82"
    yield "an out-of-band buffer", with_four(state_dict(b"\x97")), "opcode 0x97"
    yield "persistent id in text", with_four(state_dict(b"Pposix.system\n")), "reference to str"
    yield "a good file with a call appended", with_four(good[:-1] + call + b"0."), r"posix\.system"


def floods() -> Iterator[tuple[str, bytes, str]]:
    """Small files that want much memory or time."""
    many = 3 << 20
    enough = "more than 40 MiB of objects"
    yield "lists", with_four(b"\x80\x02" + b"]" * many + b"."), enough
    yield "sets", with_four(b"\x80\x04" + b"\x8f" * many + b"."), enough
    yield "dicts", with_four(b"\x80\x02" + b"}" * many + b"."), enough
    yield "marks", with_four(b"\x80\x02" + b"(" * many + b"."), enough
    yield "nested tuples", with_four(b"\x80\x02)" + b"\x85" * many + b"."), enough
    yield "nested lists", with_four(b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b"."), "found list"
    objects = b"Nca\nB\nq\x000" + b"h\x00)\x81" * 90_000 + b"b" * 89_999
    yield "nested objects", with_four(b"\x80\x02" + objects + b"."), "found an object of a.B"
    yield "copies of the top", with_four(b"\x80\x02N" + b"2" * many + b"."), enough
    memo = b"".join(b"Nr" + struct.pack("<I", i + 1) + b"0" for i in range(300_000))
    yield "memo entries", with_four(b"\x80\x02" + memo + b"N."), enough
    yield "memoized", with_four(b"\x80\x04N" + b"\x94" * many + b"."), enough
    yield "names", with_four(b"\x80\x02" + b"ca\nb\n" * 500_000 + b"."), enough
    yield "objects", with_four(b"\x80\x02ca\nB\nq\x000" + b"h\x00)\x81" * 500_000 + b"."), enough
    mega = text("a" * (1 << 20))
    yield "one text many times", files.legacy_of_pickle(b"\x80\x02" + mega * 42 + b"."), enough
    wide = text("\N{GRINNING FACE}" + "a" * ((1 << 20) - 4))
    yield "texts four times as wide", with_four(b"\x80\x02" + wide * 20 + b"."), enough
    copies = b"h\x00h\x01\x86q\x02" + b"0c_codecs\nencode\nh\x02R" * 1000
    encoded = b"\x80\x02" + mega + b"q\x000" + text("latin1") + b"q\x010" + copies + b"."
    yield "bytes made of one text", with_four(encoded), enough
    shared = b"](" + b"N" * 200_000 + b"eq\x000" + b"h\x00\x85q\x010"
    sets = shared + b"c__builtin__\nset\nq\x020" + b"h\x02h\x01R" * 20_000
    yield "sets of one list", with_four(b"\x80\x02" + sets + b"."), enough
    dicts = shared.replace(b"N", b"]" + text("k") + b"aNa", 1) + b"ccollections\nOrderedDict\nq\x020h\x02h\x01R."
    yield "pairs that are none", with_four(b"\x80\x02" + dicts), "OrderedDict's entry"
    laughs = b"]q\x00"
    for i in range(60):
        get = b"h" + bytes([i])
        laughs += b"0](" + get + get + b"eq" + bytes([i + 1])
    deep = b")" + b"\x85" * 200_000  # hashing or printing it would overflow the stack
    for place, value in {
        "an encoding": b"c_codecs\nencode\n" + text("a") + deep + b"\x86R",
        "a key": b"}" + deep + b"Ns",
        "a key of pairs": b"ccollections\nOrderedDict\n](" + deep + b"Nle\x85R",
        "a set": b"c__builtin__\nset\n" + deep + b"\x85R",
        "a set's item": b"c__builtin__\nset\n]" + deep + b"a\x85R",
        "a shape": tensor_of(storage_id(), shape=deep),
        "a storage's key": tensor_of(storage_id().replace(text("0"), deep)),
        "a storage's location": tensor_of(storage_id().replace(text("cpu"), deep)),
        "a storage's kind": tensor_of(storage_id(kind=deep)),
        "a persistent id": deep + b"Q",
        "a device": b"ctorch\ndevice\n" + deep + b"R",
        "a type": b"ctorch._utils\n_rebuild_tensor_v3\n(" + storage_id() + b"K\x00))\x89}" + deep + b"tR",
        "a class": deep + b")\x81",
        "a function": deep + b")R",
        "a state": b"ca\nB\n)\x81" + deep + b"b",
    }.items():
        expected = "" if place.endswith("location") else "."
        yield f"a deep tuple as {place}", with_four(state_dict(value)), expected
        if place.startswith(("a storage's", "a persistent")):
            yield f"a deep tuple as {place}, legacy", legacy(state_dict(value)), expected
    viewed = storage_id()[:-2] + deep + b"tQ"
    yield "a deep tuple as a legacy view", legacy(state_dict(tensor_of(viewed))), "a view of a storage"
    yield "a deep tuple as the magic number", b"\x80\x02" + deep + b".", "torch.save did not write"
    again = b"h\x00"
    beside = text("names") + deep + b"q\x00" + text("nc") + again + text("yaml") + again + text("ema") + again
    weights = text("model") + b"}" + text("x") + GOOD_TENSOR + b"s"
    yield "deep tuples beside the weights", with_four(b"\x80\x02}(" + beside + weights + b"u."), ""
    yield "a billion laughs", with_four(b"\x80\x02" + laughs + b"."), "found list"
    modules = b"ca\nB\n)\x81}" + text("_modules") + b"}sbq\x00"
    for i in range(40):
        get = b"h" + bytes([i])
        pair = b"}(" + text("a") + get + text("b") + get + b"u"
        modules += module_pickle(pair) + b"q" + bytes([i + 1])
    yield "modules doubled forty times", with_four(b"\x80\x02" + modules + b"."), "modules that contain themselves"
    cyclic = b"ca\nB\n)\x81q\x00}" + text("_modules") + b"}" + text("a") + b"h\x00ssb"
    yield "a module that contains itself", with_four(b"\x80\x02" + cyclic + b"."), "contain themselves"
    yield "a mapping that contains itself", with_four(b"\x80\x02}q\x00" + text("model") + b"h\x00s."), "found dict"
    yield "a list that contains itself", with_four(b"\x80\x02]q\x00h\x00a."), "found list"
    colliding = b"".join(long(i * ((1 << 61) - 1)) + b"N" for i in range(1, 100_000))
    yield "keys with one hash", with_four(b"\x80\x02}(" + colliding + b"u."), "found only OddKey"
    names = text("names") + laughs
    state = text("model") + b"}" + text("x") + GOOD_TENSOR + b"s"
    yield "names that are a billion laughs", with_four(b"\x80\x02}(" + names + state + b"u."), ""
    weights = text("_parameters") + b"}" + text("x") + GOOD_TENSOR + b"ss"
    described = b"\x80\x02" + module_pickle(b"}", more=weights + text("yaml") + laughs + b"s")
    yield "a description that is a billion laughs", with_four(described + b"."), ""
    for name, opcode in (("text", b"\x8d"), ("bytes", b"\x8e"), ("bytearray", b"\x96")):
        yield (
            f"{name} of 2**63 bytes",
            with_four(b"\x80\x04" + opcode + (1 << 63).to_bytes(8, "little") + b"."),
            "at most",
        )
        yield (
            f"{name} of a gigabyte",
            with_four(b"\x80\x04" + opcode + (1 << 30).to_bytes(8, "little") + b"."),
            "at most",
        )
    yield "an integer of a gigabyte", with_four(b"\x80\x02\x8b" + struct.pack("<I", 1 << 30) + b"."), "at most 255"
    yield "an integer of a million digits", with_four(b"I" + b"9" * (1 << 20) + b"\n."), "a line of more"
    yield "a frame of 2**63 bytes", with_four(b"\x80\x04\x95" + (1 << 63).to_bytes(8, "little") + b"."), "frame"


def tensors() -> Iterator[tuple[str, bytes, str]]:
    """Tensors and storages that are not what the file has."""

    def made(**how: bytes) -> bytes:
        return with_four(state_dict(tensor_of(storage_id(), **how)))

    def stored(**how) -> bytes:
        return with_four(state_dict(tensor_of(storage_id(**how))))

    yield "a storage of a terabyte", stored(count=long(1 << 38)), "declared as .* but its entry has 16 bytes"
    yield "a storage of 2**120 elements", stored(count=long(1 << 120)), "but its entry has 16 bytes"
    yield "a storage of -1 elements", stored(count=long(-1)), "no number"
    yield "a storage of True elements", stored(count=b"\x88"), "no number"
    yield "a storage of other elements", stored(kind=b"ctorch\nDoubleStorage\n"), "float64"
    yield "a storage of an unknown type", stored(kind=b"cposix\nsystem\n"), r"posix\.system"
    yield "a storage that is missing", stored(key="1"), "not in the archive"
    yield "a storage outside", stored(key="../../../../etc/passwd"), "not in the archive"
    yield "a storage with an absolute path", stored(key="/etc/passwd"), "not in the archive"
    twice = tensor_of(storage_id()) + b"0" + tensor_of(storage_id(kind=b"ctorch\nIntStorage\n"))
    yield "a storage of two types", with_four(state_dict(twice)), "two types"
    yield (
        "a legacy storage of a terabyte",
        legacy(state_dict(tensor_of(storage_id(count=long(1 << 38))))),
        "beyond|is declared|stored",
    )
    yield "an expanded tensor", made(shape=long(1 << 36) + b"\x85", strides=b"K\x00\x85"), "views that repeat"
    square = long(1 << 18) + long(1 << 18) + b"\x86"
    yield "an expanded matrix", made(shape=square, strides=b"K\x00K\x00\x86"), "views that repeat"
    yield (
        "a tensor larger than memory",
        made(shape=long(1 << 58) + b"\x85", strides=b"K\x00\x85"),
        "larger than any memory",
    )
    yield (
        "an empty tensor of 2**58",
        made(shape=b"K\x00" + long(1 << 58) + b"\x86", strides=b"K\x01K\x01\x86"),
        "memory",
    )
    yield "a tensor beyond its storage", made(offset=b"K\x01"), "reaches element 4 of a storage of 4"
    yield "strides beyond the storage", made(strides=b"K\x02\x85"), "reaches element 6"
    yield "a negative stride", made(strides=long(-1) + b"\x85"), "non-negative"
    yield "a negative offset", made(offset=long(-1)), "non-negative"
    yield "a negative shape", made(shape=long(-4) + b"\x85"), "non-negative"
    yield "a shape of bools", made(shape=b"\x88\x85"), "integers"
    yield "fewer strides", made(strides=b")"), "0 strides"
    yield (
        "a thousand dimensions",
        made(shape=b"(" + b"K\x01" * 1000 + b"t", strides=b"(" + b"K\x01" * 1000 + b"t"),
        "at most 8",
    )
    yield "a tensor of no storage", with_four(state_dict(tensor_of(b"N"))), "a tensor made of NoneType"
    yield (
        "a name with a control character",
        with_four(state_dict(GOOD_TENSOR).replace(text("x"), text("\x1b[2J"))),
        "printable",
    )
    yield "a name of a megabyte", with_four(state_dict(GOOD_TENSOR).replace(text("x"), text("x" * 1_000_000))), "256"


def legacy(pickle_bytes: bytes) -> bytes:
    """The older form around a pickle, with the same four numbers."""
    return files.legacy_of_pickle(pickle_bytes, {"0": files.Storage(np.arange(4, dtype=np.float32), "float32")})


def archives() -> Iterator[tuple[str, bytes, str]]:
    """ZIP archives that deceive."""
    good = state_dict(GOOD_TENSOR)
    plain = with_four(good)
    for name in ("../escaped", "/etc/passwd", "..", "a//b", "C:\\x", "a\x1b[2J", "./x"):
        slipped = append_entry(plain, name, b"x")
        yield f"an entry {name!r}", slipped, "plain names|one top folder"
    for name in ("../../escaped", "data/../../x"):
        yield f"an entry archive/{name}", append_entry(plain, f"archive/{name}", b"x"), "plain names"
    yield "a second folder", append_entry(plain, "other/data.pkl", b"x"), "one top folder"
    yield "an entry twice", append_entry(plain, "archive/data.pkl", b"x"), "twice"
    bomb = files.zip_of_pickle(good, {"0": bytes(1 << 22)}, compression=zipfile.ZIP_DEFLATED)
    yield "a compressed archive", bomb, "compressed"
    lying = plain.replace(struct.pack("<2I", 16, 16), struct.pack("<2I", 1 << 31, 1 << 31))
    yield "an entry of two gigabytes", lying, "overlap|does not fit"
    central = plain.index(b"PK\x01\x02")
    yield "an encrypted entry", patched(plain, central + 8, b"\x01"), "encrypted"
    yield (
        "a local header elsewhere",
        patched(plain, plain.index(b"PK\x01\x02", central + 1) + 42, b"\0\0\0\0"),
        "overlap|other",
    )
    end = plain.rindex(b"PK\x05\x06")
    yield "fewer entries than listed", patched(plain, end + 8, b"\x01\0\x01\0"), "wrong length"
    yield "no entries listed", patched(plain, end + 8, bytes(8)), "one top folder"
    yield "more entries than listed", patched(plain, end + 8, b"\x09\0\x09\0"), "ends early"
    yield "sixty thousand entries", patched(plain, end + 8, b"\xfe\xff\xfe\xff"), "at most 32768"
    yield "a list beyond the end", patched(plain, end + 16, b"\xf0\xff\xff\x7f"), "overlaps its end"
    yield "a list of four gigabytes", patched(plain, end + 12, b"\xf0\xff\xff\xff"), "at most|overlaps"
    yield "a ZIP64 end that is missing", patched(plain, end + 12, b"\xff\xff\xff\xff"), "ZIP64"
    yield "several disks", patched(plain, end + 4, b"\x01"), "several parts"
    header = plain.index(b"archive/data/0")
    yield "another name in the local header", patched(plain, header, b"archive/data/1"), "another name"
    yield "a wrong checksum", plain.replace(FOUR["0"], FOUR["0"][::-1]), "checksum"
    yield "a wrong checksum of the pickle", plain.replace(text("storage"), text("storagf")), "checksum"
    yield "a pickle of 33 MiB", with_four(b"\x80\x02" + bytes(33 << 20)), "at most"
    shared = two_names_for_one_entry(good)
    yield "two entries over the same bytes", shared, "overlap|another name"


def append_entry(data: bytes, name: str, content: bytes) -> bytes:
    file = io.BytesIO(data)
    with zipfile.ZipFile(file, "a") as archive:
        info = zipfile.ZipInfo("archive/data.pk_")
        info.filename = name  # past the checks of the constructor
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a name that is there already
            archive.writestr(info, content)
    return file.getvalue()


def patched(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def two_names_for_one_entry(pickle_bytes: bytes) -> bytes:
    data = files.zip_of_pickle(pickle_bytes, {**FOUR, "1": FOUR["0"]})
    first = data.index(b"PK\x01\x02")
    entries = [first]
    while (at := data.find(b"PK\x01\x02", entries[-1] + 1)) >= 0:
        entries.append(at)
    of = {data[at + 46 : at + 46 + struct.unpack_from("<H", data, at + 28)[0]]: at for at in entries}
    source = of[b"archive/data/0"] + 42
    return patched(data, of[b"archive/data/1"] + 42, data[source : source + 4])


def safetensors() -> Iterator[tuple[str, bytes, str]]:
    def made(header: bytes, data: bytes = bytes(8), length: int | None = None) -> bytes:
        return (len(header) if length is None else length).to_bytes(8, "little") + header + data

    entry = b'{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'
    yield "a header of a gigabyte", made(b"{}", bytes(2 << 20), length=(2 << 20) - 1), "at most"
    yield "a header beyond the file", made(b"{}", length=1 << 40), "begins with"
    yield "a header that is no JSON", made(b"{x}"), "not JSON"
    yield "a header that is nested", made(b'{"x":' * 100_000), "not JSON"
    yield "nested lists", made(b'{"x":' + b"[" * 400_000), "not JSON"
    yield "a header with a byte order mark", made(b'{"\xff": 1}'), "not JSON"
    yield "a name twice", made(b'{"x":' + entry + b',"x":' + entry + b"}"), "twice"
    yield "an unknown type", made(b'{"x":' + entry.replace(b"F32", b"F31") + b"}"), "unknown dtype"
    yield "a type that is no text", made(b'{"x":' + entry.replace(b'"F32"', b"[[]]") + b"}"), "unknown dtype"
    yield "a missing field", made(b'{"x":{"dtype":"F32","shape":[2]}}'), "expected dtype"
    yield "an entry that is no object", made(b'{"x":[]}'), "expected dtype"
    yield "a fraction", made(b'{"x":' + entry.replace(b"[2]", b"[2.5]") + b"}"), "expected integers"
    yield "not a number", made(b'{"x":' + entry.replace(b"[2]", b"[NaN]") + b"}"), "expected integers"
    yield "a huge number", made(b'{"x":' + entry.replace(b"[2]", b"[" + b"9" * 5000 + b"]") + b"}"), "no file can have"
    yield "a negative size", made(b'{"x":' + entry.replace(b"[2]", b"[-2]") + b"}"), "none negative"
    yield "a bool as a size", made(b'{"x":' + entry.replace(b"[2]", b"[true]") + b"}"), "none negative"
    yield "a shape of a terabyte", made(b'{"x":' + entry.replace(b"[2]", b"[274877906944]") + b"}"), "reaches element"
    yield "a shape that does not fit", made(b'{"x":' + entry.replace(b"[2]", b"[1]") + b"}"), "has 8 bytes, expected 4"
    yield (
        "a thousand dimensions",
        made(b'{"x":' + entry.replace(b"[2]", b"[" + b"1," * 999 + b"2]") + b"}"),
        "dimensions",
    )
    yield "offsets beyond the end", made(b'{"x":' + entry + b"}", bytes(4)), "truncated"
    yield "bytes after the end", made(b'{"x":' + entry + b"}", bytes(9)), "truncated or damaged"
    yield "overlapping tensors", made(b'{"x":' + entry + b',"y":' + entry + b"}"), "overlaps"
    yield "offsets backwards", made(b'{"x":' + entry.replace(b"[0,8]", b"[8,0]") + b"}"), "reaches|overlaps|bytes"
    yield "metadata that is no text", made(b'{"__metadata__":{"a":1},"x":' + entry + b"}"), "metadata"
    yield "no tensors", made(b"{}", b""), "found nothing"


def corpus() -> dict[str, tuple[bytes, str]]:
    """Each file with a pattern of the message that it must be refused with; an empty pattern: it may be read."""
    made: dict[str, tuple[bytes, str]] = {}
    for part in (hostile_calls, floods, tensors, archives, safetensors):
        for name, data, message in part():
            assert (part.__name__, name) not in made
            made[f"{part.__name__}: {name}"] = (data, message)
    return made
