"""Writes what the package carries of the demo data set: a picture, and the first images of the validation set.

    python tools/demo/make_samples.py DATA OUT [--images 100]

DATA is what make_dataset.py wrote; OUT is `python/swiftdet/demo`.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import cv2
import numpy as np

from drawings import DRAWINGS
from scenes import draw_scene

PICTURE_SIZE = (480, 640)
PICTURE_OBJECTS = (7, 9)
PICTURE_SEED = (2026, 538)  # chosen among 900 for its looks, and because both detectors find all of it
JPEG_QUALITY = 90


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--images", type=int, default=100)
    args = parser.parse_args()
    write_picture(args.out)
    write_sample(args.data, args.out, args.images)
    size = sum(path.stat().st_size for path in (*(args.out / "val").iterdir(), args.out / "val.json"))
    print(f"{args.out / 'val'}: {args.images} images, {size} bytes with the annotations")


def write_picture(out: Path) -> None:
    """`scene.jpg`, and what is in it as `scene.json`: class names and boxes x1, y1, x2, y2 px."""
    image, objects = draw_scene(np.random.default_rng(PICTURE_SEED), PICTURE_SIZE, objects=PICTURE_OBJECTS)
    if not cv2.imwrite(str(out / "scene.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]):
        raise OSError(f"cannot write {out / 'scene.jpg'}")
    names = list(DRAWINGS)
    truth = [{"name": names[item.class_id], "box": item.box} for item in objects]
    (out / "scene.json").write_text(json.dumps(truth, indent=1) + "\n")


def write_sample(data: Path, out: Path, count: int) -> None:
    """The first `count` validation images and their annotations."""
    annotations = json.loads((data / "val.json").read_text())
    images = annotations["images"][:count]
    chosen = {image["id"] for image in images}
    (out / "val").mkdir(exist_ok=True)
    for image in images:
        shutil.copyfile(data / "val" / image["file_name"], out / "val" / image["file_name"])
    sample = {
        "info": {"description": f"{annotations['info']['description']} (sample)"},
        "images": images,
        "annotations": [item for item in annotations["annotations"] if item["image_id"] in chosen],
        "categories": annotations["categories"],
    }
    (out / "val.json").write_text(json.dumps(sample, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
