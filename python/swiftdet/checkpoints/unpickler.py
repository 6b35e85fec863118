"""A pickle machine that builds data and nothing else.

The opcode decides what a name in the pickle may do:

- `GLOBAL`, `STACK_GLOBAL`: any name; it becomes a `Global`, which is text.
- `NEWOBJ`, `NEWOBJ_EX`, `BUILD`: any class; the object becomes a `Record`.
- `REDUCE`, `INST`, `OBJ` call what is named. The machine calls nothing: it hands the name and the arguments to a
  function of ours (`call`), which knows a short list of names and refuses all others.
- `PERSID`, `BINPERSID` go to another function of ours (`persistent`). Extension codes and out-of-band buffers are
  refused.

Every byte that an object may take is charged to a `Budget` before or as it is made, so a small file cannot become a
large heap, and the number of steps is bounded with it. Nothing here recurses.

The opcodes are those of protocols 0 to 5 as the standard library's `pickletools` documents them.
"""

from __future__ import annotations

import re
import struct
import sys
from collections.abc import Callable
from typing import BinaryIO, ClassVar

from swiftdet.checkpoints.records import Global, OddKey, Record, kind_of
from swiftdet.errors import ModelError

Call = Callable[[Global, tuple[object, ...]], object]
Persistent = Callable[[object], object]

_MAX_TEXT_BYTES = 1 << 20  # the longest text in a training checkpoint is its log, some tens of kilobytes
_MAX_NAME_BYTES = 512
_MAX_NUMBER_CHARS = 64
_MAX_INTEGER_BYTES = 255
_MAX_KEY = 1 << 60  # integers below are their own hash

# Upper bounds of what CPython takes on a 64-bit machine, resizing included.
_STEP_COST = 24
_MEMO_COST = 160
_RECORD_COST = 192
_NAME_COST = 256
_ENTRY_COST = 160
_ITEM_COST = 24

_PYTHON_2_MODULES = {"__builtin__": "builtins", "copy_reg": "copyreg"}
_INTEGER = re.compile(rb"[+-]?\d+L?")
_INDEX = re.compile(rb"\d+")
_FLOAT = re.compile(rb"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[+-]?(?:inf|nan)")
_ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{2}|.)", re.DOTALL)
_ESCAPED = {b"n": b"\n", b"r": b"\r", b"t": b"\t"}
_STOP = ord(".")


class Budget:
    """Bytes that the objects of one file may take."""

    __slots__ = ("_left", "_total")

    def __init__(self, total: int) -> None:
        self._total = self._left = total

    def charge(self, size: int) -> None:
        """Takes `size` bytes.

        Raises:
            ModelError: nothing is left.
        """
        self._left -= size
        if self._left < 0:
            raise ModelError(
                f"its pickle describes more than {self._total >> 20} MiB of objects besides the tensors, far more than "
                "a detector's checkpoint has; save the state dict alone"
            )


