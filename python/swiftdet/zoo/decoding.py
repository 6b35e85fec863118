"""Heads decoded inside the graph, for runtimes without a decoder of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from swiftdet.recognition.anchor_maps import Anchors
    from swiftdet.zoo.onnx_graph import Graph

Size = tuple[int, int]


class CellGrids:
    """For each level, the column and row of every cell, row by row: float32 [1, 2, h * w] in cells.

    Constants where the image's size is fixed, else computed from the maps' own.
    """

    def __init__(self, graph: Graph, size: Size | None) -> None:
        self._graph = graph
        self._size = size

    def of(self, level_map: str, stride: int) -> str:
        """The grid of a level, whose map [N, C, h, w] is given."""
        if self._size is None:
            return self._computed(level_map)
        rows, columns = self._size[0] // stride, self._size[1] // stride
        y, x = np.mgrid[:rows, :columns]
        return self._graph.constant(f"{level_map}.grid", np.stack([x, y]).reshape(1, 2, -1))

    def _computed(self, level_map: str) -> str:
        graph, name = self._graph, f"{level_map}/grid"
        rows = graph.node("Shape", [level_map], f"{name}/h", start=2, end=3)
        columns = graph.node("Shape", [level_map], f"{name}/w", start=3, end=4)
        y = graph.node("Unsqueeze", [self._range(rows), self._axes(1)], f"{name}/y")
        x = graph.node("Unsqueeze", [self._range(columns), self._axes(0)], f"{name}/x")
        size = graph.node("Concat", [rows, columns], f"{name}/size", axis=0)
        full = [graph.node("Expand", [axis, size], f"{axis}/full") for axis in (x, y)]
        pair = [graph.node("Unsqueeze", [axis, self._axes(0)], f"{axis}/plane") for axis in full]
        stacked = graph.node("Concat", pair, f"{name}/stacked", axis=0)
        return graph.node("Reshape", [stacked, graph.constant("grid.shape", [1, 2, -1], np.int64)], name)

    def _range(self, length: str) -> str:
        """0, 1, ... as float32 [length]; `length` is int64 [1]."""
        graph = self._graph
        zero, one = graph.constant("zero", 0, np.int64), graph.constant("one", 1, np.int64)
        scalar = graph.node("Squeeze", [length, self._axes(0)], f"{length}/scalar")
        return graph.node("Cast", [graph.node("Range", [zero, scalar, one], f"{length}/range")], f"{length}/f32", to=1)

    def _axes(self, axis: int) -> str:
        return self._graph.constant(f"axis.{axis}", [axis], np.int64)


def anchor_rows(
    graph: Graph,
    maps: Sequence[str],
    *,
    strides: Sequence[int],
    anchors: Anchors,
    num_classes: int,
    size: Size | None,
    output: str,
) -> None:
    """YOLOv7: maps [N, A * (5 + C), h, w] of logits to `output` [N, P, 5 + C].

    A row is cx cy w h in px of the input, objectness, classes (not multiplied); rows are ordered by level, then anchor,
    then row and column of the cell, as the official `--grid` export has them.
    """
    grids = CellGrids(graph, size)
    per_cell, width = len(anchors) // len(maps), 5 + num_classes
    shape = graph.constant("rows.by_anchor", [0, per_cell, width, -1], np.int64)
    parts = graph.constant("rows.parts", [2, 2, 1 + num_classes], np.int64)
    flat = graph.constant("rows.flat", [0, -1, width], np.int64)
    two, half, square = (graph.constant(f"rows.{v:g}", v) for v in (2.0, 0.5, 4.0))
    levels = []
    for level, (raw, stride) in enumerate(zip(maps, strides, strict=True)):
        sigmoid = graph.node("Sigmoid", [raw], f"{raw}/sigmoid")
        by_anchor = graph.node("Reshape", [sigmoid, shape], f"{raw}/by_anchor")  # N, A, 5 + C, h * w
        xy, wh, scores = graph.nodes(
            "Split", [by_anchor, parts], [f"{raw}/{part}" for part in ("xy", "wh", "scores")], axis=2
        )
        offset = graph.node("Sub", [graph.node("Mul", [xy, two], f"{raw}/xy2"), half], f"{raw}/offset")
        cell = graph.node("Add", [offset, grids.of(raw, stride)], f"{raw}/cell")
        centre = graph.node("Mul", [cell, graph.constant(f"{raw}.stride", stride)], f"{raw}/centre")
        ratio = graph.node("Mul", [graph.node("Mul", [wh, wh], f"{raw}/wh2"), square], f"{raw}/ratio")
        anchor = np.reshape(anchors[level * per_cell : (level + 1) * per_cell], (1, per_cell, 2, 1))
        sides = graph.node("Mul", [ratio, graph.constant(f"{raw}.anchors", anchor)], f"{raw}/sides")
        row = graph.node("Concat", [centre, sides, scores], f"{raw}/columns", axis=2)
        rows = graph.node("Transpose", [row], f"{raw}/by_cell", perm=[0, 1, 3, 2])
        levels.append(graph.node("Reshape", [rows, flat], f"{raw}/rows"))
    graph.node("Concat", levels, output, axis=1)


def scores_and_boxes(
    graph: Graph,
    class_maps: Sequence[str],
    distribution_maps: Sequence[str],
    *,
    strides: Sequence[int],
    reg_max: int,
    size: Size | None,
    outputs: tuple[str, str],
) -> None:
    """DAMO-YOLO: [N, C, h, w] and [N, 4 * (reg_max + 1), h, w] to scores [N, P, C] and boxes [N, P, 4] x1 y1 x2 y2 px.

    The side of a box is the expectation of its distribution; cells are points without a half-pixel offset.
    """
    grids = CellGrids(graph, size)
    flat = graph.constant("maps.flat", [0, 0, -1], np.int64)
    by_side = graph.constant("maps.by_side", [0, 4, reg_max + 1, -1], np.int64)
    bins = graph.constant("bins", np.arange(reg_max + 1).reshape(1, 1, -1, 1))
    halves = graph.constant("halves", [2, 2], np.int64)
    axis = graph.constant("axis.2", [2], np.int64)
    scores, boxes = [], []
    for cls, reg, stride in zip(class_maps, distribution_maps, strides, strict=True):
        scores.append(graph.node("Reshape", [cls, flat], f"{cls}/flat"))
        logits = graph.node("Reshape", [reg, by_side], f"{reg}/by_side")  # N, 4, bins, h * w
        probability = graph.node("Softmax", [logits], f"{reg}/softmax", axis=2)
        weighted = graph.node("Mul", [probability, bins], f"{reg}/weighted")
        sides = graph.node("ReduceSum", [weighted, axis], f"{reg}/sides", keepdims=0)  # N, 4, h * w in cells
        before, after = graph.nodes("Split", [sides, halves], [f"{reg}/before", f"{reg}/after"], axis=1)
        cell = grids.of(reg, stride)
        corners = [graph.node("Sub", [cell, before], f"{reg}/top_left")]
        corners += [graph.node("Add", [cell, after], f"{reg}/bottom_right")]
        box = graph.node("Concat", corners, f"{reg}/cells", axis=1)
        boxes.append(graph.node("Mul", [box, graph.constant(f"{reg}.stride", stride)], f"{reg}/px"))
    logit = graph.node("Concat", scores, f"{outputs[0]}/logits", axis=2)
    score = graph.node("Sigmoid", [logit], f"{outputs[0]}/by_class")
    graph.node("Transpose", [score], outputs[0], perm=[0, 2, 1])
    graph.node("Transpose", [graph.node("Concat", boxes, f"{outputs[1]}/by_side", axis=2)], outputs[1], perm=[0, 2, 1])
