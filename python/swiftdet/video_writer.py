"""Writes pictures as a video file."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from swiftdet.errors import InvalidArgument, VideoError
from swiftdet.images import ByteArray
from swiftdet.sources.pyav import load_pyav

if TYPE_CHECKING:
    from typing_extensions import Self

SUFFIXES = frozenset((".m4v", ".mkv", ".mov", ".mp4"))
"""Containers that can be written, by suffix in lower case."""

_CLOCK = 90_000  # ticks a second, in which every usual frame rate has whole or nearly whole steps
_MPEG4_CLOCK = 60_000  # the finest that its 16 bits allow
_FRAGMENTED = frozenset((".m4v", ".mov", ".mp4"))


class VideoWriter:
    """A video file that grows picture by picture, each shown at its own time.

    H.264 where PyAV has an encoder for it and the size is even, which its usual pixel format demands; else MPEG-4. An
    MP4 is written in fragments of 2 s, so that what was written can be played even if the process is killed. Use it
    as a context manager, or call `close`: that completes the file. For one thread at a time.

    Args:
        path: of the file, replaced if there is one; the suffix says the container: .mp4, .m4v, .mov, .mkv.
        size: (height, width) in px of the video; a picture of another size is stretched to it.
        rate: pictures per second, as players show it; None: 30. The pictures' own times hold.

    Raises:
        BackendUnavailable: PyAV is not installed.
        InvalidArgument: a suffix of no container.
        VideoError: the file cannot be made.
    """

    def __init__(self, path: str | Path, *, size: tuple[int, int], rate: Fraction | float | None = None) -> None:
        self.path = Path(path)
        suffix = self.path.suffix.lower()
        if suffix not in SUFFIXES:
            raise InvalidArgument(f"{path}: expected a suffix of a video ({' '.join(sorted(SUFFIXES))})")
        self._av = load_pyav(str(path))
        self._last = -1
        rate = Fraction(rate or 30).limit_denominator(1001)
        self.codec = "libx264" if self._has_h264(size) else "mpeg4"
        options = {"movflags": "hybrid_fragmented", "flush_packets": "1"} if suffix in _FRAGMENTED else {}
        try:
            self._file = self._av.open(f"file:{self.path}", "w", format=_muxer(suffix), container_options=options)
            self._stream: Any = self._file.add_stream(self.codec, rate=rate)
            self._stream.height, self._stream.width = size
            self._stream.pix_fmt = "yuv420p"
            # A fragment ends where a key frame begins. B-frames would shift all times by their delay.
            every = {"g": str(max(1, round(2 * rate))), "bf": "0"}
            quality = {"crf": "20", "preset": "veryfast"} if self.codec == "libx264" else {"b": "8M"}
            self._stream.options = every | quality
            self._ticks = Fraction(1, _CLOCK if self.codec == "libx264" else _MPEG4_CLOCK)
            self._stream.codec_context.time_base = self._ticks
        except (self._av.FFmpegError, OSError, ValueError) as e:
            raise VideoError(f"{path}: cannot be written: {getattr(e, 'strerror', None) or e}") from e

    def _has_h264(self, size: tuple[int, int]) -> bool:
        return size[0] % 2 == size[1] % 2 == 0 and "libx264" in self._av.codecs_available

    def write(self, bgr: ByteArray, time_s: float) -> None:
        """Adds a picture.

        Args:
            bgr: uint8 [H, W, 3] BGR.
            time_s: when it is shown, in s from the start; later than the one before, or it is put right behind that.

        Raises:
            VideoError: the encoder or the file refused it.
        """
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(bgr), format="bgr24")
        self._last = max(round(Fraction(time_s) / self._ticks), self._last + 1)
        frame.pts, frame.time_base = self._last, self._ticks
        try:
            self._file.mux(self._stream.encode(frame))
        except (self._av.FFmpegError, OSError, ValueError) as e:
            raise VideoError(f"{self.path}: cannot be written: {getattr(e, 'strerror', None) or e}") from e

    def close(self) -> None:
        """Completes the file. May be called twice.

        Raises:
            VideoError: the rest cannot be written.
        """
        if self._stream is None:
            return
        stream, self._stream = self._stream, None
        try:
            if self._last >= 0:
                self._file.mux(stream.encode())
            self._file.close()
        except (self._av.FFmpegError, OSError, ValueError) as e:
            raise VideoError(f"{self.path}: cannot be completed: {getattr(e, 'strerror', None) or e}") from e

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _muxer(suffix: str) -> str:
    return {".mkv": "matroska", ".mov": "mov"}.get(suffix, "mp4")
