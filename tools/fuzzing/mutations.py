"""Changes to valid input: bytes, JSON, XML, protobuf. A generator in the same state makes the same change."""

from __future__ import annotations

import copy
import json
import random
import re
import struct
from collections.abc import Callable, Sequence
from typing import Any

from google.protobuf.message import Message

_SIDES = (0, 1, 2, 3, 4, 7, 8, 16, 31, 32, 33, 63, 64, 100, 127, 128, 129, 255, 256, 257)
_LARGE = (32767, 32768, 65535, 65536, 1 << 20, (1 << 24) + 1, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, (1 << 63) - 1)
INTEGERS = (*_SIDES, *_LARGE, *(-n for n in (*_SIDES, *_LARGE)), -(1 << 63))
"""Where off-by-one, sign and overflow faults lie."""
NUMBERS = (0.0, -0.0, 0.5, 1.0, -1.0, 1e-45, 1e-300, 3.4e38, 1e308, float("inf"), float("-inf"), float("nan"))
TEXTS = (
    "", " ", "0", "-1", "x", "images", "output0", "None", "\0", "\n", "\x1b[31m", "%s%n", "{}", "../../x",
    "/etc/passwd",
    "a" * 300, "\u00e4\u4e2d\U0001f600", "\ud800", "1e999", "9" * 5000, "{0: 'a'}", "['a']", "[64, 96]", "true",
)  # fmt: skip


def integer(rng: random.Random) -> int:
    """Mostly one of `INTEGERS`, sometimes any."""
    return rng.choice(INTEGERS) if rng.random() < 0.9 else rng.randrange(-(1 << 70), 1 << 70)


