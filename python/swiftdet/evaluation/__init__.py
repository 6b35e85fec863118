"""COCO accuracy of a detector, measured through the same pipeline that serves, by pycocotools.

Example:
    >>> det = swiftdet.Detector("demo-yolov7")  # doctest: +SKIP
    >>> report = swiftdet.evaluate(det, *swiftdet.demo.dataset())  # doctest: +SKIP
    >>> report.ap  # doctest: +SKIP
    0.65
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swiftdet.errors import ModelError
from swiftdet.evaluation import protocols
from swiftdet.evaluation.protocols import PROTOCOLS, Protocol
from swiftdet.evaluation.report import EvalReport

if TYPE_CHECKING:
    from swiftdet.detector import Detector
    from swiftdet.evaluation.dataset import Dataset, Entry

__all__ = ["PROTOCOLS", "EvalReport", "Protocol", "evaluate"]

_IMAGES_AT_ONCE = 16


def evaluate(
    detector: Detector,
    images_dir: str | os.PathLike[str],
    annotations_json: str | os.PathLike[str],
    *,
    protocol: str = "auto",
    on_progress: Callable[[int, int], None] | None = None,
) -> EvalReport:
    """Detects in every image of a COCO-format data set and scores the result by pycocotools.

    Args:
        detector: whose thresholds are replaced by the protocol's; size, device and engine are its own.
        images_dir: folder that the file names of the annotations are relative to.
        annotations_json: objects with `images`, `annotations` and `categories`. Categories are matched to the
            detector's classes by name; those that the detector does not know count as never found, as COCO has it.
        protocol: a name of `PROTOCOLS`; "auto": the one of the detector's family.
        on_progress: called with (images done, images in all) after each batch, in the calling thread.

    Raises:
        DatasetError: annotations that are none, an image that is missing, or no class in common.
        ImageError: an image that cannot be read.
        ModelError: the detector's weights are made up; its accuracy would mean nothing.
        InvalidArgument: no such protocol, or one that the detector's description contradicts.

    Safe from several threads. Holds the detections of all images in memory: some 100 bytes each.
    """
    if detector.spec.synthetic:
        raise ModelError("the weights are made up (synthetic): there is no accuracy to measure; give real weights")
    chosen = protocols.choose(protocol, detector.spec)
    # NumPy and pycocotools take a moment to load, which `swiftdet --help` should not.
    from swiftdet.evaluation import coco  # noqa: PLC0415
    from swiftdet.evaluation.dataset import read_dataset  # noqa: PLC0415

    dataset = read_dataset(Path(images_dir), Path(annotations_json))
    category_of_class = dataset.match(detector.names)
    predictions: list[dict[str, Any]] = []
    for start in range(0, len(dataset.entries), _IMAGES_AT_ONCE):
        entries = dataset.entries[start : start + _IMAGES_AT_ONCE]
        predictions += _detect(detector, entries, chosen, category_of_class)
        if on_progress is not None:
            on_progress(start + len(entries), len(dataset.entries))
    scores = coco.score(dataset.truth, predictions)
    return EvalReport(
        scores=scores.summary,
        per_class=scores.per_class,
        images=len(dataset.entries),
        objects=len(dataset.truth["annotations"]),
        unknown_categories=tuple(dataset.unknown(detector.names)),
        protocol=chosen,
        predictions=predictions,
        provenance=_provenance(detector, dataset),
    )


def _detect(
    detector: Detector, entries: list[Entry], protocol: Protocol, category_of_class: dict[int, int]
) -> list[dict[str, Any]]:
    """Rows of COCO's result format: boxes x, y, width, height in px of the image."""
    results = detector(
        [entry.path for entry in entries],
        conf=protocol.conf,
        iou=protocol.iou,
        max_det=protocol.max_det,
        multi_label=protocol.multi_label,
        classes=list(category_of_class),
    )
    return [
        {
            "image_id": entry.image_id,
            "category_id": category_of_class[int(cls)],
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "score": score,
        }
        for entry, result in zip(entries, results, strict=True)
        for (x1, y1, x2, y2), score, cls in zip(
            result.xyxy.tolist(), result.conf.tolist(), result.cls.tolist(), strict=True
        )
    ]


def _provenance(detector: Detector, dataset: Dataset) -> dict[str, Any]:
    return {
        **detector.provenance,
        "imgsz": list(detector.imgsz),
        "annotations": str(dataset.annotations),
        "annotations_sha256": dataset.sha256,
    }
