"""Which classes are taken for which, what is seen that is not there, and what is overlooked; with the worst of each.

Not a part of COCO's metric, which scores class by class and so never sees that a car was found, as a boat.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from swiftdet.evaluation.predictions import ImagePredictions

Kind: TypeAlias = Literal["confused", "false-positive", "missed"]
FloatArray: TypeAlias = npt.NDArray[np.float64]

SCORE = 0.25
"""Predictions need a score of at least this: what a user would see, not what AP is computed from."""

IOU = 0.5
"""A prediction stands for an object when they overlap at least so much."""

EXAMPLES = 6
"""Errors of each kind that are kept as examples."""


@dataclass(frozen=True)
class Mistake:
    """One error.

    Attributes:
        kind: an object found as another category, a box where no object is, or an object without a box.
        image_id: where.
        truth: id of the object's category; None where there is no object.
        found: id of the predicted category; None where there is no prediction.
        truth_box: x, y, width, height px; None likewise.
        found_box: the same of the prediction.
        score: of the prediction.
    """

    kind: Kind
    image_id: int
    truth: int | None = None
    found: int | None = None
    truth_box: tuple[float, ...] | None = None
    found_box: tuple[float, ...] | None = None
    score: float | None = None

    @property
    def badness(self) -> float:
        """By which errors of a kind are ordered: a sure prediction; a large object that was overlooked, in px."""
        if self.kind == "missed" and self.truth_box is not None:
            return self.truth_box[2] * self.truth_box[3]
        return self.score or 0.0


@dataclass(frozen=True)
class Confusion:
    """Counts over a data set.

    Attributes:
        counts: by (category of the object, predicted category); None stands for no object, or no prediction.
        examples: the worst errors of each kind, of each pair of categories one before the second of any.
    """

    counts: dict[tuple[int | None, int | None], int]
    examples: list[Mistake]

    def to_dict(self, names: Mapping[int, str], pictures: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Of JSON's types, with the names of categories by their id, and what `examples.draw` says of its pictures."""
        return {
            "score": SCORE,
            "iou": IOU,
            "right": {names[a]: n for (a, b), n in self.counts.items() if a is not None and a == b},
            "confused": [{"object": names[a], "found": names[b], "count": n} for a, b, n in self.pairs()],
            "false_positives": {names[b]: n for (a, b), n in self.counts.items() if a is None and b is not None},
            "missed": {names[a]: n for (a, b), n in self.counts.items() if a is not None and b is None},
            "examples": list(pictures),
        }

    def pairs(self) -> list[tuple[int, int, int]]:
        """(object's category, predicted category, count) of what was found as something else, most frequent first."""
        mixed = [(a, b, n) for (a, b), n in self.counts.items() if a is not None and b is not None and a != b]
        return sorted(mixed, key=lambda row: (-row[2], row[0], row[1]))


def count(truth: dict[str, Any], predictions: Iterable[tuple[int, ImagePredictions]]) -> Confusion:
    """Compares predictions with checked annotations, image by image.

    Best predictions first, each takes the object of its own category that it overlaps most; then those left over take
    objects left over, of any category. One that lies in a crowd of its category is neither right nor wrong.
    """
    objects: dict[int, list[dict[str, Any]]] = {}
    for row in truth["annotations"]:
        objects.setdefault(row["image_id"], []).append(row)
    counts: Counter[tuple[int | None, int | None]] = Counter()
    mistakes: list[Mistake] = []
    for image_id, one in predictions:
        for mistake in _judged(image_id, objects.get(image_id, []), one.table[one.table[:, 5] >= SCORE], counts):
            counts[mistake.truth, mistake.found] += 1
            mistakes.append(mistake)
    return Confusion(dict(counts), _worst(mistakes))


