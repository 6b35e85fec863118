"""The pipeline's operations, one by one, for arrays: what the detector does inside, to test or to build on."""

from swiftdet.ops.postprocess import decode, nms
from swiftdet.ops.preprocess import LetterboxMeta, letterbox, resize

__all__ = ["LetterboxMeta", "decode", "letterbox", "nms", "resize"]
