"""What an evaluation found, with everything that is needed to repeat it."""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swiftdet import measurements
from swiftdet.evaluation.dataset import Dataset
from swiftdet.evaluation.predictions import Predictions
from swiftdet.evaluation.protocols import Protocol
from swiftdet.whole_files import write_whole

if TYPE_CHECKING:
    from swiftdet.evaluation.bootstrap import Interval
    from swiftdet.evaluation.coco import ClassScore, Curves

PREDICTIONS = "predictions.json"
REPORT = "report.json"
FILES = (PREDICTIONS, "precision_recall.png", "confusion.json", "confusion.png", REPORT)
"""What `EvalReport.save` writes, beside a folder of examples."""


@dataclass(frozen=True, kw_only=True)
class EvalReport:
    """COCO accuracy of a detector on a data set. Immutable; numbers are fractions of one, None where undefined.

    Attributes:
        scores: COCO's twelve numbers: AP, AP50, AP75, APs, APm, APl, AR1, AR10, AR100, ARs, ARm, ARl.
        interval: of AP over data sets resampled from this one; None where there is nothing to score.
        class_scores: AP, AP50 and number of objects by category.
        curves: precision by recall, of each category.
        dataset: what was scored against.
        images_sha256: hex digest over all image files.
        unknown_categories: that the detector has no class for; they count as never found.
        protocol: pixels and thresholds that the detections were made with.
        protocol_reason: why it is this one.
        predictions: rows of COCO's result format.
        subject: the detector, as it describes itself.
        provenance: software, machine and command.
        duration_s: of detecting, without reading the data set before and scoring after it.
        images_per_s: in that time; None where an earlier run had done all images.
        resumed_images: that an earlier, interrupted run had done.
    """

    scores: dict[str, float | None]
    interval: Interval | None
    class_scores: dict[str, ClassScore]
    curves: Curves = field(repr=False)
    dataset: Dataset = field(repr=False)
    images_sha256: str
    unknown_categories: tuple[str, ...]
    protocol: Protocol
    protocol_reason: str
    predictions: Predictions
    subject: dict[str, Any] = field(repr=False)
    provenance: dict[str, Any] = field(repr=False)
    duration_s: float
    images_per_s: float | None
    resumed_images: int

    @property
    def ap(self) -> float | None:
        """AP averaged over IoU 0.50 to 0.95."""
        return self.scores["AP"]

    @property
    def per_class(self) -> dict[str, float | None]:
        """AP by category."""
        return {name: score.ap for name, score in self.class_scores.items()}

    @property
    def images(self) -> int:
        """Number of images."""
        return len(self.dataset.entries)

    @property
    def objects(self) -> int:
        """Number of annotated objects, crowds included."""
        return len(self.dataset.truth["annotations"])

    def to_dict(self, *, predictions_file: str | None = None) -> dict[str, Any]:
        """The document `swiftdet.evaluation/2` (docs/evaluation.md): everything but the predictions, of JSON's types.

        Args:
            predictions_file: where these are written, beside the document.
        """
        return measurements.seal(
            "evaluation", subject=self.subject, measured=self._measured(predictions_file), provenance=self.provenance
        )

    def _measured(self, predictions_file: str | None) -> dict[str, Any]:
        from swiftdet.evaluation.coco import EVALUATOR  # noqa: PLC0415 - pycocotools takes a moment to load

        return {
            "protocol": {**dataclasses.asdict(self.protocol), "chosen": self.protocol_reason},
            "dataset": {
                "name": self.dataset.name,
                "split": self.dataset.split,
                "annotations": str(self.dataset.annotations),
                "annotations_sha256": self.dataset.sha256,
                "images_sha256": self.images_sha256,
                "images": self.images,
                "objects": self.objects,
            },
            "scores": self.scores,
            "ap_interval": None if self.interval is None else dataclasses.asdict(self.interval),
            "per_class": {
                name: {"AP": score.ap, "AP50": score.ap50, "objects": score.objects}
                for name, score in self.class_scores.items()
            },
            "evaluator": EVALUATOR,
            "unknown_categories": self.unknown_categories,
            "truncated": self.predictions.truncated,
            "predictions": {
                "count": len(self.predictions),
                "sha256": self.predictions.sha256(),
                "file": predictions_file,
            },
            "duration_s": self.duration_s,
            "images_per_s": self.images_per_s,
            "resumed_images": self.resumed_images,
        }

    def save(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Writes `FILES` into a folder that is made if missing, over what an earlier evaluation wrote there.

        `predictions.json` in COCO's result format; `precision_recall.png`; `confusion.json` and `confusion.png`, which
        classes are taken for which; `examples/`, the worst errors drawn; and, last, the document `report.json`.

        Raises:
            OSError: it cannot be written.
            ImageError: an image of an example cannot be read any more.
        """
        from swiftdet.evaluation import confusion, examples, plots  # noqa: PLC0415 - slow to load

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.predictions.write(folder / PREDICTIONS)
        names = {number: name for name, number in self.dataset.categories.items()}
        mixed = confusion.count(self.dataset.truth, self.predictions.by_image())
        files = {entry.image_id: entry.path for entry in self.dataset.entries}
        pictures = examples.draw(mixed.examples, files, names, folder / "examples")
        write_whole(folder / "confusion.json", json.dumps(mixed.to_dict(names, pictures), indent=1).encode() + b"\n")
        plots.matrix(mixed, names, folder / "confusion.png")
        ap = "-" if self.ap is None else f"{100 * self.ap:.1f}"
        title = f"{self.subject['model']} on {self.dataset.name}: AP {ap}, protocol {self.protocol.name}"
        plots.precision_recall(self.curves, title, folder / "precision_recall.png")
        measurements.write(self.to_dict(predictions_file=PREDICTIONS), folder / REPORT)
        return [folder / name for name in FILES]
