"""The report as one HTML page that needs no other file and no script."""

from __future__ import annotations

import base64
import importlib.resources
from collections.abc import Sequence
from typing import Any

import jinja2

from swiftdet import images
from swiftdet.measurements import Document
from swiftdet.verification import pictures
from swiftdet.verification.comparison import Tolerance
from swiftdet.verification.gates import TITLES
from swiftdet.verification.worst import ComparedImage

_TEMPLATE = "report.html.jinja"
_SIDES = (
    ("model", "model"),
    ("engine", "engine"),
    ("device", "device"),
    ("computes in", "precision"),
    ("weights in", "weights_precision"),
    ("network input", "imgsz"),
    ("file, SHA-256", "model_sha256"),
    ("graph, SHA-256", "graph_sha256"),
    ("engine plan, SHA-256", "engine_sha256"),
)


def render(document: Document, worst: Sequence[ComparedImage], names: Sequence[str]) -> str:
    """The page of a document, with the pictures of the images that differ most.

    Raises:
        ImageError: an image cannot be read again.
    """
    measured = document["measured"]
    tolerance = Tolerance(measured["conf"], measured["tolerance"]["same_score"], measured["tolerance"]["same_box_px"])
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["number"] = _number
    text = (importlib.resources.files("swiftdet.verification") / _TEMPLATE).read_text("utf-8")
    return environment.from_string(text).render(
        document=document,
        measured=measured,
        sides=[(label, measured["reference"][key], document["subject"][key]) for label, key in _SIDES],
        shown=[(image.row(), _pictures(image, names, tolerance)) for image in worst],
        colours=pictures.COLOURS,
        titles=TITLES,
    )


def _pictures(image: ComparedImage, names: Sequence[str], tolerance: Tolerance) -> list[str]:
    """Data URIs of both sides."""
    bgr = images.load(image.source).bgr()
    return [
        "data:image/jpeg;base64," + base64.b64encode(content).decode("ascii")
        for content in pictures.side_by_side(bgr, image.compared, names, tolerance)
    ]


def _number(value: Any) -> str:
    """A figure for people: four digits, nothing for nothing."""
    if value is None:
        return "\u2013"  # a dash
    return f"{value:,}".replace(",", "\u202f") if isinstance(value, int) else f"{value:.4g}"
