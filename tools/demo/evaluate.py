"""COCO AP of a demo detector on a data set, through `swiftdet.Detector`, by pycocotools.

    python tools/demo/evaluate.py DATA MODEL [--weights FILE] [--json FILE]

DATA holds `val/` and `val.json` as make_dataset.py writes them. MODEL is a demo's name (its own weights unless given
others) or a model file.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

import swiftdet

CONF, IOU, MAX_DET = 0.001, 0.65, 300


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("model")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--json", type=Path, help="write AP, AP50, AP75 and the number of images here")
    args = parser.parse_args()
    truth = COCO(args.data / "val.json")
    with swiftdet.Detector(args.model, weights=args.weights) as detector:
        found = detections(detector, truth, args.data / "val")
    ap, ap50, ap75 = evaluate(truth, found)
    images = len(truth.getImgIds())
    print(f"{args.model}: AP {ap:.2f}, AP50 {ap50:.2f}, AP75 {ap75:.2f} on {images} images")
    if args.json is not None:
        figures = {"model": args.model, "images": images, "ap": ap, "ap50": ap50, "ap75": ap75}
        args.json.write_text(json.dumps(figures) + "\n")


def detections(detector: swiftdet.Detector, truth: COCO, folder: Path) -> list[dict[str, Any]]:
    """What the detector finds in every image, as COCO's result format has it; classes are matched by name."""
    category = {c["name"]: c["id"] for c in truth.dataset["categories"]}
    rows: list[dict[str, Any]] = []
    for image in truth.dataset["images"]:
        result = detector(folder / image["file_name"], conf=CONF, iou=IOU, max_det=MAX_DET, multi_label=True)
        for (x1, y1, x2, y2), score, cls in zip(result.xyxy.tolist(), result.conf.tolist(), result.cls, strict=True):
            rows.append(
                {
                    "image_id": image["id"],
                    "category_id": category[detector.names[int(cls)]],
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "score": score,
                }
            )
    return rows


def evaluate(truth: COCO, found: list[dict[str, Any]]) -> tuple[float, float, float]:
    """AP over IoU 0.50 to 0.95, AP at 0.50 and at 0.75, in percent."""
    run = COCOeval(truth, truth.loadRes(found), "bbox")
    run.evaluate()
    run.accumulate()
    run.summarize()
    ap, ap50, ap75 = (100.0 * float(value) for value in run.stats[:3])
    return ap, ap50, ap75


if __name__ == "__main__":
    main()
