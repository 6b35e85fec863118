"""Bytes that the CUDA kernels must move, and those that they do move by their access patterns. Needs no GPU.

The patterns are described in the comments at the head of cpp/src/ops/*_cuda.cu; tile and chunk sizes are read from
there. Counted are whole sectors of memory, the unit in which a GPU fetches.

Usage: python tools/kernel_bytes.py
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import NamedTuple

OPS = Path(__file__).resolve().parents[1] / "cpp/src/ops"
SECTOR = 32
FLOAT = 4


class Traffic(NamedTuple):
    """Bytes of one kernel, or of the kernels of one stage."""

    kernel: str
    case: str
    must: float
    moves: float


def constant(source: str, name: str) -> int:
    """An integer that a kernel's source defines."""
    found = re.search(rf"^constexpr int {name} = (\d+);", (OPS / source).read_text(), re.MULTILINE)
    if found is None:
        raise SystemExit(f"{source} no longer defines {name}")
    return int(found[1])


def letterbox(width: int, height: int, side: int) -> Traffic:
    """A BGR image into float32 planes of `side` x `side`, by an odd factor: each result row needs one source row."""
    factor = width / side
    if factor != int(factor) or factor % 2 == 0:
        raise ValueError(f"expected a width of an odd multiple of {side}, got {width}")
    written = 3 * FLOAT * side * side
    row = 3 * width
    read = height / factor * row
    tiles = side // (constant("letterbox_cuda.cu", "kThreadsX") * constant("letterbox_cuda.cu", "kPixelsPerThread"))
    # Both blocks at an edge read up to two sectors that the other reads too.
    at_edges = (tiles - 1) * 2 * SECTOR / row
    case = f"{width}x{height} BGR to {side}x{side} float32"
    return Traffic("letterbox", case, written + read, written + read * (1 + at_edges))


def decode(classes: int, predictions: int, candidates: int) -> Traffic:
    """Columns of scores, read once; keys written and read twice; a sector for each value of a box; the candidates."""
    scores = FLOAT * classes * predictions
    key, box, candidate = 8, 4 * SECTOR, 28
    case = f"`[{classes + 4}, {predictions}]` float32, {candidates} candidates"
    return Traffic("decode", case, scores, scores + candidates * (3 * key + box + candidate))


def nms(candidates: int, places: int) -> Traffic:
    """Each candidate once and each survivor packed; its box through a scratch, which every later chunk reads again."""
    survivors = min(candidates, places)
    must = 20 * candidates + 28 * survivors
    chunks = math.ceil(candidates / constant("nms_cuda.cu", "kChunk"))
    scratch = (16 + 16 + 20 * (chunks - 1)) * survivors
    case = f"{candidates} candidates, {places} places in the result; the scratch included, which stays in caches"
    return Traffic("NMS", case, must, must + scratch)


def table() -> list[str]:
    """Markdown."""
    lines = ["| kernel | case | must move | moves, computed |", "| --- | --- | ---: | ---: |"]
    for traffic in (letterbox(1920, 1080, 640), decode(80, 8400, 300), nms(300, 300)):
        amount = f"{traffic.must / 1e6:.2f} MB" if traffic.must >= 1e5 else f"{traffic.must / 1e3:.1f} KB"
        lines.append(f"| {traffic.kernel} | {traffic.case} | {amount} | {traffic.moves / traffic.must:.2f} times |")
    return lines


if __name__ == "__main__":
    print(*table(), sep="\n")
