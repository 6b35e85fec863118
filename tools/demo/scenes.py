"""Scenes of the demo data set: a background, clutter, objects that overlap, and what a camera does to them.

Everything is drawn at twice the size and reduced by area, which gives soft edges and boxes to half a pixel. A box is
the extent of what can be seen of an object (COCO's convention); of every object at least `MIN_VISIBLE` can be seen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from drawings import DRAWINGS, Paint, Polygon

Image = npt.NDArray[np.uint8]
"""BGR, [H, W, 3]."""
Pixels: TypeAlias = "tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]"
"""Rows and columns."""

MIN_VISIBLE = 0.4
_SUPERSAMPLING = 2
_MIN_SIDE_PX = 10.0


@dataclass(frozen=True)
class SceneObject:
    """An object as it is seen.

    Attributes:
        class_id: index into `DRAWINGS`.
        box: x1, y1, x2, y2 px of the finished image, half a pixel exact.
        area: px that are seen of it.
    """

    class_id: int
    box: tuple[float, float, float, float]
    area: float


def draw_scene(
    rng: np.random.Generator, size: tuple[int, int], *, objects: tuple[int, int] = (1, 9)
) -> tuple[Image, list[SceneObject]]:
    """One scene of `size` (height, width) px, with a number of objects drawn from the range `objects`.

    Fewer come about where the last would hide others.
    """
    big = (size[0] * _SUPERSAMPLING, size[1] * _SUPERSAMPLING)
    canvas = _background(rng, big)
    owner = np.full(big, -1, np.int16)  # the object that is seen at each pixel
    drawn: list[tuple[int, float]] = []  # class, area of the whole silhouette inside the image
    for _ in range(int(rng.integers(objects[0], objects[1] + 1))):
        class_id = int(rng.integers(len(DRAWINGS)))
        canvas, owner, area = _place(rng, canvas, owner, class_id, drawn)
        if area:
            drawn.append((class_id, area))
    canvas, owner = _foreground(rng, canvas, owner, drawn)
    image = cv2.resize(canvas, (size[1], size[0]), interpolation=cv2.INTER_AREA)
    return _camera(rng, image), _seen(owner, drawn)


# --- Objects ----------------------------------------------------------------------------------------------------------


def _place(
    rng: np.random.Generator, canvas: Image, owner: npt.NDArray[np.int16], class_id: int, drawn: list[tuple[int, float]]
) -> tuple[Image, npt.NDArray[np.int16], float]:
    """Tries a few places for an object; where each would hide too much of another, leaves the scene as it was."""
    height, width = owner.shape
    patches = list(DRAWINGS.values())[class_id](rng)
    colours = _colours(rng)
    shade = rng.uniform(-0.35, 0.35, 2)
    for _ in range(4):
        half = 0.5 * max(height, width) * math.exp(rng.uniform(math.log(0.08), math.log(0.5)))
        centre = rng.uniform(0.0, 1.0, 2) * (width, height)
        transform = _pose(rng) * half
        paper, silhouette = canvas.copy(), np.zeros(owner.shape, np.uint8)
        for patch in patches:
            outline = _fixed_point(patch.outline @ transform.T + centre)
            cv2.fillPoly(paper, [outline], colours[patch.paint], cv2.LINE_8, shift=4)
            cv2.fillPoly(silhouette, [outline], 1, cv2.LINE_8, shift=4)
        rows, columns = np.nonzero(silhouette)
        # Most of the object lies inside the image, and it is neither a speck nor hides another.
        if len(rows) < 0.5 * _area_outside_too(patches, transform) or not len(rows):
            continue
        if min(np.ptp(rows), np.ptp(columns)) < _MIN_SIDE_PX * _SUPERSAMPLING:
            continue
        covered = owner.copy()
        covered[rows, columns] = len(drawn)
        if not _all_seen(covered, drawn):
            continue
        return _shaded(rng, canvas, paper, (rows, columns), shade), covered, float(len(rows))
    return canvas, owner, 0.0


def _pose(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Rotation by up to 25 degrees, aspect, a little shear, mirrored half of the time."""
    angle = math.radians(rng.uniform(-25, 25))
    rotation = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    aspect = math.exp(rng.uniform(-0.2, 0.2))
    shear = np.array([[1.0, rng.uniform(-0.15, 0.15)], [0.0, 1.0]])
    mirror = float(rng.choice([-1.0, 1.0]))
    return rotation @ shear @ np.diag([mirror * aspect, 1.0 / aspect])


