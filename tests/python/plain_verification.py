"""Comparing two sides once more, in plain loops over tuples: what the package's own comparison is held against."""

from __future__ import annotations


def overlap(a, b) -> float:
    """IoU of two boxes that are grown by half a pixel on each side."""
    a, b = ((box[0] - 0.5, box[1] - 0.5, box[2] + 0.5, box[3] + 0.5) for box in (a, b))
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0.0) * max(height, 0.0)
    first, second = ((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return shared / (first + second - shared)


def pairs_of(reference, test, allowed) -> list[tuple[int, int]]:
    """Takes the best pair that is left, again and again. A detection is (box, score, class)."""
    pairs: list[tuple[int, int]] = []
    while True:
        best = None
        for i, one in enumerate(reference):
            for j, other in enumerate(test):
                if any(i == taken or j == used for taken, used in pairs) or not allowed(i, j):
                    continue
                iou = overlap(one[0], other[0])
                if iou >= 0.5 and (best is None or iou > best[0]):
                    best = iou, i, j
        if best is None:
            return sorted(pairs)
        pairs.append(best[1:])


def proposes(offered, wanted, *, scale, box_px, score) -> bool:
    """Whether the same detection is among those that a network proposes."""
    return any(
        cls == wanted[2]
        and abs(conf - wanted[1]) <= score
        and all(abs(a - b) * s <= box_px for a, b, s in zip(box, wanted[0], scale, strict=True))
        for box, conf, cls in offered
    )


def compare(reference, test, offered, *, conf, score, box_px, scale) -> dict:
    """What becomes of each detection over `conf`: lists of indices for both sides, and the pairs with their errors."""
    sides = reference, test
    same = {"scale": scale, "box_px": box_px, "score": score}
    every = pairs_of(reference, test, lambda i, j: reference[i][2] == test[j][2])
    taken = [{pair[side] for pair in every} for side in (0, 1)]
    groups = [{"paired": [], "flipped": [], "nms": [], "alone": []} for _ in sides]
    kept, errors = [], []
    for i, j in every:
        one, other = reference[i], test[j]
        if max(one[1], other[1]) <= conf:
            continue
        moved = [b - a for a, b in zip(one[0], other[0], strict=True)]
        apart = abs(one[1] - other[1])
        far = apart > score or any(abs(m) * s > box_px for m, s in zip(moved, scale, strict=True))
        by_nms = far and proposes(offered[1], one, **same) and proposes(offered[0], other, **same)
        for side, row in ((0, i), (1, j)):
            if sides[side][row][1] > conf:
                groups[side]["nms" if by_nms else "paired"].append(row)
        if not by_nms:
            kept.append((i, j))
            errors.append((max(abs(m) for m in moved), apart))
    free = [[row for row in range(len(sides[side])) if row not in taken[side]] for side in (0, 1)]
    for side, rows in enumerate(free):
        groups[side]["nms"] += [
            row for row in rows if sides[side][row][1] > conf and proposes(offered[1 - side], sides[side][row], **same)
        ]
    left = [[row for row in free[side] if row not in groups[side]["nms"]] for side in (0, 1)]
    flips = pairs_of(reference, test, lambda i, j: i in left[0] and j in left[1] and reference[i][2] != test[j][2])
    flips = [(i, j) for i, j in flips if max(reference[i][1], test[j][1]) > conf]
    for side in (0, 1):
        flipped = {pair[side] for pair in flips}
        for row in left[side]:
            if sides[side][row][1] > conf:
                groups[side]["flipped" if row in flipped else "alone"].append(row)
    return {
        "groups": [{name: sorted(rows) for name, rows in group.items()} for group in groups],
        "pairs": kept,
        "flips": flips,
        "errors": errors,
    }


def percentile(values, percent) -> float:
    """The smallest of the values that so many per cent of them do not exceed."""
    return min(v for v in values if 100 * sum(w <= v for w in values) >= percent * len(values))
