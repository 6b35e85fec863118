"""Low-latency, thread-safe object detection."""

from swiftdet import _core

__version__ = _core.__version__
