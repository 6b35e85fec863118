"""COCO's box metric written from its definition in plain loops: slow, obvious, and of no code of pycocotools.

cocodataset.org, "Detection Evaluation": average precision is the mean, over ten IoU thresholds and the categories, of
the precision at 101 levels of recall, where precision at a level is the best at that recall or any higher one; average
recall is the mean of the recall reached. Objects of other sizes and crowds are ignored: they are no misses, and a box
matched to one is no error.
"""

from __future__ import annotations

from bisect import bisect_left

import numpy as np

# A recall of 7 / 20 reaches the level 0.35 or does not, by which float64 that level is: these are the reference's.
IOUS = np.linspace(0.5, 0.95, 10).tolist()
LEVELS = np.linspace(0.0, 1.0, 101).tolist()
AREAS = {"all": (0, 1e10), "small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, 1e10)}
NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


def overlap(found, truth, crowd):
    """IoU of two boxes x, y, width, height; with a crowd, the part of the found box that lies in it."""
    width = min(found[0] + found[2], truth[0] + truth[2]) - max(found[0], truth[0])
    height = min(found[1] + found[3], truth[1] + truth[3]) - max(found[1], truth[1])
    if width <= 0 or height <= 0:
        return 0.0
    inter = width * height
    return inter / (found[2] * found[3] if crowd else found[2] * found[3] + truth[2] * truth[3] - inter)


def judged(objects, boxes, iou, area):
    """(score, is right) of each box that counts, in order of score; and the number of objects that count."""
    ignored = [bool(o["iscrowd"]) or not area[0] <= o["area"] <= area[1] for o in objects]
    taken = [False] * len(objects)
    verdicts = []
    for box in boxes:
        best, best_overlap = None, min(iou, 1 - 1e-10)
        # An object that counts is preferred to any that does not, whatever the overlap.
        for wanted in (False, True):
            if best is not None:
                break
            for i, one in enumerate(objects):
                if ignored[i] != wanted or (taken[i] and not one["iscrowd"]):
                    continue
                value = overlap(box["bbox"], one["bbox"], one["iscrowd"])
                if value >= best_overlap:  # of equal ones the last
                    best, best_overlap = i, value
        if best is None:
            if area[0] <= box["bbox"][2] * box["bbox"][3] <= area[1]:
                verdicts.append((box["score"], False))
            continue
        taken[best] = True
        if not ignored[best]:
            verdicts.append((box["score"], True))
    return verdicts, ignored.count(False)


def precision_and_recall(document, predictions, category, iou, area, limit):
    """Precision at each level, and the recall reached; None where there is no object to find."""
    verdicts, total = [], 0
    for image in sorted(image["id"] for image in document["images"]):
        objects = [o for o in document["annotations"] if o["image_id"] == image and o["category_id"] == category]
        boxes = [p for p in predictions if p["image_id"] == image and p["category_id"] == category]
        boxes.sort(key=lambda p: -p["score"])
        more, count = judged(objects, boxes[:limit], iou, area)
        verdicts += more
        total += count
    if total == 0:
        return None
    verdicts.sort(key=lambda v: -v[0])
    right, precisions, recalls = 0, [], []
    for number, (_, is_right) in enumerate(verdicts, start=1):
        right += is_right
        precisions.append(right / number)
        recalls.append(right / total)
    for i in range(len(precisions) - 2, -1, -1):
        precisions[i] = max(precisions[i], precisions[i + 1])
    at_levels = []
    for level in LEVELS:
        place = bisect_left(recalls, level)
        at_levels.append(precisions[place] if place < len(precisions) else 0.0)
    return at_levels, recalls[-1] if recalls else 0.0


def evaluate(document, predictions):
    """The twelve numbers by name; None where there is nothing to score."""
    categories = [category["id"] for category in document["categories"]]

    def results(ious, area, limit):
        found = [
            precision_and_recall(document, predictions, category, iou, AREAS[area], limit)
            for category in categories
            for iou in ious
        ]
        return [one for one in found if one is not None]

    def precision(ious=IOUS, area="all"):
        values = [value for one in results(ious, area, 100) for value in one[0]]
        return sum(values) / len(values) if values else None

    def recall(area="all", limit=100):
        values = [one[1] for one in results(IOUS, area, limit)]
        return sum(values) / len(values) if values else None

    numbers = (
        precision(),
        precision([IOUS[0]]),
        precision([IOUS[5]]),
        *(precision(area=area) for area in ("small", "medium", "large")),
        *(recall(limit=limit) for limit in (1, 10, 100)),
        *(recall(area) for area in ("small", "medium", "large")),
    )
    return dict(zip(NAMES, numbers, strict=True))