def _area_outside_too(patches: list, transform: npt.NDArray[np.float64]) -> float:
    """Area of the whole silhouette in px, wherever it lies; patches that overlap are counted once."""
    grid = np.zeros((128, 128), np.uint8)
    for patch in patches:
        cv2.fillPoly(grid, [_fixed_point(patch.outline * 40.0 + 64.0)], 1, cv2.LINE_8, shift=4)
    return float(grid.sum()) / 40.0**2 * abs(float(np.linalg.det(transform)))


def _colours(rng: np.random.Generator) -> dict[Paint, tuple[int, int, int]]:
    """Two hues apart from one another, a dark and a light tone."""
    hue = rng.uniform(0, 180)
    return {
        "main": _hsv(hue, rng.uniform(90, 255), rng.uniform(110, 245)),
        "accent": _hsv(hue + rng.uniform(30, 150), rng.uniform(60, 255), rng.uniform(90, 255)),
        "dark": _hsv(rng.uniform(0, 180), rng.uniform(0, 120), rng.uniform(15, 80)),
        "light": _hsv(rng.uniform(0, 180), rng.uniform(0, 60), rng.uniform(190, 255)),
    }


def _hsv(hue: float, saturation: float, value: float) -> tuple[int, int, int]:
    pixel = np.array([[[hue % 180, saturation, value]]], np.uint8)
    blue, green, red = cv2.cvtColor(pixel, cv2.COLOR_HSV2BGR)[0, 0]
    return int(blue), int(green), int(red)


def _shaded(
    rng: np.random.Generator, canvas: Image, paper: Image, seen: Pixels, slope: npt.NDArray[np.float64]
) -> Image:
    """The painted object with light from one side and a grain, on the canvas."""
    rows, columns = seen
    extent = max(np.ptp(rows), np.ptp(columns), 1)
    light = 1.0 + slope[0] * (columns - columns.mean()) / extent + slope[1] * (rows - rows.mean()) / extent
    light += rng.normal(0.0, rng.uniform(0.0, 0.12), light.shape)
    canvas[rows, columns] = np.clip(paper[rows, columns] * light[:, None], 0, 255).astype(np.uint8)
    return canvas


def _all_seen(owner: npt.NDArray[np.int16], drawn: list[tuple[int, float]]) -> bool:
    counts = np.bincount(owner[owner >= 0], minlength=len(drawn))
    return all(count >= MIN_VISIBLE * area for count, (_, area) in zip(counts, drawn, strict=False))


def _seen(owner: npt.NDArray[np.int16], drawn: list[tuple[int, float]]) -> list[SceneObject]:
    objects = []
    for index, (class_id, _) in enumerate(drawn):
        rows, columns = np.nonzero(owner == index)
        left, top, right, bottom = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        box = tuple(float(edge) / _SUPERSAMPLING for edge in (left, top, right, bottom))
        objects.append(SceneObject(class_id, box, len(rows) / _SUPERSAMPLING**2))
    return objects


# --- Surroundings -----------------------------------------------------------------------------------------------------


