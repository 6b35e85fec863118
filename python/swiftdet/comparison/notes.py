"""Footnotes: numbered in the order in which a page first needs them, and there only if it does."""

from __future__ import annotations

from swiftdet.comparison.published_tables import Caveat

SYNTHETIC = Caveat(
    key="made-up-weights",
    text="Made-up weights: the time is that of the architecture, an accuracy would mean nothing and none is shown.",
)
ACCURACY_ONLY = Caveat(
    key="accuracy-only",
    text="Not timed: none of the results times this pipeline (same file, engine, device, precision, size and "
    "pre-processing), so this accuracy stands beside no latency.",
)
LATENCY_ONLY = Caveat(key="latency-only", text="Timed, but its accuracy was not measured.")
ACCURACY_ELSEWHERE = Caveat(
    key="accuracy-elsewhere",
    text="The accuracy of this model was not measured through the pipeline that is timed here, but through another "
    "one, which has a row of its own.",
)
OTHER_RESIZE = Caveat(
    key="other-resize",
    text="The protocol resizes images otherwise than the pipeline that is timed, so this accuracy was not measured "
    "through that pipeline.",
)
UNKNOWN_CATEGORIES = Caveat(
    key="unknown-categories",
    text="The detector has no class for some categories of the data, which count as never found; the row's provenance "
    "names them.",
)
FEW_CALLS = Caveat(
    key="few-calls",
    text="Too few calls for this percentile, which needs 10 (p50), 100 (p90), 200 (p95) or 1000 (p99).",
)


DISTURBED = Caveat(
    key="disturbed",
    text="The machine was disturbed while this was measured, by what is listed below. Such a time may be too long.",
)
SAME_SPLIT = Caveat(
    key="published-for-the-same",
    text="Published by the model's authors for the same data, split and protocol. Whether the file that was measured "
    "is theirs is not known.",
)


class Notes:
    """The footnotes of one page."""

    def __init__(self) -> None:
        self._numbers: dict[Caveat, int] = {}

    def number(self, caveat: Caveat) -> int:
        """The number of a footnote; a new one gets the next."""
        return self._numbers.setdefault(caveat, len(self._numbers) + 1)

    def numbers(self, *caveats: Caveat) -> tuple[int, ...]:
        """Of several, in ascending order, each once."""
        return tuple(sorted({self.number(caveat) for caveat in caveats}))

    @property
    def texts(self) -> list[tuple[int, str]]:
        """All of them, in order."""
        return [(number, caveat.text) for caveat, number in self._numbers.items()]
