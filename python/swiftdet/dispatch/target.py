"""What a dispatcher needs of a detector; the only place here that reaches inside one."""

from __future__ import annotations

import sys
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from swiftdet.detector import Detector
from swiftdet.device_images import DeviceImage
from swiftdet.errors import InvalidType
from swiftdet.results import Detections


@dataclass(slots=True, eq=False)
class _Refusal:
    """Stands for an image that could not be borrowed."""

    error: Exception


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
        self._borrows = detector.device != "cpu"
        self.batch_sizes = () if detector.device == "cpu" else tuple(sorted({max_batch, *powers_of_two}))

    def options(self, per_call: dict[str, Any]) -> Hashable:
        """The checked options of a call. Equal ones, and only these, may share a batch.

        Raises:
            InvalidArgument, InvalidType: as the call itself.
        """
        defaults = self.detector._defaults  # noqa: SLF001
        return self.detector._call_options(defaults, per_call) if per_call else defaults  # noqa: SLF001

    def borrow(self, image: Any, options: Any) -> Any:
        """What `load` takes: a loan, if the image is in a GPU's memory, else the image itself.

        For the thread that submits: whoever made the pixels orders them before the work of that thread alone. A loan
        has to be given back, once nothing reads it. What cannot be borrowed is the error of its image, in `load`.
        """
        if not self._borrows:
            return image
        handled = sys.exc_info()[1]
        try:
            loan = self.detector._borrow(image, options.color, for_later=True)  # noqa: SLF001
        except Exception as e:  # noqa: BLE001 - whatever it is, it is the answer to this image
            return _Refusal(_without_frames(e, handled))
        return image if loan is None else loan

    @staticmethod
    def is_loan(image: Any) -> bool:
        """Whether `borrow` lent it, so that it has to be given back."""
        return isinstance(image, DeviceImage)

    @staticmethod
    def give_back(image: Any) -> None:
        """Gives a loan back to its owner; does nothing with other images, nor a second time."""
        if isinstance(image, DeviceImage):
            image.release()

    def load(self, image: Any, options: Any) -> Any:
        """Reads and decodes one image; a loan is there already.

        Raises:
            ImageError, InvalidArgument, InvalidType: as the call itself.
        """
        if isinstance(image, DeviceImage):
            return image
        if isinstance(image, _Refusal):
            raise image.error
        return self.detector._load(image, options.color)  # noqa: SLF001

    def detect(self, loaded: Sequence[Any], options: Any) -> list[Detections]:
        """Runs images that were loaded, as one batch of the detector; loans stay lent."""
        return self.detector._detections(list(loaded), options)  # noqa: SLF001


def _without_frames(error: Exception, handled: BaseException | None) -> Exception:
    """An error and its causes without the frames of the thread that submits, which refer to the future that will fail.

    What that thread was handling before stays as it is, and is no part of the error.
    """
    link: BaseException | None = error
    while link is not None:
        link.__traceback__ = None
        if link.__context__ is handled:
            link.__context__ = None
        link = link.__cause__ or link.__context__
    return error
