"""Where a picture of a moving source belongs: which video, which frame, when."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """What a container says about its video; None where it does not say.

    Attributes:
        name: the path, address or device, without a password.
        rate: frames per second, on average.
        frames: how many there should be.
        duration_s: seconds from the first frame to the end of the last.
    """

    name: str
    rate: Fraction | None = None
    frames: int | None = None
    duration_s: float | None = None


@dataclass(frozen=True, slots=True)
class FrameInfo:
    """One frame's place.

    Attributes:
        video: what it belongs to.
        index: its number, from 0; frames that could not be decoded, or were dropped as stale, are counted too.
        time_s: when it is to be shown, in s from the start of the video.
    """

    video: VideoInfo
    index: int
    time_s: float
