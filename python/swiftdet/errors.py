"""Every error that swiftdet raises on purpose. The compiled core maps its own errors to these.

All derive from `SwiftdetError`; where a built-in error has the same meaning, from that too, so that code which
catches `ValueError` or `TypeError` keeps working. A message says what was expected, what came and what to do.
"""

from __future__ import annotations


class SwiftdetError(Exception):
    """Base of all errors of this package."""


class InvalidArgument(SwiftdetError, ValueError):  # noqa: N818 - the name of the C++ twin
    """An array, option or threshold is outside its contract."""


class InvalidType(SwiftdetError, TypeError):  # noqa: N818
    """A value of the wrong type or dtype."""


class ImageError(SwiftdetError, ValueError):
    """An image is missing, truncated, too large, or not an image."""


class VideoError(SwiftdetError, ValueError):
    """A video, stream or camera cannot be opened or read on, or holds nothing that can be decoded."""


class DatasetError(SwiftdetError, ValueError):
    """Annotations or images of a data set are missing, damaged, or contradict each other or the detector."""


class ModelError(SwiftdetError):
    """A model file is unreadable, not a supported detector, or contradicts its description."""


class BackendUnavailable(SwiftdetError):  # noqa: N818
    """An engine's library or device is missing; the message says what to install."""


class BackendError(SwiftdetError):
    """An engine refused to compile or run a model; carries the engine's own words."""


class CudaError(SwiftdetError):
    """A call of CUDA failed; names the call. Where the device is lost, says that the process must be restarted."""


class OutOfMemory(SwiftdetError, MemoryError):  # noqa: N818
    """A GPU has no memory left; says how much was asked for."""


class DetectorClosed(SwiftdetError, RuntimeError):  # noqa: N818
    """A detector was used after `close()`."""
