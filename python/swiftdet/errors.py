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


class DocumentError(SwiftdetError, ValueError):
    """A result file is unreadable, of an unknown format, contradicts its schema, or changed after it was written."""


class ModelError(SwiftdetError):
    """A model file is unreadable, not a supported detector, or contradicts its description."""


class BackendUnavailable(SwiftdetError):  # noqa: N818
    """An engine's library or device is missing; the message says what to install."""


class BackendError(SwiftdetError):
    """An engine refused to compile or run a model; carries the engine's own words."""


class UsedAfterFork(BackendError):  # noqa: N818
    """Something made before `os.fork()` was used in the child, where the threads that it needs do not exist.

    Make the detector in the child alone, or start processes by the "spawn" or "forkserver" method.
    """


class CudaError(SwiftdetError):
    """A call of CUDA failed; names the call. Where the device is lost, says that the process must be restarted."""


class OutOfMemory(SwiftdetError, MemoryError):  # noqa: N818
    """A GPU has no memory left; says how much was asked for."""


class DetectorClosed(SwiftdetError, RuntimeError):  # noqa: N818
    """A detector was used after `close()`, or closed while the call waited for a session."""


class Overloaded(SwiftdetError, RuntimeError):  # noqa: N818
    """A dispatcher's queue is full: the request found no place in time, or a newer one took its place."""


class DeadlineExceeded(SwiftdetError, TimeoutError):  # noqa: N818
    """The deadline of a request passed before its result was there."""


class DispatcherClosed(SwiftdetError, RuntimeError):  # noqa: N818
    """A dispatcher was used after `close()`, or ended a request because of it."""