def _judged(
    image_id: int, objects: Sequence[dict[str, Any]], table: FloatArray, counts: Counter[tuple[int | None, int | None]]
) -> list[Mistake]:
    """The errors in one image; what is right is counted."""
    table = table[np.argsort(-table[:, 5], kind="stable")]
    single = [row for row in objects if not row["iscrowd"]]
    crowds = [row for row in objects if row["iscrowd"]]
    overlaps = _iou(table[:, 1:5], _boxes(single))
    right = _matched(np.where(_of_one_kind(table, single), overlaps, 0.0))
    for _, column in right:
        counts[single[column]["category_id"], single[column]["category_id"]] += 1
    for row, column in right:
        overlaps[row] = overlaps[:, column] = 0.0
    confused = _matched(overlaps)
    in_crowd = _iou(table[:, 1:5], _boxes(crowds), of_the_first=True) >= IOU
    excused = np.flatnonzero((in_crowd & _of_one_kind(table, crowds)).any(axis=1)).tolist()
    rows = set(range(len(table))) - {row for row, _ in (*right, *confused)}
    columns = set(range(len(single))) - {column for _, column in (*right, *confused)}
    return [
        *(_mistake("confused", image_id, single[column], table[row]) for row, column in confused),
        *(_mistake("false-positive", image_id, None, table[row]) for row in sorted(rows.difference(excused))),
        *(_mistake("missed", image_id, single[column], None) for column in sorted(columns)),
    ]


def _of_one_kind(table: FloatArray, objects: Sequence[dict[str, Any]]) -> npt.NDArray[np.bool_]:
    kinds = np.array([row["category_id"] for row in objects], np.float64)
    same: npt.NDArray[np.bool_] = table[:, :1] == kinds[None]
    return same


def _mistake(kind: Kind, image_id: int, truth: dict[str, Any] | None, found: FloatArray | None) -> Mistake:
    return Mistake(
        kind=kind,
        image_id=image_id,
        truth=None if truth is None else truth["category_id"],
        found=None if found is None else int(found[0]),
        truth_box=None if truth is None else tuple(map(float, truth["bbox"])),
        found_box=None if found is None else tuple(found[1:5].tolist()),
        score=None if found is None else float(found[5]),
    )


def _matched(overlaps: FloatArray) -> list[tuple[int, int]]:
    """(row, column) of each row, from the first on, with the free column that it overlaps most, if enough."""
    free = overlaps.copy()
    pairs = []
    for row in range(free.shape[0]):
        if free.shape[1] and free[row].max() >= IOU:
            column = int(free[row].argmax())
            pairs.append((row, column))
            free[:, column] = 0.0
    return pairs


def _boxes(rows: Sequence[dict[str, Any]]) -> FloatArray:
    return np.array([row["bbox"] for row in rows], np.float64).reshape(-1, 4)


def _iou(first: FloatArray, second: FloatArray, *, of_the_first: bool = False) -> FloatArray:
    """[K, M] of boxes x, y, width, height; or the part of each of the first that lies in each of the second."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, :2] + first[:, None, 2:], second[None, :, :2] + second[None, :, 2:])
    inter = (high - low).clip(0).prod(axis=2)
    whole = np.repeat(first[:, 2:].prod(axis=1)[:, None], len(second), axis=1)
    if not of_the_first:
        whole = whole + second[:, 2:].prod(axis=1)[None] - inter
    shares: FloatArray = np.divide(inter, whole, out=np.zeros(inter.shape), where=whole > 0)
    return shares


def _worst(mistakes: Sequence[Mistake]) -> list[Mistake]:
    """The worst of each kind; a second one of the same categories only when all others have had their first."""
    chosen = []
    for kind in ("confused", "false-positive", "missed"):
        seen: Counter[tuple[int | None, int | None]] = Counter()
        ranked = []
        for mistake in sorted((m for m in mistakes if m.kind == kind), key=lambda m: -m.badness):
            ranked.append((seen[mistake.truth, mistake.found], mistake))
            seen[mistake.truth, mistake.found] += 1
        chosen += [mistake for _, mistake in sorted(ranked, key=lambda pair: pair[0])[:EXAMPLES]]
    return chosen
