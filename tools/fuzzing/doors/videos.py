"""Video files, of every container and coding that is read."""

from __future__ import annotations

import random

import little_videos
from fuzzing import mutations
from fuzzing.door import Door
from swiftdet.errors import VideoError
from swiftdet.images import Image
from swiftdet.sources import expand, videos

_KINDS = (
    ("mp4", "libx264", "yuv420p"),
    ("mov", "mpeg4", "yuv420p"),
    ("avi", "mjpeg", "yuvj420p"),
    ("ts", "libx264", "yuv420p"),
    ("mkv", "libx265", "yuv420p"),
    ("webm", "libvpx-vp9", "yuv420p"),
    ("flv", "libx264", "yuv420p"),
    ("mpg", "mpeg2video", "yuv420p"),
    ("wmv", "wmv2", "yuv420p"),
    ("y4m", "rawvideo", "yuv420p"),
    ("mjpeg", "mjpeg", "yuvj420p"),
)
_TOKENS = (
    b"ftyp", b"moov", b"trak", b"tkhd", b"mdia", b"stsd", b"stts", b"stsc", b"stsz", b"stco", b"ctts", b"elst", b"avcC",
    b"\0\0\0\1\x67", b"\0\0\0\1\x68", b"\0\0\0\1\x65", b"\0\0\1\xb3", b"\0\0\1\xba", b"\0\0\1\xe0", b"\x47\x40\0\x10",
    b"RIFF", b"LIST", b"movi", b"idx1", b"00dc", b"\x1a\x45\xdf\xa3", b"\xa3", b"\x1f\x43\xb6\x75", b"OggS",
    b"FLV\1", b"#EXTM3U\nfile:///etc/passwd\n", b"ffconcat version 1.0\nfile x\n", b"YUV4MPEG2 W9 H9 F25:1\nFRAME\n",
)  # fmt: skip


class VideoDoor(Door):
    """`swiftdet.sources`: every frame of a video file, by FFmpeg."""

    memory_mib = 1024  # a frame of the largest size that is decoded, three times

    def prepare(self) -> None:
        """A short film of every container and coding that PyAV's FFmpeg writes."""
        self._seeds = [(suffix, self._film(suffix, codec, pix_fmt)) for suffix, codec, pix_fmt in _KINDS]
        self._contents = [content for _, content in self._seeds]

    def _film(self, suffix: str, codec: str, pix_fmt: str) -> bytes:
        path = self.folder / f"seed.{suffix}"
        options = {"x265-params": "log-level=none:pools=none:frame-threads=1"} if codec == "libx265" else {}
        little_videos.write(path, little_videos.pictures(6), codec=codec, pix_fmt=pix_fmt, options=options)
        return path.read_bytes()

    def warm_up(self) -> None:
        """Loads every decoder."""
        for suffix, content in self._seeds:
            self.run(mutations.pack(suffix.encode(), content))

    def case(self, rng: random.Random) -> bytes:
        """A film changed as bytes, under its own suffix or another's."""
        suffix, content = rng.choice(self._seeds)
        if rng.random() < 0.05:
            suffix = rng.choice(self._seeds)[0]
        return mutations.pack(suffix.encode(), mutations.of_bytes(content, rng, others=self._contents, tokens=_TOKENS))

    def run(self, case: bytes) -> str:
        """Decodes all of it; frames, damaged or not, are numbered without a gap."""
        suffix, content = mutations.unpack(case, 2)
        path = self.folder / f"case.{suffix.decode(errors='replace')}"
        path.write_bytes(content)
        frames = damaged = 0
        try:
            for item in videos.read(expand(path)[0]):
                index = item.frame.index if isinstance(item, Image) else item.info.index
                if index != frames + damaged:
                    raise AssertionError(f"expected frame {frames + damaged}, got {index}")
                frames += isinstance(item, Image)
                damaged += not isinstance(item, Image)
        except VideoError:
            if not frames:
                raise
            return "broke off"
        return "damaged frames" if damaged else "decoded"
