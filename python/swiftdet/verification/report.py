"""What a verification found: figures, gates, and the document and page that are made of them."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from swiftdet import measurements
from swiftdet.verification.gates import GateOutcome
from swiftdet.verification.worst import ComparedImage


@dataclass(frozen=True, kw_only=True)
class VerificationReport:
    """How far a detector is from its reference. Immutable.

    Attributes:
        subject: provenance of the test.
        measured: figures, of JSON's types, as `docs/verify.md` defines them.
        gates: each limit, what was measured, and what became of it.
        names: of the classes, as the reference numbers them.
        worst: the images that differ most.
    """

    subject: dict[str, Any]
    measured: dict[str, Any]
    gates: tuple[GateOutcome, ...]
    names: tuple[str, ...]
    worst: tuple[ComparedImage, ...] = field(repr=False)

    @property
    def passed(self) -> bool:
        """No gate is broken."""
        return not self.broken

    @property
    def broken(self) -> list[GateOutcome]:
        """The gates that are."""
        return [gate for gate in self.gates if gate.outcome == "broken"]

    @property
    def match_rate(self) -> float | None:
        """Share of detections that have their counterpart on the other side; None of none."""
        rate: float | None = self.measured["match_rate"]
        return rate

    @functools.cached_property
    def document(self) -> measurements.Document:
        """The report as a sealed document of format `swiftdet.verification/1`, made when it is first asked for."""
        gates = [
            {"name": gate.name, "limit": gate.limit, "measured": gate.measured, "outcome": gate.outcome}
            for gate in self.gates
        ]
        return measurements.seal(
            "verification",
            subject=self.subject,
            measured={**self.measured, "passed": self.passed, "gates": gates},
            provenance=measurements.collect(self.subject["device"]),
        )

    def save(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Writes `verification.json`, and `report.html` with the images that differ most, into a folder.

        The page needs no other file. The folder is made if missing.

        Raises:
            OSError: it cannot be written.
            ImageError: an image has gone since it was compared.
        """
        from swiftdet.verification.page import render  # noqa: PLC0415 - Jinja takes a moment to load

        folder = Path(folder)
        page = render(self.document, self.worst, self.names)
        measurements.write(self.document, folder / "verification.json")
        (folder / "report.html").write_text(page, "utf-8", "backslashreplace")
        return [folder / "verification.json", folder / "report.html"]
