"""From the bytes of a file to pixels: `images.load` against cv2.imdecode, and against Pillow itself.

The picture is the 1920x1080 frame, in the formats that cameras and web clients send. swiftdet decodes with Pillow and
adds checks (size, EXIF, animation) before and after; the bound is for that addition. OpenCV is what most pipelines
decode with: it brings its own copies of the same libraries, so its time tells how Pillow was built, and there is no
promise about it. All sides give the same pixels. The clock counts processor time: each side works in one thread, and
that is what a busy machine disturbs least.
"""

from __future__ import annotations

import io
import time
from functools import partial

import numpy as np
import pytest
from PIL import Image

from alternating import Rounds, replayed, timed
from swiftdet import images

cv2 = pytest.importorskip("cv2", reason="OpenCV is the peer")

FORMATS = {"JPEG": ".jpg", "PNG": ".png", "WebP": ".webp"}
ADDED = 1.1
ROUNDS, WARMUP = 60, 3


def by_swiftdet(content):
    return images.load(content).bgr()


def by_pillow(content):
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB"))[:, :, ::-1]


def by_opencv(content):
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)


SIDES = {"swiftdet": by_swiftdet, "pillow": by_pillow, "opencv": by_opencv}


@pytest.fixture(scope="module", params=FORMATS)
def encoded(request, frame):
    """Name of a case, and its rounds: a file that every side reads alike."""
    done, content = cv2.imencode(FORMATS[request.param], frame)
    assert done
    content = content.tobytes()
    height, width = frame.shape[:2]
    expected = by_opencv(content)
    assert expected.shape == frame.shape
    for decode in SIDES.values():
        np.testing.assert_array_equal(decode(content), expected)
    turns = {side: timed(partial(decode, content), time.process_time) for side, decode in SIDES.items()}
    return f"decode {request.param}, {width}x{height}", Rounds(turns, rounds=ROUNDS, warmup=WARMUP)


@replayed
@pytest.mark.parametrize("side", SIDES)
def test_decode(benchmark, encoded, side):
    case, rounds = encoded
    bound = ADDED if side == "swiftdet" else None
    benchmark.extra_info.update(case=case, side=side, bound=bound, unbounded=side == "opencv")
    rounds.report(benchmark, side)
