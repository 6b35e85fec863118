"""The pipeline's operations, one by one, for arrays: what the detector does inside, to test or to build on."""

from swiftdet.ops.preprocess import LetterboxMeta, letterbox, resize

__all__ = ["LetterboxMeta", "letterbox", "resize"]
