"""Predictions of a data set: held as arrays, handed out and written as rows of COCO's result format."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, overload

import numpy as np
import numpy.typing as npt

Row: TypeAlias = dict[str, Any]

_COLUMNS = 6


@dataclass(frozen=True, eq=False)
class ImagePredictions:
    """What was found in one image.

    Attributes:
        table: float64 [K, 6]: category id, left, top, width and height in px of the image, score; by falling score.
        truncated: candidates that the detector's limits cut off.
    """

    table: npt.NDArray[np.float64]
    truncated: int

    def rows(self, image_id: int) -> list[Row]:
        """One row of COCO's result format for each box."""
        return [
            {"image_id": image_id, "category_id": int(category), "bbox": box, "score": score}
            for category, *box, score in self.table.tolist()
        ]


class Predictions(Sequence[Row]):
    """Rows of COCO's result format for all images, in their order in the annotations; made when asked for.

    A row takes 48 bytes here, about ten times as much as a dictionary.
    """

    def __init__(self, image_ids: Sequence[int], found: Sequence[ImagePredictions]) -> None:
        self._image_ids = list(image_ids)
        self._found = list(found)
        self._sha256: str | None = None
        self._ends = np.cumsum([len(one.table) for one in found], dtype=np.int64)

    @property
    def truncated(self) -> int:
        """Candidates that the detector's limits cut off, over all images."""
        return sum(one.truncated for one in self._found)

    def by_image(self) -> Iterator[tuple[int, ImagePredictions]]:
        """Image id and predictions, image by image."""
        return zip(self._image_ids, self._found, strict=True)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __iter__(self) -> Iterator[Row]:
        for image_id, one in self.by_image():
            yield from one.rows(image_id)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        place = index + len(self) if index < 0 else index
        if not 0 <= place < len(self):
            raise IndexError(f"prediction {index} of {len(self)}")
        image = int(np.searchsorted(self._ends, place, side="right"))
        one = self._found[image]
        table = one.table[place - int(self._ends[image]) + len(one.table)]
        return ImagePredictions(table[None], 0).rows(self._image_ids[image])[0]

    def __repr__(self) -> str:
        return f"Predictions({len(self)} boxes in {len(self._image_ids)} images)"

    def sha256(self) -> str:
        """Hex digest of the file that `write` writes."""
        if self._sha256 is None:
            digest = hashlib.sha256()
            for part in self._json():
                digest.update(part)
            self._sha256 = digest.hexdigest()
        return self._sha256

    def write(self, path: Path) -> None:
        """Writes them as one JSON list, image by image.

        Raises:
            OSError: it cannot be written.
        """
        with path.open("wb") as file:
            file.writelines(self._json())

    def _json(self) -> Iterator[bytes]:
        yield b"["
        separator = ""
        for image_id, one in self.by_image():
            if len(one.table):
                yield (separator + json.dumps(one.rows(image_id))[1:-1]).encode("ascii")
                separator = ", "
        yield b"]\n"


def table(rows: Sequence[Sequence[float]]) -> npt.NDArray[np.float64]:
    """Rows of category id, left, top, width, height and score as the table of an `ImagePredictions`."""
    return np.array(rows, np.float64).reshape(-1, _COLUMNS)
