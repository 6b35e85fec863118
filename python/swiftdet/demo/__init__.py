"""What comes with the package for trying it out: weights of two small detectors, a picture, a validation set.

All of it was made by the scripts in `tools/demo` (docs/demo_models.md): scenes drawn by a program, with objects of
eight kinds. The detectors, `demo-yolov7` and `demo-damo-yolo`, have their families' building blocks at reduced width.
Functions only name files; they are safe to call from several threads.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from swiftdet.errors import InvalidArgument

__all__ = ["Dataset", "dataset", "picture", "weights"]

_HERE = Path(__file__).resolve().parent


class Dataset(NamedTuple):
    """A COCO-format data set: the folder of its images and the JSON file of its annotations."""

    images: Path
    annotations: Path


def picture() -> Path:
    """A scene that neither detector was trained on; `scene.json` beside it says what is in it."""
    return _HERE / "scene.jpg"


def dataset() -> Dataset:
    """A sample of the validation set: its first images, with their annotations."""
    return Dataset(_HERE / "val", _HERE / "val.json")


def weights(name: str) -> Path:
    """The checkpoint of a demo detector.

    Raises:
        InvalidArgument: no demo of that name.
    """
    path = _HERE / f"{name}.safetensors"
    if not path.is_file():
        demos = ", ".join(sorted(found.stem for found in _HERE.glob("*.safetensors")))
        raise InvalidArgument(f"no weights of {name!r} come with swiftdet; there are those of {demos}")
    return path
