"""Class names: those of COCO, and those that exporters write into their files."""

from __future__ import annotations

import ast
import re

COCO_80 = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow",
    "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee",
    "skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard",
    "tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple",
    "sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch",
    "potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard", "cell phone",
    "microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors", "teddy bear",
    "hair drier", "toothbrush",
)  # fmt: skip
"""The 80 classes of COCO in the order that detectors number them."""

_MAX_LITERAL_CHARS = 1 << 20
_STRING = r"(?:'(?:[^'\\\n]|\\.)*'|\"(?:[^\"\\\n]|\\.)*\")"
_ITEM = rf"(?:\d{{1,6}}|'\d{{1,6}}'|\"\d{{1,6}}\")\s*:\s*{_STRING}\s*"
_DICT = re.compile(rf"\{{\s*(?:{_ITEM},\s*)*(?:{_ITEM})?\}}")
_LIST = re.compile(rf"\[\s*(?:{_STRING}\s*,\s*)*(?:{_STRING}\s*)?\]")


def default_names(count: int) -> tuple[str, ...]:
    """Names for a head whose file has none: COCO's where the number fits, else "class0", "class1", ..."""
    return COCO_80 if count == len(COCO_80) else tuple(f"class{i}" for i in range(count))


def parse_names(literal: str) -> tuple[str, ...] | None:
    """Names from the text of a flat Python (or JSON) dict {0: 'a', 1: 'b'} or list ['a', 'b']; None for anything else.

    Only that form reaches `ast.literal_eval`: nested or huge input could exhaust the parser's stack.
    """
    if len(literal) > _MAX_LITERAL_CHARS:
        return None
    literal = literal.strip()
    if not (_DICT.fullmatch(literal) or _LIST.fullmatch(literal)):
        return None
    try:
        value = ast.literal_eval(literal)
    except (ValueError, SyntaxError):  # a string with a bad escape
        return None
    if isinstance(value, dict):
        by_id = {int(key): name for key, name in value.items()}
        if sorted(by_id) != list(range(len(value))):
            return None
        value = [by_id[i] for i in range(len(by_id))]
    return tuple(printable(name) for name in value) or None


def printable(text: str) -> str:
    """`text` with control characters replaced: names end up on terminals, where they could carry commands."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
