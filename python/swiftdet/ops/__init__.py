"""The pipeline's operations, one by one, for arrays: what the detector does inside, to test or to build on."""

from swiftdet.ops.postprocess import decode, nms

__all__ = ["decode", "nms"]
