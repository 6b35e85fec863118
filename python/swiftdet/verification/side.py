"""One side of a verification: a detector, asked in the ways that comparing needs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from swiftdet.detector import Detector
from swiftdet.errors import BackendUnavailable, InvalidArgument, InvalidType
from swiftdet.results import Detections
from swiftdet.verification.matching import Found, Indices

_ALL_PROPOSALS = 30000


class Side:
    """A detector with the options of its calls.

    Attributes:
        name: "reference" or "test".
        detector: the detector.
        options: what its calls use, of JSON's types.
        class_ids: the reference's id of each class id.
        raw: what was seen in the raw outputs of its network; None where they cannot be looked at.
    """

    def __init__(self, name: Literal["reference", "test"], detector: Any, per_call: Mapping[str, Any]) -> None:
        """A side called `name`.

        Raises:
            InvalidType: not a `swiftdet.Detector`.
            InvalidArgument, InvalidType: options that the detector refuses.
        """
        if not isinstance(detector, Detector):
            raise InvalidType(f"{name}: expected a swiftdet.Detector, got {type(detector).__name__}")
        self.name = name
        self.detector = detector
        self._per_call = dict(per_call)
        options = detector._call_options(detector._defaults, self._per_call)  # noqa: SLF001 - nobody else asks
        self.options = {
            key: value for key, value in dataclasses.asdict(options).items() if key not in {"conf", "timed"}
        }
        self.class_ids: Indices = np.arange(len(detector.names))
        self.raw: RawOutputs | None = RawOutputs()

    def use_classes_of(self, reference: Side) -> bool:
        """Numbers the classes as the reference does, by their names. True if that changes anything.

        Raises:
            InvalidArgument: the two do not have the same classes.
        """
        own, wanted = list(self.detector.names.values()), list(reference.detector.names.values())
        if own == wanted:
            return False
        if sorted(own) != sorted(wanted) or len(set(own)) < len(own):
            missing = [name for name in wanted if name not in own]
            extra = [name for name in own if name not in wanted]
            raise InvalidArgument(
                f"the detectors have different classes, so their detections cannot be compared: the reference "
                f"{len(wanted)}, the test {len(own)}; only in the reference: {_some(missing)}; only in the test: "
                f"{_some(extra)}"
            )
        self.class_ids = np.array([wanted.index(name) for name in own])
        return True

    def is_same_as(self, other: Side) -> bool:
        """Whether nothing is known in which the two differ."""
        keys = set(self.detector.provenance) - {"model", "file"}
        own, others = (
            ({key: side.detector.provenance[key] for key in keys}, side.detector.spec, side.options)
            for side in (self, other)
        )
        return own == others

    def detect(self, image: Any, conf: float) -> Detections:
        """What the detector finds."""
        result: Detections = self.detector(image, **{**self._per_call, "conf": conf})
        return result

    def propose(self, image: Any, conf: float) -> Found:
        """Everything over the threshold: no box suppresses another where none may overlap by more than everything."""
        return self.found(
            self.detector(image, **{**self._per_call, "conf": conf, "iou": 1.0, "max_det": _ALL_PROPOSALS})
        )

    def found(self, result: Detections) -> Found:
        """A result as it is compared."""
        return Found(
            result.xyxy.astype(np.float64),
            result.conf.astype(np.float64),
            self.class_ids[result.cls],
            result.truncated,
        )

    def look_into(self, image: Any) -> dict[str, npt.NDArray[np.float32]] | None:
        """The network's raw outputs for an image, counted in `raw`; None where they cannot be had."""
        if self.raw is None:
            return None
        own = {key: value for key, value in self._per_call.items() if key in {"imgsz", "color"}}
        try:
            outputs = self.detector.raw_outputs(image, **own)
        except BackendUnavailable:  # on a GPU
            self.raw = None
            return None
        self.raw.add(outputs)
        return outputs

    def scale(self, size: tuple[int, int]) -> npt.NDArray[np.float64]:
        """[4] px of the network's input per px of an image of (height, width), for each coordinate of a box."""
        height, width = (network / own for network, own in zip(self.options["imgsz"], size, strict=True))
        if self.detector.spec.preprocess.mode != "stretch":
            height = width = min(height, width)
        return np.array([width, height, width, height])


class RawOutputs:
    """Counts what must not be in a network's outputs.

    Attributes:
        values: looked at.
        nan: that are no number.
        infinite: that are plus or minus infinity.
    """

    def __init__(self) -> None:
        self.values = self.nan = self.infinite = 0

    def add(self, outputs: Mapping[str, npt.NDArray[np.float32]]) -> None:
        """Counts in the outputs of one run."""
        for output in outputs.values():
            self.values += output.size
            self.nan += int(np.isnan(output).sum())
            self.infinite += int(np.isinf(output).sum())


def _some(names: list[str]) -> str:
    listed = ", ".join(repr(name)[:40] for name in names[:5])
    return (listed + (", ..." if len(names) > 5 else "")) or "none"
