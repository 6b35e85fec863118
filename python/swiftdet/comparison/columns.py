"""What may share a column: figures whose typed fields are all equal, and no others.

A column is a frozen dataclass; figures belong together when their columns are equal. `shared_and_own` writes the fields
out: what all columns of a table have in common is said once, above it, and what tells them apart stands in their heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

Tristate: TypeAlias = bool | Literal["unknown"]
Facts: TypeAlias = tuple[tuple[str, str], ...]
"""Names and values of a column's fields, in the order in which a head shows them."""


_HASH = "SHA-256"
_BUILD = "build"
_DISTILLED = "distilled"
_DETAILS = frozenset({_HASH, _BUILD, _DISTILLED})  # shown only where nothing else tells columns apart
_BRIEF = frozenset(
    {"data", "split", "images", "protocol", "hardware", "runtime", "precision", "batch", "threads", "NMS", "timed"}
)


@dataclass(frozen=True, kw_only=True)
class Host:
    """The machine that measured, as far as it decides what is measured."""

    cpu: str
    processors: int | None
    memory_gib: int
    gpu: str | None
    virtualised: bool | None

    def __str__(self) -> str:
        cores = "" if self.processors is None else f", {self.processors} processors"
        kind = ", virtual" if self.virtualised else ""
        gpu = "" if self.gpu is None else f", {self.gpu}"
        return f"{self.cpu}{cores}, {self.memory_gib} GiB{kind}{gpu}"


@dataclass(frozen=True, kw_only=True)
class AccuracyColumn:
    """What an accuracy was measured on, by which protocol, of which kind of weights.

    Attributes:
        dataset, split: "COCO" and "val2017" or "test-dev2017"; of other data what its document says, or "unknown".
        data: short hashes of the annotations and images; None where published.
        images: scored; None where published.
        protocol: its name.
        thresholds: confidence, IoU, boxes and labels of the protocol, written out; None where published.
        weights: "the file's", "the demo's"; published: "the authors'", "distilled", ...
        distilled: trained by distillation; "unknown" of files.
        host: that measured; None where published.
    """

    dataset: str
    split: str
    data: str | None
    images: int | None
    protocol: str
    thresholds: str | None
    weights: str
    distilled: Tristate
    host: Host | None

    def facts(self) -> Facts:
        """As `Facts`."""
        distilled = {True: "distilled", False: "not distilled", "unknown": ""}[self.distilled]
        return (
            ("data", self.dataset),
            ("split", _said(self.split, "split")),
            ("images", "" if self.images is None else _counted(self.images, "image")),
            (_HASH, "" if self.data is None else f"SHA-256 {self.data}"),
            ("protocol", f"protocol {self.protocol}"),
            ("thresholds", self.thresholds or ""),
            ("weights", f"{self.weights} weights"),
            (_DISTILLED, distilled),
            ("host", "" if self.host is None else str(self.host)),
        )


@dataclass(frozen=True, kw_only=True)
class SpeedColumn:
    """How a time was taken.

    Attributes:
        hardware: the machine that measured, or what its publisher names.
        device: "cpu", "cuda:0"; "" where published.
        runtime: engine and release.
        build: the engine's full description of itself; "" where published.
        precision: that the engine computed in; "unknown" where it is not said.
        batch: images a call; "unknown" likewise.
        threads: that called at once; "unknown" likewise.
        loop: "closed", each call right after the one before; "paced", at a fixed rate; "unknown" likewise.
        rate_hz: of a paced loop.
        with_nms: whether suppression was timed.
        timed: from where to where.
        settings: how the engine was compiled, its instruction set, thresholds; "" where published.
        images: what was detected in; "" where published.
        data: short hash of those images; None where published.

    Weights are none of the fields: what they are changes a network's time by next to nothing.
    """

    hardware: str | Host
    device: str
    runtime: str
    build: str
    precision: str
    batch: int | Literal["unknown"]
    threads: int | Literal["unknown"]
    loop: str
    rate_hz: float | None
    with_nms: Tristate
    timed: str
    settings: str
    images: str
    data: str | None

    def facts(self) -> Facts:
        """As `Facts`."""
        nms = {True: "with NMS", False: "without NMS", "unknown": "NMS: not said"}[self.with_nms]
        return (
            ("hardware", str(self.hardware)),
            ("device", self.device),
            ("runtime", _said(self.runtime, "runtime")),
            (_BUILD, self.build),
            ("precision", _said(self.precision, "precision")),
            ("batch", _said(self.batch, "batch", "batch ")),
            ("threads", "" if self.threads == "unknown" else _counted(self.threads, "thread")),
            ("loop", "" if self.loop == "unknown" else f"{self.loop} loop"),
            ("rate", "" if self.rate_hz is None else f"{self.rate_hz:g} Hz"),
            ("NMS", nms),
            ("timed", _said(self.timed, "what was timed", "timed: ")),
            ("settings", self.settings),
            ("input", self.images),
            (_HASH, "" if self.data is None else f"SHA-256 {self.data}"),
        )

    @property
    def is_single(self) -> bool:
        """One image at a time from one caller: a latency, not a throughput."""
        return self.batch in {1, "unknown"} and self.threads in {1, "unknown"} and self.loop in {"closed", "unknown"}


Column: TypeAlias = AccuracyColumn | SpeedColumn


def shared_and_own(columns: Sequence[Column]) -> tuple[list[str], list[list[str]]]:
    """What all columns have in common, and what each has to itself, as lines of text. Different columns' heads differ.

    Hashes and builds are shown where nothing else tells columns apart.
    """
    if not columns:
        return [], []
    facts = [column.facts() for column in columns]
    common = {i for i in range(len(facts[0])) if len({f[i] for f in facts}) == 1}
    shared = [text for i, (name, text) in enumerate(facts[0]) if i in common and text and name not in _DETAILS]
    own = [[(name, text) for i, (name, text) in enumerate(f) if i not in common and text] for f in facts]
    plain = [[text for name, text in lines if name not in _DETAILS] for lines in own]
    if len({tuple(lines) for lines in plain}) < len(set(columns)):
        plain = [[text for _, text in lines] for lines in own]
    return shared, plain


def brief(column: Column) -> list[str]:
    """The fields that a caption has room for; a table has the others."""
    return [text for name, text in column.facts() if name in _BRIEF and text]


def _said(value: object, name: str, prefix: str = "") -> str:
    return f"{name}: not said" if value == "unknown" else f"{prefix}{value}"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