def of_bytes(data: bytes, rng: random.Random, *, others: Sequence[bytes] = (), tokens: Sequence[bytes] = ()) -> bytes:
    """The data after one to six changes: bits, bytes, numbers, blocks removed, repeated, moved, spliced, cut off."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        _change_bytes(changed, rng, others, tokens)
    return bytes(changed)


def _change_bytes(data: bytearray, rng: random.Random, others: Sequence[bytes], tokens: Sequence[bytes]) -> None:
    at = rng.randrange(len(data) + 1)
    if rng.random() < 0.4:  # formats begin with what matters
        at = min(at, rng.randrange(96))
    length = rng.choice((1, 1, 2, 3, 4, 8, 16, rng.randrange(1, 256)))
    kind = rng.randrange(10)
    if kind == 0 and at < len(data):
        data[at] ^= 1 << rng.randrange(8)
    elif kind == 1:
        data[at : at + 1] = bytes([rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))])
    elif kind in (2, 3):
        size = rng.choice((2, 4, 4, 8))
        order = rng.choice(("little", "big"))
        data[at : at + size] = (integer(rng) % (1 << 8 * size)).to_bytes(size, order)
    elif kind == 4:
        del data[at : at + length]
    elif kind == 5:
        data[at:at] = data[at : at + length] * rng.choice((1, 2, rng.randrange(1, 64)))
    elif kind == 6:
        data[at:at] = rng.randbytes(length)
    elif kind == 7 and others:
        other = rng.choice(others)
        start = rng.randrange(len(other) + 1)
        data[at : at + rng.choice((0, length))] = other[start : start + rng.choice((length, len(other)))]
    elif kind == 8 and tokens:
        token = rng.choice(tokens)
        data[at : at + rng.choice((0, len(token)))] = token
    elif kind == 9:
        del data[at:]
    else:
        data[at : at + length] = rng.randbytes(length)


# --- JSON -----------------------------------------------------------------------------------------------------------


def of_json(document: Any, rng: random.Random) -> Any:
    """A copy of the document after one to four changes of values, keys and structure."""
    changed = [copy.deepcopy(document)]
    for _ in range(rng.choice((1, 1, 2, 4))):
        parent, key = _place(changed, rng)
        _change_json(parent, key, rng)
    return changed[0]


def json_text(document: Any, rng: random.Random) -> bytes:
    """The document as text; now and then damaged as text."""
    text = json.dumps(document).encode()
    return of_bytes(text, rng) if rng.random() < 0.1 else text


def json_value(rng: random.Random) -> Any:
    """A value that somebody might not have thought of."""
    deep: Any = []
    for _ in range(rng.choice((3, 3, 200))):
        deep = [deep] if rng.random() < 0.5 else {"a": deep}
    return rng.choice(
        (None, True, False, integer(rng), integer(rng), rng.choice(NUMBERS), rng.choice(TEXTS), [], {}, deep, 10**400)
    )


def _place(root: list[Any], rng: random.Random) -> tuple[Any, Any]:
    """A random container of the document and a key of it; deep ones are as likely as shallow ones."""
    parent: Any = root
    key: Any = 0
    while isinstance(parent[key], list | dict) and parent[key] and rng.random() < 0.8:
        parent = parent[key]
        key = rng.choice(list(parent)) if isinstance(parent, dict) else rng.randrange(len(parent))
    return parent, key


def _change_json(parent: Any, key: Any, rng: random.Random) -> None:
    kind = rng.randrange(7)
    if kind == 0 and len(parent) > 1:
        del parent[key]
    elif kind == 1 and isinstance(parent, dict):
        parent[rng.choice((*TEXTS, *parent))] = parent.pop(key)
    elif kind == 2 and isinstance(parent, list):
        parent.insert(key, copy.deepcopy(parent[key]))
    elif kind == 3:
        other = rng.choice(list(parent)) if isinstance(parent, dict) else rng.randrange(len(parent))
        parent[key], parent[other] = parent[other], parent[key]
    elif kind == 4 and isinstance(parent[key], int) and not isinstance(parent[key], bool):
        parent[key] += rng.choice((-1, 1))
    elif kind == 5:
        parent[key] = [parent[key]]
    else:
        parent[key] = json_value(rng)


# --- XML ------------------------------------------------------------------------------------------------------------


class XmlText:
    """An XML document and where its attributes, texts and elements lie, so that a change costs no parsing."""

    _ATTRIBUTE = re.compile(r'[\w-]+="([^"]*)"')
    _TEXT = re.compile(r">([^<>]+)<")
    _ELEMENT = re.compile(r"<(\w+)[^<>]*/>|<(\w+)(?: [^<>]*)?>(?:(?!<\2[ >]).)*?</\2>", re.DOTALL)

    def __init__(self, text: str) -> None:
        """Without its indentation."""
        self.text = re.sub(r">\s+<", "><", text)
        self._values = [found.span(1) for found in self._ATTRIBUTE.finditer(self.text)]
        self._values += [found.span(1) for found in self._TEXT.finditer(self.text)]
        self._elements = [found.span() for found in self._ELEMENT.finditer(self.text)]
        at = self.text.find("<layer")
        while at >= 0 and (end := self.text.find("</layer>", at)) >= 0:
            self._elements.append((at, end + 8))
            at = self.text.find("<layer ", end)

    def changed(self, rng: random.Random) -> str:
        """The document after one to four changes of attributes, texts and elements."""
        edits = []
        for _ in range(rng.choice((1, 1, 2, 4))):
            if rng.random() < 0.7:
                start, end = rng.choice(self._values)
                other = self.text[slice(*rng.choice(self._values))]
                old = self.text[start:end]
                near = str(int(old) + rng.choice((-1, 1))) if re.fullmatch(r"\d{1,9}", old) else old + "x"
                edits.append((start, end, rng.choice((str(integer(rng)), _xml_text(rng), other, near))))
            else:
                start, end = rng.choice(self._elements)
                other = self.text[slice(*rng.choice(self._elements))]
                edits.append(
                    (start, end, rng.choice(("", self.text[start:end] * 2, other, self.text[start:end] + other)))
                )
        text = self.text
        for start, end, new in sorted(edits, reverse=True):
            text = text[:start] + new + text[end:]
        return text


def _xml_text(rng: random.Random) -> str:
    return "".join(c for c in rng.choice(TEXTS) if c.isprintable() and c not in '<>&"')


# --- protobuf -------------------------------------------------------------------------------------------------------


def of_message(message: Message, rng: random.Random) -> Message:
    """A copy of the message after one to four changes of fields, wherever they are nested."""
    changed = copy.deepcopy(message)
    for _ in range(rng.choice((1, 1, 2, 4))):
        messages = _nested(changed, rng)
        _change_message(rng.choice(messages), rng, messages)
    return changed


def _nested(message: Message, rng: random.Random) -> list[Message]:
    """The messages on a few random walks down from this one."""
    found = [message]
    for _ in range(4):
        at = message
        while True:
            inner = [value for field, value in at.ListFields() if field.message_type is not None]
            inner = [item for value in inner for item in ([value] if isinstance(value, Message) else list(value))]
            if not inner or rng.random() < 0.1:
                break
            at = rng.choice(inner)
            found.append(at)
    return found


def _change_message(message: Message, rng: random.Random, others: Sequence[Message]) -> None:
    fields = [field for field, _ in message.ListFields()]
    every = list(message.DESCRIPTOR.fields)
    field = rng.choice(fields if fields and rng.random() < 0.8 else every)
    value = getattr(message, field.name)
    is_repeated = not isinstance(value, Message) and hasattr(value, "append" if field.message_type is None else "add")
    if is_repeated:
        _change_repeated(value, field, rng)
    elif field.message_type is not None:
        same = [other for other in others if other.DESCRIPTOR is field.message_type]
        if same and rng.random() < 0.3:
            value.ParseFromString(rng.choice(same).SerializeToString())  # the other may hold this one
        else:
            message.ClearField(field.name)
    elif rng.random() < 0.15:
        message.ClearField(field.name)
    else:
        setattr(message, field.name, _scalar(field, value, rng))


def _change_repeated(values: Any, field: Any, rng: random.Random) -> None:
    kind = rng.randrange(5)
    at = rng.randrange(len(values)) if values else 0
    if field.message_type is not None:
        if kind <= 1 and values:
            del values[at]
        elif kind == 2 and values:
            values.add().ParseFromString(values[at].SerializeToString())
        elif kind == 3 and len(values) > 1:
            other = values[rng.randrange(len(values))].SerializeToString()
            values[at].ParseFromString(other)
        else:
            values.add()
    elif kind == 0 and values:
        del values[at]
    elif kind == 1 and values:
        values.append(values[at])
    elif kind == 2 or not values:
        values.append(_scalar(field, None, rng))
    else:
        values[at] = _scalar(field, values[at], rng)


def _scalar(field: Any, value: Any, rng: random.Random) -> Any:
    """A value of the field's type, near the old one or far from everything."""
    of_type = field.cpp_type
    if of_type == field.CPPTYPE_STRING:
        if field.type == field.TYPE_BYTES:
            return of_bytes(value or b"", rng)
        return rng.choice([text for text in TEXTS if text != "\ud800"] if value is None else _texts_near(value, rng))
    if of_type in (field.CPPTYPE_FLOAT, field.CPPTYPE_DOUBLE):
        return rng.choice(NUMBERS)
    if of_type == field.CPPTYPE_BOOL:
        return rng.random() < 0.5
    if of_type == field.CPPTYPE_ENUM:
        return rng.choice(list(field.enum_type.values_by_number))
    bits = 32 if of_type in (field.CPPTYPE_INT32, field.CPPTYPE_UINT32) else 64
    number = integer(rng) if value is None or rng.random() < 0.7 else value + rng.choice((-1, 1))
    unsigned = of_type in (field.CPPTYPE_UINT32, field.CPPTYPE_UINT64)
    return number % (1 << bits) if unsigned else (number + (1 << bits - 1)) % (1 << bits) - (1 << bits - 1)


