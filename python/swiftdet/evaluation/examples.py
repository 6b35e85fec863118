"""The worst errors of an evaluation, drawn into their images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from swiftdet import drawing, images
from swiftdet.evaluation.confusion import Mistake


def draw(
    mistakes: Sequence[Mistake], files: Mapping[int, Path], names: Mapping[int, str], folder: Path
) -> list[dict[str, Any]]:
    """Writes a picture for each error, with the boxes that it is about, and says what is on each.

    Args:
        mistakes: the errors.
        files: of the images, by their id.
        names: of the categories, by their id.
        folder: made if missing; pictures that an earlier evaluation left are removed.

    Returns:
        A description of each picture, of JSON's types.

    Raises:
        ImageError: an image cannot be read any more, or a picture not written.
        OSError: the folder cannot be made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for kind in ("confused", "false-positive", "missed"):
        for old in folder.glob(f"{kind}-[0-9]*.jpg"):
            old.unlink()
    numbers: Counter[str] = Counter()
    drawn = []
    for mistake in mistakes:
        numbers[mistake.kind] += 1
        path = folder / f"{mistake.kind}-{numbers[mistake.kind]}.jpg"
        _draw(mistake, files[mistake.image_id], names, path)
        drawn.append(
            {
                "picture": f"{folder.name}/{path.name}",
                "kind": mistake.kind,
                "image": files[mistake.image_id].name,
                "image_id": mistake.image_id,
                "object": None if mistake.truth is None else names[mistake.truth],
                "found": None if mistake.found is None else names[mistake.found],
                "object_box": mistake.truth_box,
                "found_box": mistake.found_box,
                "score": mistake.score,
            }
        )
    return drawn


def _draw(mistake: Mistake, source: Path, names: Mapping[int, str], path: Path) -> None:
    boxes, classes, labels = [], [], []
    if mistake.found is not None and mistake.found_box is not None:
        boxes.append(mistake.found_box)
        classes.append(mistake.found)
        labels.append(f"found: {names[mistake.found]} {mistake.score:.2f}")
    if mistake.truth is not None and mistake.truth_box is not None:
        boxes.append(mistake.truth_box)
        classes.append(mistake.truth)
        labels.append(f"{'missed' if mistake.kind == 'missed' else 'is'}: {names[mistake.truth]}")
    xyxy = np.array(boxes, np.float32)
    xyxy[:, 2:] += xyxy[:, :2]
    ids = np.array(classes, np.int64).astype(np.int32)
    images.save(drawing.draw_boxes(images.load(source).bgr(), xyxy, ids, labels), path)
