"""The objects of the demo data set, each drawn from polygons inside the unit square.

An object is a list of patches, painted in order: a polygon (vertices [V, 2] in [-1, 1], x right, y down) and a paint.
Random choices are taken from the generator alone, so that one seed gives one drawing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

Polygon: TypeAlias = npt.NDArray[np.float64]
Paint: TypeAlias = Literal["main", "accent", "dark", "light"]


@dataclass(frozen=True)
class Patch:
    """One polygon of a drawing and which of the object's four colours fills it."""

    outline: Polygon
    paint: Paint


def _polygon(*points: tuple[float, float]) -> Polygon:
    return np.array(points, dtype=np.float64)


def _box(left: float, top: float, right: float, bottom: float) -> Polygon:
    return _polygon((left, top), (right, top), (right, bottom), (left, bottom))


def _arc(x: float, y: float, rx: float, ry: float, start: float = 0.0, stop: float = 360.0) -> Polygon:
    """Part of an ellipse, degrees clockwise from the right; the whole by default."""
    angle = np.radians(np.linspace(start, stop, 33))
    return np.stack([x + rx * np.cos(angle), y + ry * np.sin(angle)], axis=1)


def balloon(rng: np.random.Generator) -> list[Patch]:
    """A hot-air balloon: a striped envelope, ropes, a basket."""
    stripe = rng.uniform(0.15, 0.3)
    return [
        Patch(_polygon((-0.5, 0.1), (-0.42, 0.1), (-0.18, 0.75), (-0.24, 0.75)), "dark"),
        Patch(_polygon((0.5, 0.1), (0.42, 0.1), (0.18, 0.75), (0.24, 0.75)), "dark"),
        Patch(np.concatenate([_arc(0, -0.3, 0.7, 0.7, 160, 380), _polygon((0.25, 0.45), (-0.25, 0.45))]), "main"),
        Patch(np.concatenate([_arc(0, -0.3, stripe, 0.7, 180, 360), _polygon((0.1, 0.45), (-0.1, 0.45))]), "accent"),
        Patch(_box(-0.25, 0.7, 0.25, 1.0), "dark"),
    ]


def boat(rng: np.random.Generator) -> list[Patch]:
    """A sailing boat: a hull, a mast, two sails of different size."""
    jib = rng.uniform(0.4, 0.75)
    return [
        Patch(_box(-0.04, -1.0, 0.04, 0.5), "dark"),
        Patch(_polygon((0.08, -0.95), (0.08, 0.35), (0.85, 0.35)), "light"),
        Patch(_polygon((-0.08, -0.7), (-0.08, 0.35), (-jib, 0.35)), "accent"),
        Patch(_polygon((-1.0, 0.45), (1.0, 0.45), (0.65, 0.95), (-0.65, 0.95)), "main"),
    ]


def car(rng: np.random.Generator) -> list[Patch]:
    """A car from the side: body, cabin, windows, two wheels."""
    roof = rng.uniform(-0.6, -0.45)
    wheel = rng.uniform(0.2, 0.26)
    patches = [
        Patch(_polygon((-0.6, 0.0), (-0.4, roof), (0.3, roof), (0.6, 0.0)), "main"),
        Patch(_polygon((-0.48, -0.02), (-0.34, roof + 0.1), (-0.08, roof + 0.1), (-0.08, -0.02)), "light"),
        Patch(_polygon((0.02, -0.02), (0.02, roof + 0.1), (0.24, roof + 0.1), (0.46, -0.02)), "light"),
        Patch(_polygon((-1.0, 0.0), (0.75, 0.0), (1.0, 0.12), (1.0, 0.42), (-1.0, 0.42)), "main"),
        Patch(_box(0.88, 0.12, 1.0, 0.24), "accent"),
    ]
    for x in (-0.55, 0.55):
        patches += [Patch(_arc(x, 0.42, wheel, wheel), "dark"), Patch(_arc(x, 0.42, wheel / 2, wheel / 2), "light")]
    return patches


