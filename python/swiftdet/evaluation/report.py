"""What an evaluation found, with everything that is needed to repeat it."""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from swiftdet.evaluation.protocols import Protocol

FORMAT = "swiftdet.evaluation/1"
"""Names the JSON document and its version."""


@dataclass(frozen=True, kw_only=True)
class EvalReport:
    """COCO accuracy of a detector on a data set. Immutable; numbers are fractions of one, None where undefined.

    Attributes:
        scores: COCO's twelve numbers: AP, AP50, AP75, APs, APm, APl, AR1, AR10, AR100, ARs, ARm, ARl.
        per_class: AP by category.
        images: scored.
        objects: annotated, crowds included.
        unknown_categories: that the detector has no class for; they count as never found.
        protocol: thresholds that the detections were made with.
        predictions: rows of COCO's result format.
        provenance: model, engine, device, size, and the hash of the annotations.
    """

    scores: dict[str, float | None]
    per_class: dict[str, float | None]
    images: int
    objects: int
    unknown_categories: tuple[str, ...]
    protocol: Protocol
    predictions: list[dict[str, Any]] = field(repr=False)
    provenance: dict[str, Any]

    @property
    def ap(self) -> float | None:
        """AP averaged over IoU 0.50 to 0.95."""
        return self.scores["AP"]

    def to_dict(self) -> dict[str, Any]:
        """Everything but the predictions, of JSON's types."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "predictions"}
        return {"format": FORMAT, **values, "protocol": dataclasses.asdict(self.protocol)}

    def save(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Writes `report.json`, and `predictions.json` in COCO's result format, into a folder that is made if missing.

        Raises:
            OSError: it cannot be written.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        written = {"report.json": self.to_dict(), "predictions.json": self.predictions}
        for name, value in written.items():
            (folder / name).write_text(json.dumps(value, indent=1 if name == "report.json" else None) + "\n")
        return [folder / name for name in written]
