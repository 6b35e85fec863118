"""Verifications as lines: whether two detectors mean the same, beside the figures that the page has of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from swiftdet.comparison.rows import Source

HEADER = (
    "test",
    "reference",
    "images",
    "match rate",
    "box error px, p99",
    "box error px, max",
    "score error, max",
    "AP change",
    "verdict",
)


@dataclass(frozen=True)
class Verification:
    """One document: its cells by `HEADER`, and the gates that it broke."""

    cells: list[str]
    broken: list[str]


def verifications(sources: Sequence[Source]) -> list[Verification]:
    """Of the verifications among the documents, in their order."""
    return [_of(source.document) for source in sources if source.kind == "verification"]


def _of(document: dict[str, Any]) -> Verification:
    measured = document["measured"]
    change = None if measured["accuracy"] is None else measured["accuracy"]["change"]["AP"]
    box, score = measured["box_error_px"], measured["score_error"]
    return Verification(
        [
            _side(document["subject"]),
            _side(measured["reference"]),
            str(measured["images"]["count"]),
            _number(measured["match_rate"], "{:.4f}"),
            _number(box["p99"], "{:.3f}"),
            _number(box["max"], "{:.3f}"),
            _number(score["max"], "{:.2g}"),
            _number(None if change is None else 100.0 * change, "{:+.2f}"),
            "passed" if measured["passed"] else "failed",
        ],
        [gate["name"] for gate in measured["gates"] if gate["outcome"] == "broken"],
    )


def _side(subject: dict[str, Any]) -> str:
    return f"{subject['model']} ({subject['engine']}, {subject['device']}, {subject['precision']})"


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)  # noqa: RUF001 - typography
