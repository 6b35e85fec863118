"""Draws an image twice, as the reference and as the test see it, and marks what differs."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image as PilImage
from PIL import ImageColor, ImageDraw, ImageFont

from swiftdet import drawing
from swiftdet.verification.comparison import ImageComparison, Tolerance
from swiftdet.verification.matching import Floats, Found

SIDE_PX = 560
"""The longer side of a picture in the report."""

COLOURS = {
    "same": "#e8e8e8",
    "moved": "#ffb000",
    "flipped": "#e84fd0",
    "nms": "#1e9bff",
    "alone": "#ff3b5c",
}
"""Of a box, by what became of it."""

_JPEG_QUALITY = 85
_FONT_PX = 13
_DASH_PX = 6


@dataclass(frozen=True)
class _Mark:
    box: Floats
    kind: str
    label: str = ""
    missing: bool = False  # is on the other side alone


def side_by_side(
    bgr: npt.NDArray[np.uint8], compared: ImageComparison, names: Sequence[str], tolerance: Tolerance
) -> tuple[bytes, bytes]:
    """Two JPEG files, reference and test, in the colours of `COLOURS`; a dashed box is where the other side has one.

    Args:
        bgr: uint8 [H, W, 3].
        compared: what was found in it.
        names: of the classes.
        tolerance: a pair that is farther apart counts as moved.
    """
    height, width = bgr.shape[:2]
    zoom = SIDE_PX / max(height, width)
    size = max(1, round(width * zoom)), max(1, round(height * zoom))
    picture = PilImage.fromarray(np.ascontiguousarray(bgr[:, :, ::-1])).resize(size, PilImage.Resampling.LANCZOS)
    marks = list(_marks(compared, names, tolerance))
    first, second = (_drawn(picture, [pair[side] for pair in marks], zoom) for side in (0, 1))
    return first, second


def _marks(compared: ImageComparison, names: Sequence[str], tolerance: Tolerance) -> Iterator[tuple[_Mark, _Mark]]:
    """What to draw on the left and on the right, from what matters least to what matters most."""
    found = compared.found

    def named(side: Found, row: int) -> str:
        return f"{names[side.cls[row]]} {side.conf[row]:.3f}"

    far = (compared.network_box_errors > tolerance.box_px) | (compared.score_errors > tolerance.score)
    for moved in (False, True):
        for (i, j), error in zip(compared.pairs[far == moved].tolist(), compared.box_errors[far == moved], strict=True):
            kind = "moved" if moved else "same"
            labels = (named(found[0], i), f"{named(found[1], j)}, {error:.2g} px") if moved else ("", "")
            yield _Mark(found[0].xyxy[i], kind, labels[0]), _Mark(found[1].xyxy[j], kind, labels[1])
    for kind in ("nms", "alone"):
        for side in (0, 1):
            for row in getattr(compared.outcomes[side], kind).tolist():
                here = _Mark(found[side].xyxy[row], kind, named(found[side], row))
                there = _Mark(found[side].xyxy[row], kind, missing=True)
                yield (here, there) if side == 0 else (there, here)
    for i, j in compared.flips.tolist():
        yield (
            _Mark(found[0].xyxy[i], "flipped", named(found[0], i)),
            _Mark(found[1].xyxy[j], "flipped", named(found[1], j)),
        )


def _drawn(picture: PilImage.Image, marks: Sequence[_Mark], zoom: float) -> bytes:
    canvas = picture.copy()
    draw = ImageDraw.Draw(canvas)
    for mark in marks:
        box = [round(side * zoom) for side in mark.box.tolist()]
        if mark.missing:
            _dashed(draw, box, COLOURS[mark.kind])
        else:
            draw.rectangle((box[0] - 1, box[1] - 1, box[2] + 1, box[3] + 1), outline="black")
            draw.rectangle(tuple(box), outline=COLOURS[mark.kind], width=1 if mark.kind == "same" else 3)
    labels = drawing.Canvas(draw, ImageFont.load_default(_FONT_PX), picture.size)
    taken: list[drawing.Rect] = []
    for mark in reversed(marks):  # what matters most has the first choice of place
        if mark.label:
            left, top, right, bottom = (round(side * zoom) for side in mark.box.tolist())
            color = ImageColor.getrgb(COLOURS[mark.kind])[:3]
            taken.append(drawing.draw_label(labels, (left, top, right, bottom), color, mark.label, taken))
    content = io.BytesIO()
    canvas.save(content, format="JPEG", quality=_JPEG_QUALITY)
    return content.getvalue()


def _dashed(draw: ImageDraw.ImageDraw, box: Sequence[int], colour: str) -> None:
    left, top, right, bottom = box
    for x in range(left, right, 2 * _DASH_PX):
        for y in (top, bottom):
            draw.line((x, y, min(x + _DASH_PX, right), y), fill=colour, width=2)
    for y in range(top, bottom, 2 * _DASH_PX):
        for x in (left, right):
            draw.line((x, y, x, min(y + _DASH_PX, bottom)), fill=colour, width=2)
