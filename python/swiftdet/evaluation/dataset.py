"""Reads COCO-format annotations and checks them before anything is computed with them."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swiftdet import image_files
from swiftdet.errors import DatasetError

_SHOWN = 5
_LARGEST = 1e15  # px, or square px
_LARGEST_ID = 2**53  # what float64 holds exactly


@dataclass(frozen=True)
class Entry:
    """One image: its id in the annotations, its name there, and its file."""

    image_id: int
    name: str
    path: Path


@dataclass(frozen=True)
class Dataset:
    """A data set whose annotations were checked.

    Attributes:
        entries: the images, in the order of the file.
        categories: id of each category by its name.
        truth: the annotations as pycocotools takes them.
        annotations: their file.
        sha256: hex digest of that file.
        name: what the annotations' `info` calls it, else the name of their file.
        split: such as "val2017", where the name of their file holds one.
    """

    entries: list[Entry]
    categories: dict[str, int]
    truth: dict[str, Any]
    annotations: Path
    sha256: str
    name: str
    split: str | None

    def match(self, names: Mapping[int, str]) -> dict[int, int]:
        """Category id by class id of a detector, for the classes whose names are those of categories.

        Raises:
            DatasetError: no name is.
        """
        matched = {i: self.categories[name] for i, name in names.items() if name in self.categories}
        if not matched:
            raise DatasetError(
                f"{self.annotations}: no category is a class of the detector: it has {_some(self.categories)}, the "
                f"detector {_some(names.values())}"
            )
        return matched

    def unknown(self, names: Mapping[int, str]) -> list[str]:
        """Categories that the detector has no class for."""
        known = set(names.values())
        return [name for name in self.categories if name not in known]


@dataclass(frozen=True)
class Survey:
    """What the files of a data set are.

    Attributes:
        sizes: (height, width) px of each image the right way up, in the order of the entries.
        sha256: hex digest over all images: of what `sha256sum` prints for them, sorted by name as bytes (one line for
            each: digest of the file, two blanks, its name).
    """

    sizes: list[tuple[int, int]]
    sha256: str


def survey(dataset: Dataset) -> Survey:
    """Reads every image once, one after the other, without decoding its pixels.

    Raises:
        ImageError: a file that cannot be read, or is no image.
    """
    sizes, lines = [], []
    for entry in dataset.entries:
        content = image_files.read(str(entry.path))
        sizes.append(image_files.upright_size(content, str(entry.path)))
        lines.append((os.fsencode(entry.name), hashlib.sha256(content).hexdigest().encode("ascii")))
    digest = hashlib.sha256(b"".join(b"%s  %s\n" % (file, name) for name, file in sorted(lines)))
    return Survey(sizes, digest.hexdigest())


def read_dataset(images: Path, annotations: Path) -> Dataset:
    """Reads a data set.

    Raises:
        DatasetError: no such folder or file, no JSON, something missing in it or of a wrong type, an id or name that
            occurs twice, a file name that leads out of the folder, an image that is not there.
    """
    if not images.is_dir():
        raise DatasetError(f"{images}: expected the folder of the images")
    try:
        content = annotations.read_bytes()
        document = json.loads(content)
    except OSError as e:
        raise DatasetError(f"{annotations}: cannot be read ({e.strerror or e})") from e
    except (ValueError, RecursionError) as e:
        raise DatasetError(f"{annotations}: expected COCO annotations in JSON ({e})") from e
    try:
        entries, categories, truth = _checked(document, images)
    except _Fault as e:
        raise DatasetError(f"{annotations}: {e}") from e
    sha256 = hashlib.sha256(content).hexdigest()
    return Dataset(entries, categories, truth, annotations, sha256, _name(document, annotations), _split(annotations))


def _checked(document: object, images: Path) -> tuple[list[Entry], dict[str, int], dict[str, Any]]:
    """The images, the categories by name, and everything as pycocotools takes it."""
    if not isinstance(document, dict):
        raise _Fault("expected an object with images, annotations and categories")
    categories = {row["name"]: row["id"] for row in _rows(document, "categories", {"id": int, "name": str})}
    entries = [
        Entry(row["id"], row["file_name"], _image(images, row["file_name"]))
        for row in _rows(document, "images", {"id": int, "file_name": str})
    ]
    if not categories or not entries:
        raise _Fault("expected at least one image and one category")
    if len(categories) < len(document["categories"]):
        raise _Fault("two categories have one name")
    objects = _objects(document, {entry.image_id for entry in entries}, set(categories.values()))
    truth = {"images": document["images"], "annotations": objects, "categories": document["categories"]}
    return entries, categories, truth


class _Fault(Exception):  # noqa: N818 - becomes a DatasetError with the file's name
    """What is wrong with the annotations."""


def _rows(document: dict[str, Any], key: str, fields: Mapping[str, type]) -> list[dict[str, Any]]:
    """The objects under `key`, each with the fields of their types and an id of its own."""
    rows = document.get(key)
    if not isinstance(rows, list):
        raise _Fault(f"expected a list under {key!r}, got {type(rows).__name__}")
    seen = set()
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise _Fault(f"{key}[{number}]: expected an object, got {type(row).__name__}")
        for field, kind in fields.items():
            if not isinstance(row.get(field), kind) or isinstance(row[field], bool):
                raise _Fault(f"{key}[{number}].{field}: expected {kind.__name__}, got {row.get(field)!r:.60}")
        if abs(row["id"]) > _LARGEST_ID:
            raise _Fault(f"{key}[{number}].id: expected at most 2**53 in size, got {row['id']!r:.60}")
        if row["id"] in seen:
            raise _Fault(f"{key}[{number}]: the id {row['id']} occurs twice")
        seen.add(row["id"])
    return rows


def _image(folder: Path, name: str) -> Path:
    path = folder / name
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise _Fault(f"file name {name!r:.80} leads out of the folder of the images")
    try:
        is_there = path.is_file()
    except OSError:  # a name too long
        is_there = False
    if not is_there:
        raise _Fault(f"image {name!r:.80} is not in {folder}")
    return path


def _objects(document: dict[str, Any], images: set[int], categories: set[int]) -> list[dict[str, Any]]:
    """The annotations, with the area and the crowd flag that pycocotools needs.

    Their ids count from 1 anew: a match with an object of id 0 is none to pycocotools.
    """
    fields = {"id": int, "image_id": int, "category_id": int, "bbox": list}
    objects = []
    for number, row in enumerate(_rows(document, "annotations", fields)):
        if row["image_id"] not in images or row["category_id"] not in categories:
            raise _Fault(f"annotations[{number}]: image {row['image_id']} or category {row['category_id']} is unknown")
        box = row["bbox"]
        if len(box) != 4 or not all(_is_finite(side) for side in box) or min(box[2:]) < 0:
            raise _Fault(f"annotations[{number}].bbox: expected x, y, width, height in px, got {box!r:.80}")
        area = row.get("area", box[2] * box[3])
        if not _is_finite(area):
            raise _Fault(f"annotations[{number}].area: expected a number of square px, got {area!r:.60}")
        objects.append({**row, "id": number + 1, "area": area, "iscrowd": int(bool(row.get("iscrowd", 0)))})
    return objects


def _is_finite(value: object) -> bool:
    # JSON's integers have no bound, those that NumPy will make of them do.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST


def _name(document: dict[str, Any], annotations: Path) -> str:
    info = document.get("info")
    description = info.get("description") if isinstance(info, dict) else None
    return description if isinstance(description, str) and description.strip() else annotations.stem


_SPLIT = re.compile(r"(?:^|[_.-])((?:mini|train)?val|train|test(?:[_-]dev)?)(\d{4})?(?:$|[_.-])", re.IGNORECASE)


def _split(annotations: Path) -> str | None:
    found = _SPLIT.search(annotations.stem)
    return None if found is None else found[1].lower().replace("_", "-") + (found[2] or "")


def _some(names: Iterable[str]) -> str:
    listed = [repr(name)[:40] for name in names]
    return ", ".join(listed[:_SHOWN]) + (f", ... ({len(listed)} in all)" if len(listed) > _SHOWN else "")
