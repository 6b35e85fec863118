"""The numbers of record: pycocotools on annotations and predictions that are in memory."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools import coco as coco_module
from pycocotools import cocoeval as cocoeval_module

SUMMARY = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
"""COCO's twelve numbers, in its order: AP over IoU 0.50 to 0.95; small, medium and large; recall by boxes an image."""

_MUTE = threading.Lock()


@dataclass(frozen=True)
class Scores:
    """What pycocotools computed, as fractions of one; None where there is nothing to score, such as no small object.

    Attributes:
        summary: by the names of `SUMMARY`.
        per_class: AP over IoU 0.50 to 0.95 by category name.
    """

    summary: dict[str, float | None]
    per_class: dict[str, float | None]


def score(truth: dict[str, Any], predictions: list[dict[str, Any]]) -> Scores:
    """Scores rows of COCO's result format against checked annotations, by COCO's box metric."""
    with _quiet():
        reference = coco_module.COCO()
        reference.dataset = truth
        reference.createIndex()
        run = cocoeval_module.COCOeval(reference, _loaded(reference, predictions), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    summary = {name: _known(value) for name, value in zip(SUMMARY, run.stats, strict=True)}
    # [IoU thresholds, recalls, categories, areas, limits]: all areas, 100 boxes.
    precision = run.eval["precision"][:, :, :, 0, -1]
    names = {row["id"]: row["name"] for row in truth["categories"]}
    per_class = {names[category]: _mean(precision[:, :, i]) for i, category in enumerate(run.params.catIds)}
    return Scores(summary, per_class)


def _loaded(reference: Any, predictions: list[dict[str, Any]]) -> Any:
    """The predictions as pycocotools takes them, which cannot load an empty list."""
    if predictions:
        return reference.loadRes(predictions)
    empty = coco_module.COCO()
    empty.dataset = {**reference.dataset, "annotations": []}
    empty.createIndex()
    return empty


def _known(value: float) -> float | None:
    return None if value < 0 else float(value)  # pycocotools writes -1


def _mean(precision: Any) -> float | None:
    valid = precision[precision > -1]
    return float(np.mean(valid)) if valid.size else None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Lets pycocotools' own `print` do nothing; stdout belongs to the caller and to other threads."""
    with _MUTE:
        modules = (coco_module, cocoeval_module)
        for module in modules:
            vars(module)["print"] = lambda *_, **__: None
        try:
            yield
        finally:
            for module in modules:
                vars(module).pop("print", None)
