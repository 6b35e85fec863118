"""Low-latency, thread-safe object detection.

Example:
    >>> import swiftdet
    >>> det = swiftdet.Detector("yolov8s.onnx")  # doctest: +SKIP
    >>> result = det("street.jpg")  # doctest: +SKIP
    >>> result.xyxy, result.conf, result.cls  # doctest: +SKIP
"""

from swiftdet import checkpoints, ops, zoo
from swiftdet._core import __version__, build_config
from swiftdet.detector import Detector
from swiftdet.errors import (
    BackendError,
    BackendUnavailable,
    CudaError,
    DetectorClosed,
    ImageError,
    InvalidArgument,
    InvalidType,
    ModelError,
    OutOfMemory,
    SwiftdetError,
)
from swiftdet.results import Boxes, Detections
from swiftdet.spec import Head, ModelSpec, Preprocess

__all__ = [
    "BackendError",
    "BackendUnavailable",
    "Boxes",
    "CudaError",
    "Detections",
    "Detector",
    "DetectorClosed",
    "Head",
    "ImageError",
    "InvalidArgument",
    "InvalidType",
    "ModelError",
    "ModelSpec",
    "OutOfMemory",
    "Preprocess",
    "SwiftdetError",
    "__version__",
    "build_config",
    "checkpoints",
    "ops",
    "zoo",
]