class Unpickler:
    """Reads one pickle from `stream`, which is left after the pickle's last byte.

    Args:
        stream: where the pickle starts; `end` bytes into the stream nothing more is read.
        end: offset in the stream that bounds the pickle.
        call: makes the value of `REDUCE`, `INST` and `OBJ`; raises ModelError for a name that it does not know.
        persistent: makes the value of a persistent id.
        budget: shared by the pickles of one file.
    """

    def __init__(self, stream: BinaryIO, end: int, *, call: Call, persistent: Persistent, budget: Budget) -> None:
        self._read = stream.read
        self._start = stream.tell()
        self._left = end - self._start
        self._end = end
        self._call = call
        self._persistent = persistent
        self._charge = budget.charge
        self._stack: list[object] = []
        self._marks: list[int] = []
        self._memo: dict[int, object] = {}
        self._code = 0

    def load(self) -> object:
        """The value of the pickle.

        None, bool, int, float, str, bytes, list (sets too), tuple, dict, `Global`, `Record`, or what `call` and
        `persistent` made. It may be recursive, and the same object may lie in it many times.

        Raises:
            ModelError: the pickle is damaged, calls what it may not, or is too large.
        """
        try:
            while True:
                self._charge(_STEP_COST)
                self._code = self._bytes(1)[0]
                if self._code == _STOP:
                    return self._pop()
                self._STEPS.get(self._code, Unpickler._refuse)(self)
        except ModelError as e:
            raise ModelError(f"{e} (pickle at byte {self._start}, offset {self._offset()})") from e

    # --- Reading ------------------------------------------------------------------------------------------------

    def _offset(self) -> int:
        return self._end - self._left - self._start

    def _bytes(self, count: int) -> bytes:
        self._left -= count
        if self._left < 0:
            raise ModelError("the pickle ends in the middle: the file is truncated or damaged")
        data = self._read(count)
        if len(data) != count:
            raise ModelError("the pickle ends in the middle: the file is truncated or damaged")
        return data

    def _unsigned(self, size: int) -> int:
        return int.from_bytes(self._bytes(size), "little")

    def _line(self, limit: int) -> bytes:
        data = bytearray()
        while (byte := self._bytes(1)) != b"\n":
            if len(data) == limit:
                raise ModelError(f"a line of more than {limit} bytes")
            data += byte
        return bytes(data)

    def _sized(self, length_bytes: int) -> bytes:
        """Data behind its length; never more than the file has, nor than any checkpoint needs."""
        size = self._unsigned(length_bytes)
        if size > _MAX_TEXT_BYTES:
            raise ModelError(f"a text of {size} bytes; at most {_MAX_TEXT_BYTES} are read")
        return self._bytes(size)

    def _number(self, pattern: re.Pattern[bytes]) -> bytes:
        line = self._line(_MAX_NUMBER_CHARS)
        if not pattern.fullmatch(line):
            raise ModelError(f"expected a number, got {line!r}")
        return line

    # --- The stack ----------------------------------------------------------------------------------------------

    def _fence(self) -> int:
        return self._marks[-1] if self._marks else 0

    def _push(self, value: object) -> None:
        self._stack.append(value)

    def _push_sized(self, value: object) -> None:
        self._charge(sys.getsizeof(value))
        self._stack.append(value)

    def _pop(self) -> object:
        if len(self._stack) <= self._fence():
            raise ModelError("the pickle takes a value from an empty stack: the file is damaged")
        return self._stack.pop()

    def _top(self) -> object:
        if len(self._stack) <= self._fence():
            raise ModelError("the pickle uses a value of an empty stack: the file is damaged")
        return self._stack[-1]

    def _pop_to_mark(self) -> list[object]:
        if not self._marks:
            raise ModelError("the pickle ends a group that it never began: the file is damaged")
        mark = self._marks.pop()
        values = self._stack[mark:]
        del self._stack[mark:]
        return values

    # --- Opcodes: constants, containers, memo ---------------------------------------------------------------------

    def _proto(self) -> None:
        version = self._bytes(1)[0]
        if version > 5:
            raise ModelError(f"pickle protocol {version}; at most 5 is read")

    def _frame(self) -> None:
        if self._unsigned(8) > self._left:
            raise ModelError("a frame beyond the end of the pickle: the file is truncated or damaged")

    def _mark(self) -> None:
        self._charge(_ITEM_COST + 32)
        self._marks.append(len(self._stack))

    def _pop_or_mark(self) -> None:
        if self._marks and len(self._stack) == self._marks[-1]:
            self._marks.pop()
        else:
            self._pop()

    def _text_integer(self) -> None:
        line = self._number(_INTEGER)
        if line in {b"00", b"01"}:
            self._push(line == b"01")
        else:
            self._push_sized(int(line.rstrip(b"L")))

    def _long(self, length_bytes: int) -> None:
        size = self._unsigned(length_bytes)
        if size > _MAX_INTEGER_BYTES:
            raise ModelError(f"an integer of {size} bytes; at most {_MAX_INTEGER_BYTES} are read")
        self._push_sized(int.from_bytes(self._bytes(size), "little", signed=True))

    def _quoted_string(self) -> None:
        line = self._line(_MAX_TEXT_BYTES).strip()
        if len(line) < 2 or line[:1] not in {b"'", b'"'} or line[-1:] != line[:1]:
            raise ModelError("a string without its quotes: the file is damaged")
        self._push_sized(_ESCAPE.sub(_unescape, line[1:-1]).decode("latin-1"))

    def _text(self, data: bytes, encoding: str) -> str:
        try:
            return data.decode(encoding)
        except UnicodeDecodeError as e:
            raise ModelError(f"text that is not {encoding}: the file is damaged ({e.reason})") from e

    def _tuple(self, values: list[object]) -> None:
        self._push_sized(tuple(values))

    def _short_tuple(self, size: int) -> None:
        values = [self._pop() for _ in range(size)]
        self._tuple(values[::-1])

    def _new_list(self, values: list[object]) -> None:
        self._charge(72 + _ITEM_COST * len(values))
        self._push(values)

    def _new_dict(self, values: list[object]) -> None:
        self._charge(80)
        entries: dict[object, object] = {}
        self._set_entries(entries, values)
        self._push(entries)

    def _append(self, values: list[object]) -> None:
        target = self._top()
        if isinstance(target, list):
            self._charge(_ITEM_COST * len(values))
            target.extend(values)
        elif not isinstance(target, Record):  # what a list-like class holds is of no use here
            raise ModelError(f"items appended to {kind_of(target)}: the file is damaged")

    def _set_items(self, values: list[object]) -> None:
        target = self._top()
        if isinstance(target, Record):
            self._set_entries(target.items, values)
        elif isinstance(target, dict):
            self._set_entries(target, values)
        else:
            raise ModelError(f"entries set in {kind_of(target)}: the file is damaged")

    def _set_entries(self, entries: dict[object, object], values: list[object]) -> None:
        if len(values) % 2:
            raise ModelError("a key without its value: the file is damaged")
        self._charge(_ENTRY_COST * (len(values) // 2))
        for key, value in zip(values[::2], values[1::2], strict=True):
            entries[_safe_key(key)] = value

    def _put(self, index: int) -> None:
        self._charge(_MEMO_COST)
        self._memo[index] = self._top()

    def _get(self, index: int) -> None:
        if index not in self._memo:
            raise ModelError(f"memo entry {index} is used before it is set: the file is damaged")
        self._push(self._memo[index])

    # --- Opcodes: names and objects ---------------------------------------------------------------------------------

    def _global(self, module: object, name: object) -> Global:
        if not isinstance(module, str) or not isinstance(name, str):
            raise ModelError("a class name that is not text: the file is damaged")
        if len(module) > _MAX_NAME_BYTES or len(name) > _MAX_NAME_BYTES:
            raise ModelError(f"a class name of more than {_MAX_NAME_BYTES} characters")
        self._charge(_NAME_COST)
        return Global(_PYTHON_2_MODULES.get(module, module), name)

    def _line_global(self) -> Global:
        module, name = self._line(_MAX_NAME_BYTES), self._line(_MAX_NAME_BYTES)
        self._charge(4 * (len(module) + len(name)))
        return self._global(self._text(module, "utf-8"), self._text(name, "utf-8"))

    def _stack_global(self) -> None:
        name, module = self._pop(), self._pop()
        self._push(self._global(module, name))

    def _named(self, value: object, doing: str) -> Global:
        if not isinstance(value, Global):
            raise ModelError(f"the pickle {doing} {kind_of(value)}, which no checkpoint needs; nothing was executed")
        return value

    def _reduce(self) -> None:
        arguments, function = self._pop(), self._pop()
        self._push_called(self._named(function, "calls"), arguments)

    def _inst(self) -> None:
        function = self._line_global()
        self._push_called(function, tuple(self._pop_to_mark()))

    def _obj(self) -> None:
        values = self._pop_to_mark()
        if not values:
            raise ModelError("an object without its class: the file is damaged")
        self._push_called(self._named(values[0], "calls"), tuple(values[1:]))

    def _push_called(self, function: Global, arguments: object) -> None:
        if not isinstance(arguments, tuple):
            raise ModelError(f"{function} is called with {kind_of(arguments)}, expected a tuple: the file is damaged")
        lengths = sum(len(a) for a in arguments if isinstance(a, list | tuple | str))
        self._charge(_RECORD_COST + _ITEM_COST * lengths)
        self._push_sized(self._call(function, arguments))

    def _new_object(self, operands: int) -> None:
        values = [self._pop() for _ in range(operands)]
        self._charge(_RECORD_COST)
        self._push(Record(self._named(values[-1], "makes an object of")))

    def _build(self) -> None:
        state, target = self._pop(), self._top()
        if isinstance(target, Record):
            target.state = state
        elif isinstance(target, list | tuple | str | bytes | int | float | Global | None):
            raise ModelError(f"attributes set on {kind_of(target)}: the file is damaged")
        # Attributes of dicts (`_metadata` of a state dict) and of tensors are of no use here.

    def _persistent_id(self, value: object) -> None:
        self._charge(_RECORD_COST)
        self._push(self._persistent(value))

    def _refuse(self) -> None:
        """Unknown opcodes, extension codes (registered elsewhere) and buffers (held elsewhere)."""
        raise ModelError(f"opcode 0x{self._code:02x}, which no checkpoint has: made to deceive, or damaged")

    # Each opcode's step. Sets become lists; Python 2's byte strings are read as Latin-1.
    _STEPS: ClassVar[dict[int, Callable[[Unpickler], None]]] = {
        0x80: _proto,
        0x95: _frame,
        ord("("): _mark,
        ord("0"): _pop_or_mark,
        ord("1"): lambda self: self._pop_to_mark().clear(),
        ord("2"): lambda self: self._push(self._top()),
        # Constants
        ord("N"): lambda self: self._push(None),
        0x88: lambda self: self._push(True),
        0x89: lambda self: self._push(False),
        ord("I"): _text_integer,
        ord("L"): _text_integer,
        ord("J"): lambda self: self._push_sized(int.from_bytes(self._bytes(4), "little", signed=True)),
        ord("K"): lambda self: self._push(self._bytes(1)[0]),
        ord("M"): lambda self: self._push_sized(self._unsigned(2)),
        0x8A: lambda self: self._long(1),
        0x8B: lambda self: self._long(4),
        ord("F"): lambda self: self._push_sized(float(self._number(_FLOAT))),
        ord("G"): lambda self: self._push_sized(struct.unpack(">d", self._bytes(8))[0]),
        # Text and bytes
        ord("S"): _quoted_string,
        ord("T"): lambda self: self._push_sized(self._sized(4).decode("latin-1")),
        ord("U"): lambda self: self._push_sized(self._sized(1).decode("latin-1")),
        ord("V"): lambda self: self._push_sized(self._text(self._line(_MAX_TEXT_BYTES), "raw-unicode-escape")),
        ord("X"): lambda self: self._push_sized(self._text(self._sized(4), "utf-8")),
        0x8C: lambda self: self._push_sized(self._text(self._sized(1), "utf-8")),
        0x8D: lambda self: self._push_sized(self._text(self._sized(8), "utf-8")),
        ord("B"): lambda self: self._push_sized(self._sized(4)),
        ord("C"): lambda self: self._push_sized(self._sized(1)),
        0x8E: lambda self: self._push_sized(self._sized(8)),
        0x96: lambda self: self._push_sized(self._sized(8)),
        # Containers
        ord(")"): lambda self: self._push(()),
        ord("t"): lambda self: self._tuple(self._pop_to_mark()),
        0x85: lambda self: self._short_tuple(1),
        0x86: lambda self: self._short_tuple(2),
        0x87: lambda self: self._short_tuple(3),
        ord("]"): lambda self: self._new_list([]),
        ord("l"): lambda self: self._new_list(self._pop_to_mark()),
        ord("a"): lambda self: self._append([self._pop()]),
        ord("e"): lambda self: self._append(self._pop_to_mark()),
        0x8F: lambda self: self._new_list([]),
        0x90: lambda self: self._append(self._pop_to_mark()),
        0x91: lambda self: self._new_list(self._pop_to_mark()),
        ord("}"): lambda self: self._new_dict([]),
        ord("d"): lambda self: self._new_dict(self._pop_to_mark()),
        ord("s"): lambda self: self._set_items([self._pop(), self._pop()][::-1]),
        ord("u"): lambda self: self._set_items(self._pop_to_mark()),
        # Memo
        ord("p"): lambda self: self._put(int(self._number(_INDEX))),
        ord("q"): lambda self: self._put(self._unsigned(1)),
        ord("r"): lambda self: self._put(self._unsigned(4)),
        0x94: lambda self: self._put(len(self._memo)),
        ord("g"): lambda self: self._get(int(self._number(_INDEX))),
        ord("h"): lambda self: self._get(self._unsigned(1)),
        ord("j"): lambda self: self._get(self._unsigned(4)),
        # Names and objects
        ord("c"): lambda self: self._push(self._line_global()),
        0x93: _stack_global,
        ord("R"): _reduce,
        ord("i"): _inst,
        ord("o"): _obj,
        0x81: lambda self: self._new_object(2),
        0x92: lambda self: self._new_object(3),
        ord("b"): _build,
        ord("P"): lambda self: self._persistent_id(self._text(self._line(_MAX_NAME_BYTES), "utf-8")),
        ord("Q"): lambda self: self._persistent_id(self._pop()),
    }


def _safe_key(key: object) -> object:
    if isinstance(key, int):
        return key if -_MAX_KEY < key < _MAX_KEY else OddKey()
    return key if key is None or isinstance(key, str) else OddKey()


def _unescape(match: re.Match[bytes]) -> bytes:
    code = match.group(1)
    return bytes([int(code[1:], 16)]) if len(code) == 3 else _ESCAPED.get(code, code)
