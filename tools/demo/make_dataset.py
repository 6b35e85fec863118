"""Writes the demo data set: `train/*.jpg`, `val/*.jpg`, `train.json`, `val.json` (COCO format).

    python tools/demo/make_dataset.py OUT [--train 6000] [--val 600] [--seed 0]

Scene i of a split depends on the seed, the split and i alone, so any part of the set can be made again by itself.
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from drawings import DRAWINGS
from scenes import SceneObject, draw_scene

SPLITS = ("train", "val")


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--train", type=int, default=6000, help="number of training images")
    parser.add_argument("--val", type=int, default=600, help="number of validation images")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    for split, count in (("train", args.train), ("val", args.val)):
        write_split(args.out, split, count, args.seed)
        print(f"{split}: {count} images in {args.out / split}")


def write_split(out: Path, split: str, count: int, seed: int) -> None:
    """Writes the images of one split and its annotations."""
    folder = out / split
    folder.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor() as pool:
        scenes = list(pool.map(partial(_write_scene, folder, split, seed), range(count), chunksize=50))
    (out / f"{split}.json").write_text(json.dumps(coco_json(scenes), separators=(",", ":")))


def coco_json(scenes: list[tuple[str, tuple[int, int], list[SceneObject]]]) -> dict[str, Any]:
    """Annotations of scenes (file name, (height, width), objects); category ids count from 1 as COCO's do."""
    images, annotations = [], []
    for image_id, (name, (height, width), objects) in enumerate(scenes, start=1):
        images.append({"id": image_id, "file_name": name, "height": height, "width": width})
        for item in objects:
            x1, y1, x2, y2 = item.box
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": item.class_id + 1,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": item.area,
                    "iscrowd": 0,
                }
            )
    categories = [{"id": i, "name": name} for i, name in enumerate(DRAWINGS, start=1)]
    info = {"description": "swiftdet demo scenes"}
    return {"info": info, "images": images, "annotations": annotations, "categories": categories}


def _write_scene(folder: Path, split: str, seed: int, index: int) -> tuple[str, tuple[int, int], list[SceneObject]]:
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    cv2.setNumThreads(1)
    long, short = int(rng.integers(256, 385)), int(rng.integers(192, 321))
    size = (min(long, short), max(long, short)) if rng.random() < 0.7 else (max(long, short), min(long, short))
    image, objects = draw_scene(rng, size)
    name = f"{split}_{index:05d}.jpg"
    quality = int(rng.integers(60, 96))
    if not cv2.imwrite(str(folder / name), image, [cv2.IMWRITE_JPEG_QUALITY, quality]):
        raise OSError(f"cannot write {folder / name}")
    return name, size, objects


if __name__ == "__main__":
    main()
