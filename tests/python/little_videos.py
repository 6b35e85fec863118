"""Videos made on the spot with PyAV: what they show is known, and the same on every run."""

from __future__ import annotations

import struct
from fractions import Fraction

import av
import numpy as np


def pictures(count=12, size=(48, 64), seed=0):
    """Frames [H, W, 3] BGR: coarse random blocks that move, so that every frame differs from every other."""
    height, width = size
    rng = np.random.default_rng(seed)
    base = rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    base = base.repeat(8, 0).repeat(8, 1)[:height, :width]
    return [np.ascontiguousarray(np.roll(base, 3 * i, axis=1)) for i in range(count)]


def write(path, frames, *, codec="libx264", pix_fmt="yuv420p", rate=25, times=None, options=None, container=None):
    """A video of those frames; `times` in ms make its rate vary. Returns the path."""
    with av.open(str(path), "w", options=container or {}) as file:
        stream = file.add_stream(codec, rate=rate, options={"g": "5", "threads": "1", **(options or {})})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pix_fmt
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for i, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="bgr24")
            frame.pts = i if times is None else times[i]
            if times is not None:
                frame.time_base = Fraction(1, 1000)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path


def decoded(path):
    """What PyAV makes of a video, by the shortest program: [(time in s, BGR pixels)]."""
    with av.open(str(path)) as file:
        return [(frame.time, frame.to_ndarray(format="bgr24")) for frame in file.decode(video=0)]


def set_display_matrix(path, a, b, c, d):
    """Overwrites the matrix in the track header of an MP4, as a phone would write it."""
    content = bytearray(path.read_bytes())
    header = content.index(b"tkhd")
    version = content[header + 4]
    matrix = header + 4 + (40 if version == 0 else 52)
    one = 1 << 16
    struct.pack_into(">9i", content, matrix, a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    return path


def flipped(content, *, seed, count, start=0.3, end=0.7):
    """The bytes with `count` random bits turned over, within a part of the file."""
    rng = np.random.default_rng(seed)
    damaged = bytearray(content)
    for place in rng.integers(int(len(content) * start), max(int(len(content) * end), 1), count):
        damaged[place] ^= 1 << int(rng.integers(8))
    return bytes(damaged)
