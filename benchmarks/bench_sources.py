"""A video through `predict(stream=True)`, against the loops that people write: decode, detect, repeat.

All sides take the same 1920x1080 H.264 film of 30 frames and the same detector, YOLOv8s at 640x640 on OpenVINO's CPU
plugin. The peers are PyAV and then OpenCV in a plain loop around `det(frame)`. The stream decodes the next frames while
the network computes; how much that gains depends on what decoding takes, on the cores that the network leaves, and on
the consumer: here it does nothing but look.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

import little_videos
from alternating import Rounds, replayed, timed

FRAMES, ROUNDS = 30, 5


@pytest.fixture(scope="module")
def film(frame, tmp_path_factory):
    """The photograph, moving to the left."""
    pytest.importorskip("av")
    frames = [np.ascontiguousarray(np.roll(frame, -8 * i, axis=1)) for i in range(FRAMES)]
    options = {"g": "30", "preset": "veryfast", "crf": "20"}
    return little_videos.write(tmp_path_factory.mktemp("film") / "film.mp4", frames, options=options)


@pytest.fixture(scope="module")
def detector(real_model):
    import swiftdet

    with swiftdet.Detector(real_model, device="cpu") as detector:
        detector(np.zeros((1080, 1920, 3), np.uint8))
        yield detector


def by_stream(detector, film):
    return [len(result) for result in detector.predict(film, stream=True)]


def by_pyav(detector, film):
    import av

    with av.open(str(film)) as file:
        return [len(detector(frame.to_ndarray(format="bgr24"))) for frame in file.decode(video=0)]


def by_opencv(detector, film):
    import cv2

    capture = cv2.VideoCapture(str(film))
    found = []
    while True:
        there, frame = capture.read()
        if not there:
            return found
        found.append(len(detector(frame)))


SIDES = {"swiftdet": by_stream, "pyav loop": by_pyav, "opencv loop": by_opencv}


@pytest.fixture(scope="module")
def rounds(detector, film):
    """Rounds of the three loops, which find the same."""
    found = by_stream(detector, film)
    assert len(found) == FRAMES
    assert sum(found) > 0
    assert by_pyav(detector, film) == found
    # OpenCV converts colours by another interpolation, so a box near the threshold may differ.
    assert sum(a != b for a, b in zip(found, by_opencv(detector, film), strict=True)) <= FRAMES // 10
    turns = {side: timed(partial(run, detector, film)) for side, run in SIDES.items()}
    return Rounds(turns, rounds=ROUNDS, warmup=0)


@replayed
@pytest.mark.parametrize("side", SIDES)
def test_film(benchmark, rounds, side):
    benchmark.extra_info.update(case=f"film of {FRAMES} frames, 1920x1080, YOLOv8s", side=side, bound=None)
    rounds.report(benchmark, side)
