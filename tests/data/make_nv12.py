"""Writes nv12_96x64.bin: an NV12 image and, behind it, its pixels as OpenCV converts them (RGB).

Every luma value is there, with chroma from end to end. `tests/python/test_gpusim.py` holds the file against the OpenCV
that is installed; the kernel's test reads it, as C++ has no OpenCV here.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

HEIGHT, WIDTH = 64, 96
FILE = Path(__file__).with_name("nv12_96x64.bin")


def planes() -> np.ndarray:
    """The image: luma [64, 96], below it interleaved Cb Cr [32, 96]; uint8."""
    rng = np.random.default_rng(20)
    luma = rng.permutation(np.arange(HEIGHT * WIDTH) % 256).reshape(HEIGHT, WIDTH)
    ends = [0, 1, 15, 16, 17, 127, 128, 129, 239, 240, 241, 254, 255]
    chroma = rng.integers(0, 256, (HEIGHT // 2, WIDTH))
    chroma[::2] = rng.choice(ends, chroma[::2].shape)
    return np.concatenate([luma, chroma]).astype(np.uint8)


def content() -> bytes:
    """What the file holds."""
    image = planes()
    return image.tobytes() + cv2.cvtColor(image, cv2.COLOR_YUV2RGB_NV12).tobytes()


if __name__ == "__main__":
    FILE.write_bytes(content())
