"""How far AP would have been another on other images of the same kind: the bootstrap over images (Efron, 1979)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

RESAMPLES = 400
LEVEL = 0.95
_SEED = 0


@dataclass(frozen=True)
class Interval:
    """Where AP of resampled data sets lies, as fractions of one: the middle `level` of them, by percentiles.

    Attributes:
        low, high: the ends.
        level: share of the resamples that lie between them.
        resamples: how often as many images were drawn, with repetition, as the data set has.
    """

    low: float
    high: float
    level: float
    resamples: int


@dataclass(frozen=True, eq=False)
class Matches:
    """The detections of one category in all images, best score first, as COCO's evaluation matched them.

    Attributes:
        image: int [N], index of each one's image.
        true, false: bool [10, N], by IoU threshold; neither: ignored.
        objects: int [images], annotated and not ignored.
    """

    image: npt.NDArray[np.intp]
    true: npt.NDArray[np.bool_]
    false: npt.NDArray[np.bool_]
    objects: npt.NDArray[np.int64]


def ap_interval(
    matched: Sequence[Sequence[dict[str, Any] | None]],
    recalls: npt.NDArray[np.float64],
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> Interval | None:
    """The interval of AP over IoU 0.50 to 0.95; the same for the same input. None where there is nothing to score.

    Args:
        matched: by category and image, what `COCOeval.evaluate` found for all areas.
        recalls: the levels of recall at which precision counts.
        resamples: how many, at least 1.
        level: share of them that the interval holds.
    """
    categories = [found for found in map(matches, matched) if found.objects.any()]
    if not categories:
        return None
    images = len(matched[0])
    chances = np.full(images, 1.0 / images)
    rng = np.random.default_rng(_SEED)
    aps = []
    for _ in range(resamples):
        ap = resampled_ap(categories, rng.multinomial(images, chances), recalls)
        if ap is not None:
            aps.append(ap)
    if not aps:
        return None
    low, high = np.quantile(aps, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return Interval(float(low), float(high), level, resamples)


def resampled_ap(
    categories: Sequence[Matches], times: npt.NDArray[np.int64], recalls: npt.NDArray[np.float64]
) -> float | None:
    """AP of the data set that has each image so many times; None where no object is in it.

    That needs no new matching, as each image is matched by itself: a detection counts as often as its image is there.
    """
    means = []
    for found in categories:
        objects = int(times @ found.objects)
        if not objects:
            continue  # as in COCO's evaluation, such a category is no part of the mean
        weight = times[found.image]
        true = np.cumsum(found.true * weight, axis=1)
        false = np.cumsum(found.false * weight, axis=1)
        precision = true / np.maximum(true + false, 1)
        # The best precision at this recall or a higher one.
        precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        reached = true / objects
        total = 0.0
        for row, best in zip(reached, precision, strict=True):
            places = np.searchsorted(row, recalls, side="left")
            total += float(best[places[places < row.size]].sum())
        means.append(total / (reached.shape[0] * recalls.size))
    return float(np.mean(means)) if means else None


def matches(images: Sequence[dict[str, Any] | None]) -> Matches:
    """One category, by image; an image without its objects and detections is None."""
    objects = [0 if image is None else int(np.count_nonzero(np.asarray(image["gtIgnore"]) == 0)) for image in images]
    known = [(i, image) for i, image in enumerate(images) if image is not None]
    if not known:
        nothing = np.zeros((1, 0), bool)
        return Matches(np.zeros(0, np.intp), nothing, nothing, np.asarray(objects, np.int64))
    scores = np.concatenate([np.asarray(image["dtScores"], np.float64) for _, image in known])
    order = np.argsort(-scores, kind="mergesort")
    matched = np.concatenate([np.asarray(image["dtMatches"]) for _, image in known], axis=1)[:, order] != 0
    ignored = np.concatenate([np.asarray(image["dtIgnore"]) for _, image in known], axis=1)[:, order] != 0
    image = np.concatenate([np.full(len(image["dtScores"]), i, np.intp) for i, image in known])[order]
    return Matches(image, matched & ~ignored, ~matched & ~ignored, np.asarray(objects, np.int64))
