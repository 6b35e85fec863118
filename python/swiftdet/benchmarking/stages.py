"""Where the time of one call went, so that the parts add up to the whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from swiftdet import results

STAGES = ("decode", "preprocess", "copy_in", "inference", "postprocess", "copy_out", "device", "python")
"""Names of stages in the order of a report; a run has those that its detector can tell apart."""

_FOLDED = {"pack": "copy_in", "unpack": "copy_out"}


class Stages:
    """The stages of every call of one run.

    Attributes:
        names: in the order of `STAGES`.
    """

    def __init__(self, *, decoded: bool, on_gpu: bool, timed: bool) -> None:
        """The stages that such calls have.

        Args:
            decoded: images come encoded, and are decoded before the call.
            on_gpu: the network runs on a GPU.
            timed: its stages are told apart by CUDA events.
        """
        if not on_gpu:
            self._of = {name: name for name in results.STAGES}
            self._elastic = "inference"
        elif timed:
            self._of = {name: _FOLDED.get(name, name) for name in results.TIMED_STAGES}
            self._elastic = "inference"
        else:  # all that the compiled part does, as one: without events it cannot be told apart
            self._of = dict.fromkeys(results.STAGES, "device")
            self._elastic = "device"
        present = {*self._of.values(), "python", *(("decode",) if decoded else ())}
        self.names = tuple(name for name in STAGES if name in present)

    def split(self, decode_ms: float, call_ms: float, speeds: Sequence[Mapping[str, float]]) -> list[float]:
        """Milliseconds of each of `names` for one call; their sum is `decode_ms + call_ms`.

        Args:
            decode_ms: before the call.
            call_ms: by the caller's clock.
            speeds: `Detections.speed` of each image of the call.

        Images of a batch may be in the network at the same time, so their times add up to more than the call took.
        What overlaps is counted once: the network then gets what the other stages leave of the call.
        """
        spent = dict.fromkeys(self.names, 0.0)
        for speed in speeds:
            for name, milliseconds in speed.items():
                spent[self._of[name]] += milliseconds
        over = sum(spent.values()) - call_ms
        if over > 0.0:
            spent[self._elastic] -= over
        spent["python"] = -over if over < 0.0 else 0.0
        if "decode" in spent:
            spent["decode"] = decode_ms
        return list(spent.values())
