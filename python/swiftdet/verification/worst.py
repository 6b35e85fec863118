"""The images in which two sides differ most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from swiftdet.verification.comparison import ImageComparison, Tolerance


@dataclass(frozen=True)
class ComparedImage:
    """An image and what became of it.

    Attributes:
        name: of its file, or "image N".
        source: the image itself as it was given: a path, or what a detector takes.
        compared: what was found in it.
        badness: detections without a counterpart, then the largest error in units of what is tolerated.
    """

    name: str
    source: Any
    compared: ImageComparison
    badness: tuple[int, float]

    def row(self) -> dict[str, Any]:
        """What differs, of JSON's types."""
        reference, test = self.compared.outcomes
        return {
            "image": self.name,
            "only_reference": len(reference.alone),
            "only_test": len(test.alone),
            "class_flips": len(self.compared.flips),
            "nms_choices": len(reference.nms) + len(test.nms),
            "box_error_px": float(self.compared.box_errors.max(initial=0.0)),
            "score_error": float(self.compared.score_errors.max(initial=0.0)),
        }


class Worst:
    """Keeps the few images that differ most, in that order; of equal ones those that came first."""

    def __init__(self, count: int, tolerance: Tolerance) -> None:
        self._count = count
        self._tolerance = tolerance
        self._kept: list[ComparedImage] = []

    def add(self, name: str, source: Any, compared: ImageComparison) -> None:
        """One more image."""
        error = max(
            compared.network_box_errors.max(initial=0.0) / self._tolerance.box_px,
            compared.score_errors.max(initial=0.0) / self._tolerance.score,
        )
        self._kept.append(ComparedImage(name, source, compared, (compared.unmatched, float(error))))
        self._kept.sort(key=lambda image: image.badness, reverse=True)  # stable, in reverse too
        del self._kept[self._count :]

    def images(self) -> tuple[ComparedImage, ...]:
        """Those that are kept, the worst first."""
        return tuple(self._kept)
