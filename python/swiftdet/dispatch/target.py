"""What a dispatcher needs of a detector; the only place here that reaches inside one."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from swiftdet.detector import Detector
from swiftdet.errors import InvalidType
from swiftdet.results import Detections


class Target:
    """The steps of a call of a detector, one by one. Safe from any number of threads.

    Attributes:
        detector: the detector itself.
        engine_sessions: how many calls keep the engine busy; more of them only overlap its work with the host's.
        session_limit: how many calls the detector runs at once.
        batch_sizes: sizes of batches worth preparing for, ascending; empty: any.
    """

    def __init__(self, detector: Detector, *, max_batch: int) -> None:
        """The steps of `detector`, for batches of up to `max_batch` images.

        Raises:
            InvalidType: not a `swiftdet.Detector`.
        """
        if not isinstance(detector, Detector):
            raise InvalidType(f"detector: expected a swiftdet.Detector, got {type(detector).__name__}")
        self.detector = detector
        self.engine_sessions, self.session_limit = detector._concurrency()  # noqa: SLF001 - made for this module
        # On a GPU each size of batch is a captured graph with buffers of its own, of which a few are kept.
        powers_of_two = (1 << i for i in range(max_batch.bit_length()))
        self.batch_sizes = () if detector.device == "cpu" else tuple(sorted({max_batch, *powers_of_two}))

    def options(self, per_call: dict[str, Any]) -> Hashable:
        """The checked options of a call. Equal ones, and only these, may share a batch.

        Raises:
            InvalidArgument, InvalidType: as the call itself.
        """
        defaults = self.detector._defaults  # noqa: SLF001
        return self.detector._call_options(defaults, per_call) if per_call else defaults  # noqa: SLF001

    def load(self, image: Any, options: Any) -> Any:
        """Reads and decodes one image.

        Raises:
            ImageError, InvalidArgument, InvalidType: as the call itself.
        """
        return self.detector._load(image, options.color)  # noqa: SLF001

    def detect(self, loaded: Sequence[Any], options: Any) -> list[Detections]:
        """Runs images that were loaded, as one batch of the detector."""
        return self.detector._detect(list(loaded), options)  # noqa: SLF001
