"""Decodes videos, streams and cameras into upright BGR frames, through PyAV (FFmpeg).

A frame is converted by libswscale with the matrix (BT.601, BT.709, ...) and the range that the stream says it has;
where it says nothing, BT.601 and limited range, as FFmpeg's and OpenCV's own defaults. The display matrix (the rotation
that phones write) is applied as EXIF orientation is to stills. Pixels are taken as they are stored: non-square ones are
not stretched, interlaced ones not combined.

One thread decodes a video. FFmpeg's other modes report a damaged frame at another place, or lose its neighbours.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image as PilImage

from swiftdet.errors import VideoError
from swiftdet.frames import FrameInfo, VideoInfo
from swiftdet.images import ByteArray, Image
from swiftdet.sources.expansion import Video
from swiftdet.sources.pyav import load_pyav

if TYPE_CHECKING:
    from typing_extensions import Self

_LOG = logging.getLogger("swiftdet.sources")

TIMEOUT_S = 5.0
"""How long an address may stay silent, when it is opened and between two packets."""

# What a file may be. FFmpeg would also take playlists (HLS, concat, DASH, SDP), which make it open what they name.
_FILE_FORMATS = (
    "3g2,3gp,asf,avi,flv,h264,hevc,ivf,m4a,m4v,matroska,mj2,mjpeg,mov,mp4,mpeg,mpegts,mpegvideo,mxf,nut,ogg,webm,"
    "yuv4mpegpipe"
)
_HTTP_PROTOCOLS = "http,https,httpproxy,tls,tcp,crypto,data"  # and never a file of this machine


@dataclass(frozen=True, slots=True)
class Damaged:
    """A frame that could not be decoded, or whose data the decoder calls damaged.

    Attributes:
        info: where it belongs.
        reason: in words.
    """

    info: FrameInfo
    reason: str


class VideoReader:
    """One opened video: iterate it for its frames in the order of their presentation. Not for several threads at once.

    Args:
        video: what to open.
        first_index: number of the first frame; above 0 behind a reconnection.
        first_time_s: its time.

    Raises:
        BackendUnavailable: PyAV is not installed.
        VideoError: missing, no video, of a kind that is not read, or not reachable within `TIMEOUT_S`.
    """

    def __init__(self, video: Video, *, first_index: int = 0, first_time_s: float = 0.0) -> None:
        self._av = load_pyav(video.name)
        self._video = video
        self._next_index = first_index
        self._first_time_s = first_time_s
        self._rotation: int | None = None
        self._matrix = b""
        self._container = _opened(self._av, video)
        try:
            self._stream = self._video_stream()
            # Each packet is a picture of its own. Elsewhere one may be held back, or be none to be shown.
            self._one_to_one = self._stream.codec_context.codec.intra_only
            self._start = self._stream.start_time
            self.info = self._described()
        except BaseException:
            self._container.close()
            raise
        self._reformatter = self._av.video.reformatter.VideoReformatter()

    def close(self) -> None:
        """Closes the file or connection. May be called twice."""
        self._container.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Image | Damaged]:
        """The frames that are left; one that does not decode is a `Damaged`, and the next ones follow.

        Raises:
            VideoError: reading failed, which for an address may mean that it went away; or nothing could be decoded.
        """
        decoded = damaged = 0
        for packet in self._packets():
            try:
                frames = self._stream.decode(packet)
            except self._av.FFmpegError as e:
                if packet.size:  # else the decoder is being emptied, and that frame was counted
                    damaged += 1
                    yield Damaged(self._place(None), f"it cannot be decoded: {_words(e)}")
                continue
            if not frames and packet.size and self._one_to_one:
                damaged += 1
                yield Damaged(self._place(None), "its data gave no picture")
            for frame in frames:
                result = self._converted(frame)
                decoded += isinstance(result, Image)
                damaged += isinstance(result, Damaged)
                yield result
        if decoded == 0:
            detail = f"all {damaged} that it has are damaged" if damaged else "it has none"
            raise VideoError(f"{self._video.name}: no frame could be decoded; {detail}")

    def _packets(self) -> Iterator[Any]:
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except self._av.FFmpegError as e:
                raise VideoError(f"{self._video.name}: reading stopped: {_words(e)}") from e
            except IndexError as e:  # PyAV knows the streams that a file began with
                raise VideoError(f"{self._video.name}: reading stopped: a stream began in the middle of it") from e
            if packet is None:
                return
            yield packet

    def _converted(self, frame: Any) -> Image | Damaged:
        place = self._place(frame)
        if frame.is_corrupt:
            return Damaged(place, "the decoder calls it damaged")
        limit = PilImage.MAX_IMAGE_PIXELS
        if limit is not None and frame.width * frame.height > limit:
            return Damaged(place, f"{frame.width}x{frame.height} px is more than the limit of {limit:,} px")
        try:
            pixels = self._reformatter.reformat(frame, format="bgr24", threads=1).to_ndarray()
        except (self._av.FFmpegError, ValueError) as e:
            return Damaged(place, f"its pixels cannot be converted: {_words(e)}")
        pixels, note = _upright(pixels, self._display_matrix(frame))
        pixels.flags.writeable = False
        return Image(pixels, "bgr", self._video.name, note, place)

    def _display_matrix(self, frame: Any) -> bytes:
        """Asked for when the rotation changes: asking makes a cycle of frame and answer only the collector frees."""
        rotation = frame.rotation
        if rotation != self._rotation:
            self._rotation = rotation
            self._matrix = bytes(frame.side_data.get("DISPLAYMATRIX") or b"")
        return self._matrix

    def _place(self, frame: Any) -> FrameInfo:
        """Where the next frame belongs. Without a time stamp it stands behind the one before, by the rate."""
        index = self._next_index
        self._next_index += 1
        pts = None if frame is None else frame.pts
        if pts is not None and self._start is None:
            self._start = pts
        if pts is None or self._start is None or frame.time_base is None:
            since_s = float(index / self.info.rate) - self._first_time_s if self.info.rate else 0.0
        else:
            since_s = float((pts - self._start) * frame.time_base)
        return FrameInfo(self.info, index, self._first_time_s + since_s)

    def _video_stream(self) -> Any:
        streams = self._container.streams.video
        # A cover picture of a film is a stream too, with one frame.
        covers = [stream for stream in streams if "attached_pic" in _dispositions(stream)]
        films = [stream for stream in streams if stream not in covers]
        if not films:
            raise VideoError(f"{self._video.name}: no video in it")
        stream = films[0]
        if stream.codec_context is None:
            raise VideoError(f"{self._video.name}: its coding is not one that this FFmpeg decodes")
        context = stream.codec_context
        context.thread_type = "NONE"
        context.thread_count = 1
        options = {}
        if PilImage.MAX_IMAGE_PIXELS is not None:
            options["max_pixels"] = str(PilImage.MAX_IMAGE_PIXELS)
        if context.name == "mjpeg":
            options["err_detect"] = "explode"  # this decoder shows half a picture otherwise, and does not say so
        context.options = options
        return stream

    def _described(self) -> VideoInfo:
        stream = self._stream
        rate = stream.average_rate or stream.guessed_rate or None
        duration = stream.duration
        seconds = None if duration is None or stream.time_base is None else float(duration * stream.time_base)
        if seconds is None and self._container.duration is not None:
            seconds = self._container.duration / self._av.time_base
        frames = stream.frames or (round(seconds * rate) if seconds and rate else None)
        return VideoInfo(
            name=self._video.name,
            rate=Fraction(rate) if rate else None,
            frames=None if self._video.live else frames,
            duration_s=None if self._video.live else seconds,
        )


def read(
    video: Video, *, reconnect: int = 0, stop: threading.Event | None = None
) -> Generator[Image | Damaged, None, None]:
    """The frames of a video; closed when the iterator ends or is closed.

    Args:
        video: what to open.
        reconnect: times in a row that a live source which broke off or ended is opened anew, after 0.5, 1, 2, ... at
            most 8 s. Frames keep counting; their time continues by the clock.
        stop: ends the waiting between two tries, and the iteration.

    Raises:
        BackendUnavailable, VideoError: as `VideoReader`; a live source that breaks off or ends, after its last try.
    """
    stop = stop or threading.Event()
    index = attempts = 0
    started: float | None = None
    while not stop.is_set():
        elapsed_s = 0.0 if started is None else time.monotonic() - started
        try:
            with VideoReader(video, first_index=index, first_time_s=elapsed_s) as reader:
                for item in reader:
                    if isinstance(item, Image):
                        attempts = 0
                        started = time.monotonic() if started is None else started
                    index += 1
                    yield item
            if not video.live or video.kind == "file":
                return
            raise VideoError(f"{video.name}: the other side ended the stream")  # noqa: TRY301 - as if it broke off
        except VideoError as e:
            # An address that cannot be opened at first is wrong rather than gone, and says so at once.
            if started is None or attempts >= reconnect or not video.live:
                raise
            attempts += 1
            wait_s = min(0.25 * 2**attempts, 8.0)
            _LOG.warning("%s; trying again in %g s (%d of %d)", e, wait_s, attempts, reconnect)
            stop.wait(wait_s)


def _opened(av: ModuleType, video: Video) -> Any:
    """The container, by the rules of its kind.

    Raises:
        VideoError: it cannot be opened.
    """
    options = {"protocol_whitelist": "file", "format_whitelist": _FILE_FORMATS}
    kind: dict[str, Any] = {}
    # "file:" keeps a colon in a name from being taken for a protocol.
    location = f"file:{video.location}"
    if video.kind == "camera":
        location, options, kind = video.location, {}, {"format": "v4l2", "timeout": TIMEOUT_S}
    elif video.kind == "address":
        location, options, kind = video.location, _address_options(video.location), {"timeout": TIMEOUT_S}
    try:
        # Metadata may be in any encoding; none of it is used.
        return av.open(location, container_options=options, metadata_errors="replace", **kind)
    except av.FFmpegError as e:
        advice = ""
        if video.kind == "address" and isinstance(e, av.error.ExitError):
            advice = f" (no answer within {TIMEOUT_S:g} s)"
        raise VideoError(f"{video.name}: cannot be opened: {_words(e)}{advice}") from _without_address(e, video)
    except (OSError, ValueError) as e:
        raise VideoError(f"{video.name}: cannot be opened: {_words(e)}") from _without_address(e, video)


def _address_options(address: str) -> dict[str, str]:
    scheme = address.partition("://")[0].lower()
    if scheme in ("http", "https"):
        return {"protocol_whitelist": _HTTP_PROTOCOLS}
    if scheme in ("rtsp", "rtsps"):
        return {"rtsp_transport": "tcp"}  # over UDP a lost packet is a damaged frame
    return {}


def _without_address(error: Exception, video: Video) -> Exception | None:
    """The cause of an error, unless it would show a password."""
    return error if video.location == video.name else None


def _dispositions(stream: Any) -> str:
    return str(getattr(stream, "disposition", ""))


def _words(error: Exception) -> str:
    """What went wrong, without numbers and without the address."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _upright(pixels: ByteArray, matrix: bytes) -> tuple[ByteArray, str | None]:
    """Applies the display matrix: nine int32, row by row; ISO/IEC 14496-12, 6.2.2 (x' = a x + c y, y' = b x + d y)."""
    if not matrix:
        return pixels, None
    a, b, _, c, d = np.frombuffer(matrix, np.int32, 5).tolist()
    if b == c == 0:
        turned, across, down, words = False, a, d, "turned by 180 degrees"
    elif a == d == 0:
        turned, across, down, words = True, c, b, "turned by 90 degrees"
    else:
        return pixels, "a display matrix that is no quarter turn was not applied"
    if not turned and across >= 0 and down >= 0:
        return pixels, None
    upright = pixels.transpose(1, 0, 2) if turned else pixels
    upright = upright[:, ::-1] if across < 0 else upright
    upright = upright[::-1] if down < 0 else upright
    if turned:
        words = (
            "transposed" if (across < 0) == (down < 0) else f"{words} {'clockwise' if across < 0 else 'anticlockwise'}"
        )
    elif (across < 0) != (down < 0):
        words = "mirrored"
    return np.ascontiguousarray(upright), f"display matrix applied ({words})"