def _texts_near(value: str, rng: random.Random) -> list[str]:
    usual = ("Conv", "Add", "Mul", "Reshape", "Transpose", "Sigmoid", "Concat", "Slice", "Cast", "EfficientNMS_TRT")
    return [
        value[: rng.randrange(len(value) + 1)],
        value + "x",
        rng.choice(usual),
        "",
        "images",
        "\0",
        "../x",
        "9" * 99,
    ]


# --- several parts in one case ----------------------------------------------------------------------------------------


def pack(*parts: bytes) -> bytes:
    """Parts in one case, so that a case is bytes whatever the door; `unpack` takes them apart."""
    return b"".join(struct.pack("<I", len(part)) + part for part in parts)


def unpack(case: bytes, count: int) -> list[bytes]:
    """The parts of a case; what is cut off is empty."""
    parts = []
    for _ in range(count):
        length = int.from_bytes(case[:4], "little")
        parts.append(case[4 : 4 + length])
        case = case[4 + length :]
    return parts


def change_part(parts: Sequence[bytes], rng: random.Random, changes: Sequence[Callable[[bytes], bytes]]) -> bytes:
    """The parts packed, one of them (rarely all) changed by its function."""
    which = rng.randrange(len(parts))
    everything = rng.random() < 0.1
    return pack(
        *(
            change(part) if everything or i == which else part
            for i, (part, change) in enumerate(zip(parts, changes, strict=True))
        )
    )
