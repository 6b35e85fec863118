"""Whether `swiftdet predict` found in the bundled picture what is in it, and nothing else; exits 1 where not.

swiftdet predict --model demo-yolov7 --conf 0.4 --save-dir OUT && python tools/demo/check_scene.py OUT/predictions.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from swiftdet import demo

ENOUGH = 0.6  # intersection over union


def main() -> int:
    """See above."""
    (image,) = json.loads(Path(sys.argv[1]).read_text())["images"]
    found = [(item["name"], list(item["box"].values())) for item in image["detections"]]
    expected = [(item["name"], item["box"]) for item in json.loads(demo.picture().with_suffix(".json").read_text())]
    missed = [f"{name} at {box}" for name, box in expected if not _is_there(name, box, found)]
    more = [f"{name} at {box}" for name, box in found if not _is_there(name, box, expected)]
    print(f"{sys.argv[1]}: {len(expected) - len(missed)} of {len(expected)} objects found, {len(more)} others")
    for line in (*(f"missed: {text}" for text in missed), *(f"not there: {text}" for text in more)):
        print(line)
    return 1 if missed or more else 0


def _is_there(name: str, box: list[float], among: list[tuple[str, list[float]]]) -> bool:
    return any(name == other_name and _iou(box, other) > ENOUGH for other_name, other in among)


def _iou(first: list[float], second: list[float]) -> float:
    width, height = (min(first[i + 2], second[i + 2]) - max(first[i], second[i]) for i in (0, 1))
    inter = max(0.0, width) * max(0.0, height)
    return inter / (sum((b[2] - b[0]) * (b[3] - b[1]) for b in (first, second)) - inter)


if __name__ == "__main__":
    sys.exit(main())
