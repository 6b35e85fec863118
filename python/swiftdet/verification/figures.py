"""The figures of many images, from what was found in each."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from swiftdet.verification.comparison import ImageComparison
from swiftdet.verification.gates import ENOUGH_PAIRS
from swiftdet.verification.matching import Floats

Outputs = dict[str, npt.NDArray[np.float32]]


def percentile(values: Floats, percent: int) -> float | None:
    """The smallest of the values that so many per cent of them do not exceed (nearest rank); None of no values."""
    if not len(values):
        return None
    rank = -(-percent * len(values) // 100)  # rounded up, in integers
    return float(np.sort(values)[rank - 1])


class Figures:
    """Adds up images. Holds a few numbers for each pair, no picture."""

    def __init__(self) -> None:
        self.images = 0
        self._counts = {
            side: dict.fromkeys(("detections", "paired", "class_flips", "nms_choices", "alone", "truncated"), 0)
            for side in ("reference", "test")
        }
        self._box_px: list[Floats] = []
        self._box_network_px: list[Floats] = []
        self._moved_network_px: list[Floats] = []
        self._scores: list[Floats] = []
        self._raw_difference: dict[str, float] | None = {}

    def add(self, compared: ImageComparison) -> None:
        """One more image."""
        self.images += 1
        for counts, outcome, found in zip(self._counts.values(), compared.outcomes, compared.found, strict=True):
            counts["detections"] += outcome.counted
            counts["paired"] += len(outcome.paired)
            counts["class_flips"] += len(outcome.flipped)
            counts["nms_choices"] += len(outcome.nms)
            counts["alone"] += len(outcome.alone)
            counts["truncated"] += found.truncated
        self._box_px.append(compared.box_errors)
        self._box_network_px.append(compared.network_box_errors)
        self._moved_network_px.append(compared.moved * compared.scale)
        self._scores.append(compared.score_errors)

    def add_raw(self, reference: Outputs | None, test: Outputs | None) -> None:
        """Raw outputs of one image. They are compared if both sides have those of the other's names and shapes."""
        if self._raw_difference is None or reference is None or test is None:
            self._raw_difference = None
            return
        if {k: v.shape for k, v in reference.items()} != {k: v.shape for k, v in test.items()}:
            self._raw_difference = None
            return
        for name, values in reference.items():
            with np.errstate(invalid="ignore", over="ignore"):
                difference = np.abs(values - test[name])
            largest = float(difference[np.isfinite(difference)].max(initial=0.0))
            self._raw_difference[name] = max(self._raw_difference.get(name, 0.0), largest)

    def summary(self) -> dict[str, Any]:
        """Counts, rates and errors, of JSON's types; None where there was nothing to measure."""
        sides = list(self._counts.values())
        total = {key: sum(side[key] for side in sides) for key in sides[0]}
        compared = total["detections"] - total["nms_choices"]
        moved = np.concatenate([np.empty((0, 4)), *self._moved_network_px])
        return {
            "detections": self._counts,
            "pairs": len(moved),
            "match_rate": total["paired"] / compared if compared else None,
            "class_flip_rate": total["class_flips"] / total["detections"] if total["detections"] else None,
            "nms_choice_rate": total["nms_choices"] / total["detections"] if total["detections"] else None,
            "box_error_px": _spread(self._box_px),
            "box_error_network_px": _spread(self._box_network_px),
            "box_shift_network_px": moved.mean(axis=0).tolist() if len(moved) else None,
            "score_error": _spread(self._scores),
            "raw_output_difference": self._raw_difference or None,
        }


def gated(measured: dict[str, Any]) -> dict[str, float | None]:
    """What each gate is about, by its name, from `measured` of a document."""
    raw = [measured["raw_outputs"][side] for side in ("reference", "test")]
    accuracy = measured["accuracy"]
    shift = measured["box_shift_network_px"]
    return {
        "min_detections": measured["detections"]["reference"]["detections"],
        "min_match_rate": measured["match_rate"],
        "max_class_flips": measured["class_flip_rate"],
        "max_nms_choices": measured["nms_choice_rate"],
        "max_box_error": measured["box_error_network_px"]["max"],
        "max_box_error_p99": measured["box_error_network_px"]["p99"],
        "max_box_shift": max(map(abs, shift)) if shift and measured["pairs"] >= ENOUGH_PAIRS else None,
        "max_score_error": measured["score_error"]["max"],
        "max_score_error_p99": measured["score_error"]["p99"],
        "max_nonfinite": None
        if raw == [None, None]
        else sum(side["nan"] + side["infinite"] for side in raw if side is not None),
        "max_map_change": None
        if accuracy is None or accuracy["change"]["AP"] is None
        else abs(accuracy["change"]["AP"]),
    }


def _spread(parts: list[Floats]) -> dict[str, float | None]:
    values = np.concatenate([np.empty(0), *parts])
    return {
        "mean": float(values.mean()) if len(values) else None,
        "p99": percentile(values, 99),
        "max": float(values.max()) if len(values) else None,
    }
