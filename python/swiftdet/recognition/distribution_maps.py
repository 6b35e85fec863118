"""Maps of DAMO-YOLO's ZeroHead: per level class scores [N, C, h, w] and box distributions [N, 4*(reg_max+1), h, w]."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from swiftdet.recognition.families import make_spec
from swiftdet.recognition.shapes import cells_of_level
from swiftdet.spec import Head

if TYPE_CHECKING:
    from swiftdet.engines.signature import Port
    from swiftdet.recognition.evidence import Evidence
    from swiftdet.spec import ModelSpec

_STRIDES = (8, 16, 32)
_OFFICIAL_BINS = {68: 16, 32: 7}
"""Channels of the regression -> reg_max, of all official models."""


def read_distribution_maps(evidence: Evidence) -> ModelSpec:
    """Six maps, two per level: `--benchmark` exports (scores after the sigmoid) and raw heads (logits).

    Raises:
        ModelError: other levels, or a regression whose channels fit no official head without `--family`.
    """
    levels: dict[tuple[int, int], list[Port]] = {}
    for port in evidence.outputs:
        levels.setdefault((port.shape[2], port.shape[3]), []).append(port)
    pairs = [levels[size] for size in sorted(levels, reverse=True)]
    expected = [cells_of_level(evidence.size, s) for s in _STRIDES]
    if sorted(levels, reverse=True) != expected or any(len(pair) != 2 for pair in pairs):
        raise evidence.refusal("six maps are known as DAMO-YOLO's head: two for each of the strides 8, 16, 32")
    split = [_scores_and_distribution(evidence, pair) for pair in pairs]
    channels = {(scores.shape[1], distribution.shape[1]) for scores, distribution in split}
    if len(channels) != 1:
        raise evidence.refusal(f"the levels disagree about their channels ({sorted(channels)})")
    classes, bins = channels.pop()
    sigmoids = {evidence.after_sigmoid(scores.name) for scores, _ in split}
    if len(sigmoids) != 1:
        raise evidence.refusal("some levels have the sigmoid applied to their scores, others not")
    applied = sigmoids.pop()
    head = Head(
        layout="distribution_maps",
        num_classes=classes,
        outputs=(*(scores.name for scores, _ in split), *(distribution.name for _, distribution in split)),
        box_format="xyxy",
        scores_are_logits=not applied,
        strides=_STRIDES,
        reg_max=bins // 4 - 1,
    )
    form = "scores after the sigmoid (--benchmark)" if applied else "logits"
    because = f"six maps of a ZeroHead, reg_max {head.reg_max}; {form}"
    return make_spec(evidence, "damo-yolo", head, stride=_STRIDES[-1], because=because)


def _scores_and_distribution(evidence: Evidence, pair: list[Port]) -> tuple[Port, Port]:
    """The two maps of a level, told apart by channels, then names, then the sigmoid, then the official order."""
    first, second = pair
    if evidence.metadata.ultralytics or evidence.scope_family() == "ultralytics":
        raise evidence.refusal("raw maps of an Ultralytics head", "export it with its decoding, as its exporter does")
    plausible = [port for port in pair if _may_be_distribution(evidence, port.shape[1])]
    if not plausible:
        raise evidence.refusal(
            f"maps of {first.shape[1]} and {second.shape[1]} channels; DAMO-YOLO's regressions have "
            f"{' or '.join(map(str, sorted(_OFFICIAL_BINS)))}",
            "pass --family damo-yolo if it is one with another reg_max",
        )
    by_content = plausible[0] if len(plausible) == 1 else None
    distribution = by_content or _named(pair) or _without_sigmoid(evidence, pair) or second
    return (second if distribution is first else first), distribution


def _may_be_distribution(evidence: Evidence, channels: int) -> bool:
    if evidence.family == "damo-yolo" and not any(p.shape[1] in _OFFICIAL_BINS for p in evidence.outputs):
        return channels % 4 == 0 and channels >= 8
    return channels in _OFFICIAL_BINS


def _named(pair: list[Port]) -> Port | None:
    found = [port for port in pair if re.search(r"reg|box|dist", port.name, re.IGNORECASE)]
    return found[0] if len(found) == 1 else None


def _without_sigmoid(evidence: Evidence, pair: list[Port]) -> Port | None:
    found = [port for port in pair if not evidence.after_sigmoid(port.name)]
    return found[0] if len(found) == 1 else None