def fish(rng: np.random.Generator) -> list[Patch]:
    """A fish: an oval body, a forked tail, a fin, an eye, stripes."""
    height = rng.uniform(0.4, 0.6)
    return [
        Patch(_polygon((0.45, 0.0), (1.0, -0.5), (0.85, 0.0), (1.0, 0.5)), "accent"),
        Patch(_polygon((-0.2, -0.8 * height), (0.15, -1.5 * height), (0.35, -0.6 * height)), "accent"),
        Patch(_arc(-0.2, 0, 0.8, height), "main"),
        Patch(_arc(0.1, 0, 0.1, 0.8 * height), "accent"),
        Patch(_arc(-0.65, -0.12, 0.11, 0.11), "light"),
        Patch(_arc(-0.67, -0.12, 0.055, 0.055), "dark"),
    ]


def house(rng: np.random.Generator) -> list[Patch]:
    """A house: walls, a gable roof, a chimney, a door, two windows."""
    eaves = rng.uniform(-0.25, -0.05)
    door = rng.choice([-0.5, 0.0, 0.45])
    chimney = rng.choice([-0.6, 0.4])
    patches = [
        Patch(_box(chimney, -0.95, chimney + 0.2, eaves), "dark"),
        Patch(_box(-0.8, eaves, 0.8, 1.0), "main"),
        Patch(_polygon((-1.0, eaves), (0.0, -1.0), (1.0, eaves)), "accent"),
        Patch(_box(door - 0.15, 0.4, door + 0.15, 1.0), "dark"),
    ]
    windows = [x for x in (-0.5, 0.0, 0.45) if x != door]
    patches += [Patch(_box(x - 0.15, eaves + 0.2, x + 0.15, eaves + 0.55), "light") for x in windows]
    return patches


def mushroom(rng: np.random.Generator) -> list[Patch]:
    """A toadstool: a stem, a cap, spots on it."""
    stem = rng.uniform(0.2, 0.32)
    brim = rng.uniform(0.0, 0.2)
    patches = [
        Patch(_polygon((-stem, brim), (stem, brim), (1.3 * stem, 1.0), (-1.3 * stem, 1.0)), "light"),
        Patch(_arc(0, brim, 0.95, 0.95 + brim, 180, 360), "main"),
    ]
    for x, y, radius in ((-0.5, -0.25, 0.13), (0.0, -0.6, 0.16), (0.45, -0.3, 0.15), (0.05, -0.1, 0.1)):
        patches.append(Patch(_arc(x, brim + y, radius, radius), "light"))
    return patches


def tree(rng: np.random.Generator) -> list[Patch]:
    """A fir: a trunk and three or four tiers that narrow to the top."""
    tiers = int(rng.integers(3, 5))
    patches = [Patch(_box(-0.13, 0.5, 0.13, 1.0), "dark")]
    for tier in range(tiers):
        base = 0.65 - tier * 1.1 / tiers
        half = 0.75 * (1.0 - 0.7 * tier / tiers)
        top = max(-1.0, base - 2.2 / tiers)
        patches.append(Patch(_polygon((-half, base), (0.0, top), (half, base)), "main" if tier % 2 == 0 else "accent"))
    return patches


def umbrella(rng: np.random.Generator) -> list[Patch]:
    """An open umbrella: a canopy in panels with a scalloped hem, a stick, a hook."""
    hook = float(rng.choice([-1.0, 1.0]))
    patches = [
        Patch(_box(-0.045, -1.0, 0.045, 0.85), "dark"),
        Patch(_box(min(0.0, 0.3 * hook), 0.85, max(0.0, 0.3 * hook), 0.97), "dark"),
        Patch(_arc(0, 0.05, 1.0, 0.9, 180, 360), "main"),
        Patch(_arc(0, 0.05, 0.33, 0.9, 180, 360), "accent"),
    ]
    # The hem: what hangs below the rim, in the colour of its panel.
    hem = [(-0.67, "main"), (0.0, "accent"), (0.67, "main")]
    return patches + [Patch(_arc(x, 0.05, 0.33, 0.14, 0, 180), paint) for x, paint in hem]


DRAWINGS: dict[str, Callable[[np.random.Generator], list[Patch]]] = {
    "balloon": balloon,
    "boat": boat,
    "car": car,
    "fish": fish,
    "house": house,
    "mushroom": mushroom,
    "tree": tree,
    "umbrella": umbrella,
}
"""By class name, in the order of the class ids."""
