"""Low-latency, thread-safe object detection.

Example:
    >>> import swiftdet
    >>> det = swiftdet.Detector("yolov8s.onnx")  # doctest: +SKIP
    >>> result = det("street.jpg")  # doctest: +SKIP
    >>> result.xyxy, result.conf, result.cls  # doctest: +SKIP
"""

from swiftdet import checkpoints, demo, ops, zoo
from swiftdet._core import __version__, build_config
from swiftdet.benchmarking import benchmark
from swiftdet.detector import Detector
from swiftdet.dispatch import BatchDispatcher, DispatcherStats
from swiftdet.errors import (
    BackendError,
    BackendUnavailable,
    CudaError,
    DatasetError,
    DeadlineExceeded,
    DetectorClosed,
    DispatcherClosed,
    DocumentError,
    ImageError,
    InvalidArgument,
    InvalidType,
    ModelError,
    OutOfMemory,
    Overloaded,
    SwiftdetError,
    UsedAfterFork,
    VideoError,
)
from swiftdet.evaluation import EvalReport, evaluate
from swiftdet.results import Boxes, Detections
from swiftdet.sources import DetectionStream
from swiftdet.spec import Head, ModelSpec, Preprocess
from swiftdet.verification import VerificationReport, verify

__all__ = [
    "BackendError",
    "BackendUnavailable",
    "BatchDispatcher",
    "Boxes",
    "CudaError",
    "DatasetError",
    "DeadlineExceeded",
    "DetectionStream",
    "Detections",
    "Detector",
    "DetectorClosed",
    "DispatcherClosed",
    "DispatcherStats",
    "DocumentError",
    "EvalReport",
    "Head",
    "ImageError",
    "InvalidArgument",
    "InvalidType",
    "ModelError",
    "ModelSpec",
    "OutOfMemory",
    "Overloaded",
    "Preprocess",
    "SwiftdetError",
    "UsedAfterFork",
    "VerificationReport",
    "VideoError",
    "__version__",
    "benchmark",
    "build_config",
    "checkpoints",
    "demo",
    "evaluate",
    "ops",
    "verify",
    "zoo",
]