def _background(rng: np.random.Generator, size: tuple[int, int]) -> Image:
    """Two colours that blend, smooth noise in several grains, sometimes a horizon or stripes, and clutter."""
    height, width = size
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    angle = rng.uniform(0, 2 * math.pi)
    ramp = (math.cos(angle) * x / width + math.sin(angle) * y / height + 1.5) / 3.0
    if rng.random() < 0.35:
        ramp = (y > height * rng.uniform(0.3, 0.8)).astype(np.float32) * 0.6 + ramp * 0.4
    if rng.random() < 0.25:
        period = rng.uniform(10, 80)
        ramp = ramp + 0.25 * np.sin((math.cos(angle) * y + math.sin(angle) * x) / period * 2 * math.pi)
    first, second = (rng.uniform(25, 230) + rng.uniform(-55, 55, 3) for _ in range(2))
    image = first + (second - first) * np.clip(ramp, 0, 1)[..., None]
    for cells in (4, 12, 40):
        grey, colour = rng.normal(0, rng.uniform(2, 16), (cells, cells, 1)), rng.normal(0, 5, (cells, cells, 3))
        image += cv2.resize((grey + colour).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    canvas = np.clip(image, 0, 255).astype(np.uint8)
    for _ in range(int(rng.integers(0, 10))):
        _clutter(rng, canvas)
    return canvas


def _foreground(
    rng: np.random.Generator, canvas: Image, owner: npt.NDArray[np.int16], drawn: list[tuple[int, float]]
) -> tuple[Image, npt.NDArray[np.int16]]:
    """Things that stand before the objects: poles, leaves. Each is left out where it would hide too much."""
    for _ in range(int(rng.integers(0, 4))):
        painted, mask = canvas.copy(), np.zeros(owner.shape, np.uint8)
        outline = _fixed_point(_blob(rng, owner.shape) if rng.random() < 0.5 else _pole(rng, owner.shape))
        cv2.fillPoly(painted, [outline], _hsv(*rng.uniform((0, 20, 30), (180, 200, 230))), cv2.LINE_8, shift=4)
        cv2.fillPoly(mask, [outline], 1, cv2.LINE_8, shift=4)
        covered = np.where(mask.astype(bool), np.int16(-1), owner)
        if _all_seen(covered, drawn):
            canvas, owner = painted, covered
    return canvas, owner


def _clutter(rng: np.random.Generator, canvas: Image) -> None:
    """A polygon or a line that is no object, painted into the canvas, half transparent at times."""
    colour = _hsv(*rng.uniform((0, 0, 20), (180, 255, 250)))
    layer = canvas.copy()
    if rng.random() < 0.6:
        cv2.fillPoly(layer, [_fixed_point(_blob(rng, canvas.shape[:2], largest=0.2))], colour, cv2.LINE_8, shift=4)
    else:
        ends = rng.uniform(0, 1, (2, 2)) * canvas.shape[1::-1]
        first, second = ends.astype(int).tolist()
        cv2.line(layer, first, second, colour, int(rng.integers(1, 9)), cv2.LINE_AA)
    opacity = rng.uniform(0.4, 1.0)
    cv2.addWeighted(layer, opacity, canvas, 1.0 - opacity, 0.0, dst=canvas)


def _blob(rng: np.random.Generator, size: tuple[int, ...], *, largest: float = 0.12) -> Polygon:
    """A closed outline of 3 to 9 corners round a random point."""
    corners = int(rng.integers(3, 10))
    angle = np.sort(rng.uniform(0, 2 * math.pi, corners))
    radius = rng.uniform(0.3, 1.0, corners) * rng.uniform(0.02, largest) * max(size)
    return rng.uniform(0, 1, 2) * size[1::-1] + np.stack([np.cos(angle), np.sin(angle)], 1) * radius[:, None]


def _pole(rng: np.random.Generator, size: tuple[int, ...]) -> Polygon:
    """A bar across the image, upright or level, up to a thirtieth of it thick."""
    height, width = size[:2]
    thick = rng.uniform(0.006, 0.033) * max(size)
    if rng.random() < 0.7:
        x, lean = rng.uniform(0, width), rng.uniform(-0.1, 0.1) * width
        return np.array([(x, 0), (x + thick, 0), (x + thick + lean, height), (x + lean, height)], np.float64)
    y, lean = rng.uniform(0, height), rng.uniform(-0.1, 0.1) * height
    return np.array([(0, y), (width, y + lean), (width, y + thick + lean), (0, y + thick)], np.float64)


def _fixed_point(outline: Polygon) -> npt.NDArray[np.int32]:
    """For OpenCV: sixteenths of a pixel."""
    return np.round(outline * 16.0).astype(np.int32)


# --- Camera -----------------------------------------------------------------------------------------------------------


def _camera(rng: np.random.Generator, image: Image) -> Image:
    """Blur (lens or motion), exposure, contrast, colour cast, sensor noise; each now and then."""
    if rng.random() < 0.3:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.6))
    elif rng.random() < 0.2:
        image = cv2.filter2D(image, -1, _motion_kernel(rng))
    values = image.astype(np.float32)
    if rng.random() < 0.7:
        mean = values.mean()
        values = (values - mean) * rng.uniform(0.6, 1.3) + mean * rng.uniform(0.65, 1.3)
        values *= rng.uniform(0.88, 1.12, 3)
    if rng.random() < 0.5:
        values += rng.normal(0.0, rng.uniform(1.0, 14.0), values.shape)
    return np.clip(values, 0, 255).astype(np.uint8)


def _motion_kernel(rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """A line of 3 to 7 px at a random angle, of sum 1."""
    length = int(rng.choice([3, 5, 7]))
    kernel = np.zeros((length, length), np.float32)
    kernel[length // 2] = 1.0
    turn = cv2.getRotationMatrix2D(((length - 1) / 2, (length - 1) / 2), rng.uniform(0, 180), 1.0)
    kernel = cv2.warpAffine(kernel, turn, (length, length))
    return kernel / kernel.sum()
