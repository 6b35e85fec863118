"""Draws boxes and labels on an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image as PilImage
from PIL import ImageDraw, ImageFont

from swiftdet.errors import InvalidArgument

RGB: TypeAlias = tuple[int, int, int]
Rect: TypeAlias = tuple[float, float, float, float]

# Hues far apart for neighbouring class ids, all bright enough to stand out from photographs.
_PALETTE: tuple[RGB, ...] = tuple(
    (int(code[:2], 16), int(code[2:4], 16), int(code[4:], 16))
    for code in (
        *("ff3b5c", "1e9bff", "2fbf5b", "ffb000", "a25bff", "00c2c7", "ff7a1a", "e84fd0", "9fd10a", "3f5efb"),
        *("ff8f8f", "00a37a", "d1b500", "7c4dff", "12b4ff", "c2410c", "68d391", "d946ef", "0f766e", "f472b6"),
    )
)

FontType: TypeAlias = ImageFont.ImageFont | ImageFont.FreeTypeFont


def class_color(cls: int) -> RGB:
    """The colour of a class, as (red, green, blue) 0..255: the same in every picture."""
    return _PALETTE[cls % len(_PALETTE)]


def draw_boxes(
    bgr: npt.NDArray[np.uint8],
    xyxy: npt.NDArray[np.float32],
    cls: npt.NDArray[np.int32],
    labels: Sequence[str],
    *,
    line_width: int | None = None,
    font_size: float | None = None,
    font: str | Path | None = None,
) -> npt.NDArray[np.uint8]:
    """A copy of the image with a coloured box and a label per row; earlier rows lie on top.

    A label sits on top of its box, inside where the box begins at the image's edge, and elsewhere along the box
    where it would cover another label. Safe from several threads.

    Args:
        bgr: uint8 [H, W, 3] BGR, any strides; not changed.
        xyxy: float32 [K, 4] px of that image.
        cls: int32 [K] class ids, for the colours.
        labels: K texts; an empty one draws the box alone.
        line_width: px; None: by the image's size.
        font_size: px; None: by the image's size.
        font: a TrueType file; None: Pillow's own font, which covers Latin scripts.

    Returns:
        uint8 [H, W, 3] BGR, contiguous.

    Raises:
        InvalidArgument: a width or size that is not positive, a font that cannot be read.
    """
    height, width = bgr.shape[:2]
    short = min(height, width)
    line = max(1, round(short / 280)) if line_width is None else line_width
    size = float(np.clip(short / 36, 11, 48)) if font_size is None else font_size
    if line < 1 or size <= 0:
        raise InvalidArgument(f"plot: expected line_width >= 1 and font_size > 0, got {line} and {size}")
    typeface = _font(font, size)
    picture = PilImage.fromarray(np.ascontiguousarray(bgr[:, :, ::-1]))
    draw = ImageDraw.Draw(picture)
    rects: list[Rect] = [
        (
            float(np.clip(round(x1), 0, width - 1)),
            float(np.clip(round(y1), 0, height - 1)),
            float(np.clip(round(x2), 0, width - 1)),
            float(np.clip(round(y2), 0, height - 1)),
        )
        for x1, y1, x2, y2 in xyxy.tolist()
    ]
    colors = [class_color(i) for i in cls.tolist()]
    for rect, color in reversed(list(zip(rects, colors, strict=True))):
        x1, y1, x2, y2 = rect
        # Sides given in the wrong order have no outline that Pillow could draw.
        draw.rectangle((x1, y1, max(x1, x2), max(y1, y2)), outline=color, width=line)
    canvas = Canvas(draw, typeface, (width, height))
    taken: list[Rect] = []
    for rect, color, label in zip(rects, colors, labels, strict=True):
        if label:
            taken.append(draw_label(canvas, rect, color, label, taken))
    return np.ascontiguousarray(np.asarray(picture)[:, :, ::-1])


def _font(font: str | Path | None, size: float) -> FontType:
    if font is None:
        return ImageFont.load_default(size)
    try:
        return ImageFont.truetype(str(font), size)
    except OSError as e:
        raise InvalidArgument(f"plot: cannot read the font {str(font)!r}: expected a TrueType or OpenType file") from e


@dataclass(frozen=True)
class Canvas:
    """Where labels are written.

    Attributes:
        draw: of the picture.
        font: of the labels.
        size: (width, height) px of the picture.
    """

    draw: ImageDraw.ImageDraw
    font: FontType
    size: tuple[int, int]


def draw_label(canvas: Canvas, box: Rect, color: RGB, label: str, taken: Sequence[Rect]) -> Rect:
    """Draws one label where it fits best; returns the rectangle that it covers.

    Args:
        canvas: to draw on.
        box: left, top, right, bottom of what the label belongs to, px.
        color: behind the text.
        label: the text.
        taken: rectangles of labels that should stay readable.
    """
    # Ascender and descender of one text for all, so that all labels are equally high.
    _, top, _, bottom = canvas.draw.textbbox((0, 0), "Ag", font=canvas.font)
    left, _, right, _ = canvas.draw.textbbox((0, 0), label, font=canvas.font)
    pad = max(2, round((bottom - top) * 0.22))
    size = (right - left + 2 * pad, bottom - top + 2 * pad)
    rect = _place(box, size, canvas.size, taken)
    canvas.draw.rectangle((rect[0], rect[1], rect[2] - 1, rect[3] - 1), fill=color)
    canvas.draw.text((rect[0] + pad - left, rect[1] + pad - top), label, font=canvas.font, fill=_ink(color))
    return rect


def _place(box: Rect, size: tuple[float, float], image_size: tuple[int, int], taken: Sequence[Rect]) -> Rect:
    """Where the label goes: the first place that hides no other label, else the first of all."""
    (x1, y1, x2, y2), (w, h), (width, height) = box, size, image_size
    columns = (x1, x2 + 1 - w)
    rows = (y1 - h, y1, y2 + 1 - h, y2 + 1) if y1 >= h else (y1, y2 + 1, y2 + 1 - h, y1)
    places = [
        _shift_inside((x, y, x + w, y + h), (width, height)) for y in rows for x in columns if x == x1 or w <= x2 - x1
    ]
    return next((place for place in places if not any(_overlap(place, other) for other in taken)), places[0])


def _shift_inside(rect: Rect, image_size: tuple[int, int]) -> Rect:
    x1, y1, x2, y2 = rect
    dx = max(min(0.0, image_size[0] - x2), -x1)
    dy = max(min(0.0, image_size[1] - y2), -y1)
    return (x1 + dx, y1 + dy, x2 + dx, y2 + dy)


def _overlap(a: Rect, b: Rect) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _ink(background: RGB) -> RGB:
    """Black or white, whichever has the larger WCAG contrast on the background."""
    linear = [c / 255 / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in background]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return (0, 0, 0) if (luminance + 0.05) / 0.05 > 1.05 / (luminance + 0.05) else (255, 255, 255)
