"""One image, two sides: which detections belong together, how far they are apart, and which have no counterpart.

Two things would be differences in a plain comparison though the networks agree, and are set aside here: a score that
is over the threshold on one side and a hair below it on the other, and the choice of NMS between boxes that are nearly
equal, where a hair decides which one is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from swiftdet.verification.matching import Floats, Found, Indices, match, overlaps

LEAST_IOU = 0.5
"""Boxes that overlap less are no pair."""

Side: TypeAlias = Literal["reference", "test"]
Proposals: TypeAlias = Callable[[Side], Found]
"""Gives what a side's network proposes for the image, before NMS, over the threshold `Tolerance.lowest_proposed`."""

_Mask: TypeAlias = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Tolerance:
    """How far two sides may be apart where they still mean the same.

    Attributes:
        conf: detections over this score on either side are compared.
        score: width of the band below `conf` in which a counterpart may lie, and largest difference of scores.
        box_px: largest difference of a coordinate, in px of the network's input.
    """

    conf: float
    score: float
    box_px: float

    @property
    def lowest(self) -> float:
        """The threshold that both sides detect with: `conf` less the band, which is no wider than half of it."""
        return self.conf - min(self.score, self.conf / 2)

    @property
    def lowest_proposed(self) -> float:
        """The threshold of proposals: lower by the band once more, for what lies in the band itself."""
        return self.lowest - min(self.score, self.lowest / 2)


@dataclass(frozen=True)
class SideOutcome:
    """What became of one side's detections in an image: indices of those that are counted, over the threshold.

    Each is in exactly one group.

    Attributes:
        paired: with a counterpart of its class.
        flipped: with a counterpart of another class at its place.
        nms: proposed by the other side's network too, and not kept by its NMS.
        alone: without any counterpart.
    """

    paired: Indices
    flipped: Indices
    nms: Indices
    alone: Indices

    @property
    def counted(self) -> int:
        """How many there are."""
        return len(self.paired) + len(self.flipped) + len(self.nms) + len(self.alone)


@dataclass(frozen=True)
class ImageComparison:
    """One image compared.

    Attributes:
        found: everything that each side found over the lower threshold: reference, test.
        outcomes: of those over the threshold: reference, test.
        pairs: [P, 2] indices of the reference and the test, at least one of the two counted.
        flips: [F, 2] likewise, of different classes.
        moved: [P, 4] how far each coordinate of a pair moved from the reference to the test, px of the image.
        score_errors: [P] absolute difference of the scores.
        scale: [4] px of the network's input per px of the image, for each coordinate.
    """

    found: tuple[Found, Found]
    outcomes: tuple[SideOutcome, SideOutcome]
    pairs: Indices
    flips: Indices
    moved: Floats
    score_errors: Floats
    scale: Floats

    @property
    def box_errors(self) -> Floats:
        """[P] largest difference of a coordinate of each pair, px of the image."""
        return _largest(self.moved)

    @property
    def network_box_errors(self) -> Floats:
        """[P] the same in px of the network's input."""
        return _largest(self.moved * self.scale)

    @property
    def unmatched(self) -> int:
        """Detections of both sides without a counterpart of their class."""
        return sum(len(outcome.alone) + len(outcome.flipped) for outcome in self.outcomes)


def compare(
    reference: Found, test: Found, *, scale: Floats, tolerance: Tolerance, proposals: Proposals
) -> ImageComparison:
    """Compares what two sides found over the threshold `tolerance.lowest`.

    Args:
        reference: what the one found.
        test: what the other found.
        scale: [4] px of the network's input per px of the image, for each coordinate.
        tolerance: what counts as the same.
        proposals: asked only where something differs by more than that.
    """
    found = reference, test
    counted = [side.conf > tolerance.conf for side in found]
    overlap = overlaps(reference.xyxy, test.xyxy)
    same_class = reference.cls[:, None] == test.cls[None]
    pairs = match(overlap, same_class, LEAST_IOU)
    free = [_without(len(side), pairs[:, i]) for i, side in enumerate(found)]
    pairs = pairs[counted[0][pairs[:, 0]] | counted[1][pairs[:, 1]]]
    moved, score_errors = _errors(reference, test, pairs)
    lookup = _Lookup(proposals, scale, tolerance)
    far = np.flatnonzero((_largest(moved * scale) > tolerance.box_px) | (score_errors > tolerance.score))
    # Boxes far apart are no pair if each network proposes both: NMS chose the one here and the other there.
    apart = far[lookup.proposes("test", reference, pairs[far, 0]) & lookup.proposes("reference", test, pairs[far, 1])]
    others: tuple[Side, Side] = "test", "reference"
    by_nms = []
    for i, other in enumerate(others):
        unpaired = np.flatnonzero(counted[i] & free[i])
        proposed = unpaired[lookup.proposes(other, found[i], unpaired)]
        chosen = pairs[apart, i]
        by_nms.append(np.sort(np.concatenate([proposed, chosen[counted[i][chosen]]])))
        free[i] &= _without(len(found[i]), proposed)
    pairs, moved, score_errors = (
        np.delete(pairs, apart, axis=0),
        np.delete(moved, apart, axis=0),
        np.delete(score_errors, apart),
    )
    flips = match(overlap, free[0][:, None] & free[1][None] & ~same_class, LEAST_IOU)
    flips = flips[counted[0][flips[:, 0]] | counted[1][flips[:, 1]]]
    outcomes = []
    for i, side in enumerate(found):
        paired, flipped = (rows[counted[i][rows]] for rows in (np.sort(pairs[:, i]), np.sort(flips[:, i])))
        alone = counted[i] & _without(len(side), np.concatenate([paired, flipped, by_nms[i]]))
        outcomes.append(SideOutcome(paired, flipped, by_nms[i], np.flatnonzero(alone)))
    return ImageComparison(found, (outcomes[0], outcomes[1]), pairs, flips, moved, score_errors, scale)


class _Lookup:
    """Whether a network proposes a box, asking for its proposals once, when that is first wanted."""

    def __init__(self, proposals: Proposals, scale: Floats, tolerance: Tolerance) -> None:
        self._ask = proposals
        self._scale = scale
        self._tolerance = tolerance
        self._known: dict[Side, Found] = {}

    def proposes(self, side: Side, found: Found, rows: Indices) -> _Mask:
        """For each row of the other side's detections: whether `side` proposes the same within the tolerance."""
        answers = np.zeros(len(rows), dtype=bool)
        if len(rows) and side not in self._known:
            self._known[side] = self._ask(side)
        for n, row in enumerate(rows.tolist()):
            offered = self._known[side]
            near = _largest((offered.xyxy - found.xyxy[row]) * self._scale) <= self._tolerance.box_px
            alike = np.abs(offered.conf - found.conf[row]) <= self._tolerance.score
            answers[n] = bool((near & alike & (offered.cls == found.cls[row])).any())
        return answers


def _errors(reference: Found, test: Found, pairs: Indices) -> tuple[Floats, Floats]:
    """How far boxes moved [P, 4], and by how much scores differ [P]."""
    first, second = pairs[:, 0], pairs[:, 1]
    return test.xyxy[second] - reference.xyxy[first], np.abs(test.conf[second] - reference.conf[first])


def _largest(moved: Floats) -> Floats:
    largest: Floats = np.abs(moved).max(axis=1, initial=0.0)
    return largest


def _without(count: int, rows: Indices) -> _Mask:
    mask = np.ones(count, dtype=bool)
    mask[rows] = False
    return mask
