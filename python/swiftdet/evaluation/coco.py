"""The numbers of record: pycocotools on annotations and predictions that are in memory."""

from __future__ import annotations

import contextlib
import importlib.metadata
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import coco as coco_module
from pycocotools import cocoeval as cocoeval_module

from swiftdet.evaluation.bootstrap import Interval, ap_interval

SUMMARY = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
"""COCO's twelve numbers, in its order: AP over IoU 0.50 to 0.95; small, medium and large; recall by boxes an image."""

EVALUATOR = f"pycocotools {importlib.metadata.version('pycocotools')}"

_MUTE = threading.Lock()


@dataclass(frozen=True)
class ClassScore:
    """Accuracy for one category, as fractions of one; None where there is nothing to score.

    Attributes:
        ap: over IoU 0.50 to 0.95.
        ap50: at IoU 0.50.
        objects: annotated, crowds included.
    """

    ap: float | None
    ap50: float | None
    objects: int


@dataclass(frozen=True, eq=False)
class Curves:
    """Precision at 101 levels of recall, all areas, 100 boxes an image.

    Attributes:
        recall: float64 [101], 0 to 1.
        precision: float64 [10, 101, categories], by IoU 0.50 to 0.95; -1 where a category has no object.
        categories: their names.
    """

    recall: npt.NDArray[np.float64]
    precision: npt.NDArray[np.float64]
    categories: tuple[str, ...]


@dataclass(frozen=True)
class Scores:
    """What pycocotools computed, as fractions of one; None where there is nothing to score, such as no small object.

    Attributes:
        summary: by the names of `SUMMARY`.
        per_class: by category name.
        curves: what both are means of.
        interval: of AP; None where it was not asked for.
    """

    summary: dict[str, float | None]
    per_class: dict[str, ClassScore]
    curves: Curves
    interval: Interval | None = None


def score(truth: dict[str, Any], predictions: Iterable[dict[str, Any]], *, interval: bool = False) -> Scores:
    """Scores rows of COCO's result format against checked annotations, by COCO's box metric. Changes neither.

    Args:
        truth: the annotations.
        predictions: the rows.
        interval: also say how far AP would have been another on other images, which takes about as long again.
    """
    with _quiet():
        reference = coco_module.COCO()
        # pycocotools writes into the rows.
        reference.dataset = {**truth, "annotations": [dict(row) for row in truth["annotations"]]}
        reference.createIndex()
        run = cocoeval_module.COCOeval(reference, _loaded(truth, predictions), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    summary = {name: _known(value) for name, value in zip(SUMMARY, run.stats, strict=True)}
    # [IoU thresholds, recalls, categories, areas, limits]: all areas, 100 boxes.
    precision = run.eval["precision"][:, :, :, 0, -1]
    names = {row["id"]: row["name"] for row in truth["categories"]}
    objects = dict.fromkeys(names, 0)
    for row in truth["annotations"]:
        objects[row["category_id"]] += 1
    per_class = {
        names[category]: ClassScore(_mean(precision[:, :, i]), _mean(precision[0, :, i]), objects[category])
        for i, category in enumerate(run.params.catIds)
    }
    curves = Curves(run.params.recThrs, precision, tuple(per_class))
    return Scores(summary, per_class, curves, ap_interval(_matched(run), run.params.recThrs) if interval else None)


def _matched(run: Any) -> list[list[dict[str, Any] | None]]:
    """By category and image, what `evaluate` found for all areas."""
    areas, images = len(run.params.areaRng), len(run.params.imgIds)
    step = areas * images
    return [run.evalImgs[i * step : i * step + images] for i in range(len(run.params.catIds))]


def _loaded(truth: dict[str, Any], predictions: Iterable[dict[str, Any]]) -> Any:
    """The predictions as `loadRes` prepares them, without the outlines that it would add and boxes do not need."""
    rows = [
        {**row, "area": row["bbox"][2] * row["bbox"][3], "id": number, "iscrowd": 0}
        for number, row in enumerate(predictions, start=1)
    ]
    loaded = coco_module.COCO()
    loaded.dataset = {"images": truth["images"], "categories": truth["categories"], "annotations": rows}
    loaded.createIndex()
    return loaded


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
