"""How much two sides may differ: limits by precision, and what a verification makes of them."""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from swiftdet import checks
from swiftdet.errors import InvalidArgument, InvalidType

TITLES = {
    "min_detections": "detections of the reference",
    "min_match_rate": "match rate",
    "max_class_flips": "class flips, share",
    "max_nms_choices": "choices of NMS, share",
    "max_box_error": "box error, px of the network's input",
    "max_box_error_p99": "box error of 99 % of the pairs, px of the network's input",
    "max_box_shift": "mean shift of boxes, px of the network's input",
    "max_score_error": "score error",
    "max_score_error_p99": "score error of 99 % of the pairs",
    "max_nonfinite": "NaN and infinite raw outputs",
    "max_map_change": "change of AP",
}
"""What people call each gate."""

FEW_DETECTIONS = 200
"""Of fewer, one alone is a share as large as the gates' limits."""

ENOUGH_PAIRS = 30
"""A mean of fewer pairs says nothing about a shift."""


@dataclass(frozen=True, kw_only=True)
class Gates:
    """Limits; None: no limit. `docs/verify.md` defines what each is compared with.

    Attributes:
        min_detections: of the reference, so that there is something to compare.
        min_match_rate: share of detections with a counterpart.
        max_class_flips: share of detections whose counterpart has another class.
        max_nms_choices: share of detections that the other side proposes too, but whose NMS did not keep them.
        max_box_error: of any pair, px of the network's input.
        max_box_error_p99: of 99 in 100 pairs.
        max_box_shift: mean signed movement of a coordinate, px of the network's input; from `ENOUGH_PAIRS` pairs.
        max_score_error: of any pair.
        max_score_error_p99: of 99 in 100 pairs.
        max_nonfinite: NaN and infinite values in the networks' raw outputs.
        max_map_change: of AP, either way, as a fraction.
    """

    min_detections: float | None = 1
    min_match_rate: float | None
    max_class_flips: float | None
    max_nms_choices: float | None
    max_box_error: float | None
    max_box_error_p99: float | None
    max_box_shift: float | None
    max_score_error: float | None
    max_score_error_p99: float | None
    max_nonfinite: float | None = 0
    max_map_change: float | None

    def changed(self, limits: Mapping[str, float | None]) -> Gates:
        """These with other limits, by name.

        Raises:
            InvalidArgument: no such gate, or a limit that is negative or NaN.
            InvalidType: a limit that is no number.
        """
        known = [f.name for f in dataclasses.fields(self)]
        for name, limit in limits.items():
            if name not in known:
                raise InvalidArgument(f"gates: expected {', '.join(known)}, got {name!r:.60}")
            if limit is None:
                continue
            if isinstance(limit, bool) or not isinstance(limit, numbers.Real):
                raise InvalidType(f"gates: {name}: expected a number or None, got {checks.shown(limit)}")
            if not (math.isfinite(limit) and limit >= 0):
                raise InvalidArgument(f"gates: {name}: expected a number of 0 or more, or None, got {limit}")
        return dataclasses.replace(self, **{k: None if v is None else float(v) for k, v in limits.items()})


@dataclass(frozen=True, kw_only=True)
class PrecisionTolerance:
    """What two sides of a precision may differ by.

    Attributes:
        name: of the precision.
        same_box_px: boxes closer than this are the same, px of the network's input.
        same_score: scores closer than this are the same; also the width of the band below the threshold.
        gates: the limits.
    """

    name: str
    same_box_px: float
    same_score: float
    gates: Gates


TOLERANCES = {
    tolerance.name: tolerance
    for tolerance in (
        PrecisionTolerance(
            name="fp32",
            same_box_px=0.02,
            same_score=0.001,
            gates=Gates(
                min_match_rate=1.0,
                max_class_flips=0.0,
                max_nms_choices=0.005,
                max_box_error=0.02,
                max_box_error_p99=0.005,
                max_box_shift=0.002,
                max_score_error=0.001,
                max_score_error_p99=0.0002,
                max_map_change=0.001,
            ),
        ),
        PrecisionTolerance(
            name="fp16",
            same_box_px=1.0,
            same_score=0.01,
            gates=Gates(
                min_match_rate=0.998,
                max_class_flips=0.001,
                max_nms_choices=0.02,
                max_box_error=2.0,
                max_box_error_p99=0.5,
                max_box_shift=0.05,
                max_score_error=0.02,
                max_score_error_p99=0.005,
                max_map_change=0.005,
            ),
        ),
        PrecisionTolerance(
            name="bf16",
            same_box_px=5.0,
            same_score=0.05,
            gates=Gates(
                min_match_rate=0.98,
                max_class_flips=0.005,
                max_nms_choices=0.05,
                max_box_error=None,
                max_box_error_p99=3.0,
                max_box_shift=0.2,
                max_score_error=None,
                max_score_error_p99=0.03,
                max_map_change=0.02,
            ),
        ),
    )
}
"""By precision, from the tightest to the loosest. The reasons are in docs/verify.md."""

# int8 has no figures of its own yet; of a foreign engine nobody knows what it was built in.
_ROWS = {"fp32": "fp32", "fp16": "fp16", "unknown": "fp16", "bf16": "bf16", "int8": "bf16"}


def tolerance_for(name: str, *sides: Mapping[str, Any]) -> PrecisionTolerance:
    """The tolerance of that name; for "auto" the loosest that a side's arithmetic or weights ask for.

    Args:
        name: of `TOLERANCES`, or "auto".
        *sides: `Detector.provenance` of each.

    Raises:
        InvalidArgument: no such tolerance.
    """
    checks.choice("tolerance", name, ("auto", *TOLERANCES))
    if name != "auto":
        return TOLERANCES[name]
    order = list(TOLERANCES)
    used = {side[key] for side in sides for key in ("precision", "weights_precision") if side[key] is not None}
    return TOLERANCES[max((_ROWS[precision] for precision in used), key=order.index)]


@dataclass(frozen=True)
class GateOutcome:
    """One gate and what was measured.

    Attributes:
        name: of the field of `Gates`.
        limit: None: no limit was set.
        measured: None: there was nothing to measure.
    """

    name: str
    limit: float | None
    measured: float | None

    @property
    def outcome(self) -> Literal["passed", "broken", "not measured", "off"]:
        """What became of it."""
        if self.limit is None:
            return "off"
        if self.measured is None:
            return "not measured"
        within = self.measured >= self.limit if self.name.startswith("min_") else self.measured <= self.limit
        return "passed" if within else "broken"

    @property
    def title(self) -> str:
        """What people call it."""
        return TITLES[self.name]

    @property
    def shown(self) -> str:
        """What was measured, in words; empty where there was nothing to measure."""
        if self.measured is None:
            return ""
        return str(self.measured) if isinstance(self.measured, int) else f"{self.measured:.4g}"

    def __str__(self) -> str:
        measured = self.shown or "not measured"
        word = "at least" if self.name.startswith("min_") else "at most"
        wanted = "no limit" if self.limit is None else f"expected {word} {self.limit:g}"
        return f"{self.title}: {measured}, {wanted} ({self.name})"


def judge(gates: Gates, measured: Mapping[str, float | None]) -> tuple[GateOutcome, ...]:
    """Compares each gate with what was measured under its name."""
    return tuple(
        GateOutcome(field.name, getattr(gates, field.name), measured[field.name]) for field in dataclasses.fields(gates)
    )
