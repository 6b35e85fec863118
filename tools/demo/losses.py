"""What the demo detectors are trained to minimise, one loss per family, and how objects are given to predictions.

Boxes are xyxy px of the network's input. B images, M objects at most per image (padded), P predictions per image,
C classes.

Assignment: SimOTA (Ge et al., "YOLOX", arXiv 2107.08430), which YOLOv7 uses behind its anchor matching and DAMO-YOLO
in its aligned form. Losses: complete IoU (arXiv 1911.08287), generalised IoU (1902.09630), quality focal and
distribution focal loss (2006.04388). Written from the papers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

_EPSILON = 1e-7
_CANDIDATES_FOR_K = 10


@dataclass(frozen=True)
class Targets:
    """Objects of a batch: boxes [B, M, 4], classes [B, M] (long), valid [B, M] (bool; False is padding)."""

    boxes: Tensor
    classes: Tensor
    valid: Tensor


class AnchorLoss:
    """YOLOv7: three anchors per cell; complete IoU, objectness that learns the IoU, binary cross-entropy of classes."""

    def __init__(
        self, anchors: tuple[tuple[float, float], ...], strides: tuple[int, ...], size: int, classes: int
    ) -> None:
        self._classes = classes
        per_level = len(anchors) // len(strides)
        cells, sides, steps = [], [], []
        for level, stride in enumerate(strides):
            grid = _grid(size // stride)
            for anchor in anchors[level * per_level : (level + 1) * per_level]:
                cells.append(grid)
                sides.append(torch.tensor(anchor).expand(len(grid), 2))
                steps.append(torch.full((len(grid), 1), float(stride)))
        self._cell, self._anchor, self._stride = torch.cat(cells), torch.cat(sides), torch.cat(steps)

    def __call__(self, maps: list[Tensor], targets: Targets) -> dict[str, Tensor]:
        """The parts of the loss of raw maps [B, 3 * (5 + C), h, w], finest level first; scalars."""
        rows = torch.cat([self._rows(m.float()) for m in maps], dim=1)
        half = rows[..., :4].sigmoid() * 2.0
        centre = (half[..., :2] - 0.5 + self._cell) * self._stride
        side = half[..., 2:4] ** 2 * self._anchor
        boxes = torch.cat([centre - side / 2, centre + side / 2], dim=-1)
        objectness, classes = rows[..., 4], rows[..., 5:]
        with torch.no_grad():
            joint = (classes.sigmoid() * objectness.sigmoid()[..., None]).sqrt()
            cost = -_class_log_likelihood(joint, targets)
            owner = assign(boxes, cost, self._near(targets), targets)
        image, prediction = torch.nonzero(owner >= 0, as_tuple=True)
        chosen = owner[image, prediction]
        iou = complete_iou(boxes[image, prediction], targets.boxes[image, chosen])
        wanted = torch.zeros_like(objectness)
        wanted[image, prediction] = iou.detach().clamp(0.0)
        one_hot = functional.one_hot(targets.classes[image, chosen], self._classes).float()
        class_error = functional.binary_cross_entropy_with_logits(classes[image, prediction], one_hot, reduction="sum")
        count = max(len(image), 1)
        return {
            "box": 3.0 * (1.0 - iou).sum() / count,
            "objectness": functional.binary_cross_entropy_with_logits(objectness, wanted, reduction="sum") / count,
            "class": class_error / count,
        }

    def _rows(self, level: Tensor) -> Tensor:
        batch, _, height, width = level.shape
        return level.view(batch, -1, 5 + self._classes, height * width).transpose(2, 3).flatten(1, 2)

    def _near(self, targets: Targets) -> Tensor:
        """[B, M, P]: anchors within a factor of four of the object's sides, at its cell and the two nearest others."""
        side = targets.boxes[..., 2:] - targets.boxes[..., :2]
        centre = (targets.boxes[..., 2:] + targets.boxes[..., :2]) / 2
        ratio = side[:, :, None] / self._anchor
        fits = torch.maximum(ratio, 1.0 / ratio.clamp(min=_EPSILON)).amax(-1) < 4.0
        offset = centre[:, :, None] / self._stride - (self._cell + 0.5)
        beside = offset.abs()
        return fits & (beside.amax(-1) < 1.0) & (beside.amin(-1) < 0.5)


class DistributionLoss:
    """DAMO-YOLO: no anchors; quality focal loss of classes, generalised IoU, distribution focal loss of the sides."""

    def __init__(self, reg_max: int, strides: tuple[int, ...], size: int) -> None:
        self._reg_max = reg_max
        grids = [_grid(size // stride) for stride in strides]
        self._stride = torch.cat([torch.full((len(g), 1), float(s)) for g, s in zip(grids, strides, strict=True)])
        self._point = torch.cat(grids) * self._stride  # ZeroHead's points: top left corners of the cells
        self._bins = torch.arange(reg_max + 1, dtype=torch.float32)

    def __call__(self, maps: list[Tensor], targets: Targets) -> dict[str, Tensor]:
        """The parts of the loss of the class maps [B, C, h, w], then side maps [B, 4 * bins, h, w]; scalars."""
        levels = len(maps) // 2
        classes = torch.cat([m.float().flatten(2).transpose(1, 2) for m in maps[:levels]], dim=1)
        sides = torch.cat([m.float().flatten(2).transpose(1, 2) for m in maps[levels:]], dim=1)
        sides = sides.unflatten(-1, (4, self._reg_max + 1))
        distance = (sides.softmax(-1) @ self._bins) * self._stride
        boxes = torch.cat([self._point - distance[..., :2], self._point + distance[..., 2:]], dim=-1)
        with torch.no_grad():
            cost = -_class_log_likelihood(classes.sigmoid(), targets)
            owner = assign(boxes, cost, self._near(targets), targets)
        image, prediction = torch.nonzero(owner >= 0, as_tuple=True)
        chosen = owner[image, prediction]
        wanted_boxes = targets.boxes[image, chosen]
        iou, enclosing_gap = _iou_and_gap(boxes[image, prediction], wanted_boxes)
        quality = torch.zeros_like(classes)
        quality[image, prediction, targets.classes[image, chosen]] = iou.detach().clamp(0.0)
        weight = iou.detach().clamp(min=0.1)
        total = weight.sum().clamp(min=1.0)
        point, stride = self._point[prediction], self._stride[prediction]
        wanted = torch.cat([point - wanted_boxes[:, :2], wanted_boxes[:, 2:] - point], dim=-1) / stride
        return {
            "class": 2.0 * quality_focal(classes, quality).sum() / max(len(image), 1),
            "box": 4.0 * ((1.0 - iou + enclosing_gap) * weight).sum() / total,
            "sides": 0.5 * (self._distribution_focal(sides[image, prediction], wanted) * weight).sum() / total,
        }

    def _near(self, targets: Targets) -> Tensor:
        """[B, M, P]: points inside the box, and within two and a half cells of its centre."""
        centre = (targets.boxes[..., 2:] + targets.boxes[..., :2]) / 2
        x1y1, x2y2 = targets.boxes[:, :, None, :2], targets.boxes[:, :, None, 2:]
        inside = ((self._point > x1y1) & (self._point < x2y2)).all(-1)
        central = ((self._point - centre[:, :, None]).abs() < 2.5 * self._stride).all(-1)
        return inside & central

    def _distribution_focal(self, logits: Tensor, wanted: Tensor) -> Tensor:
        """Cross-entropy with the two bins next to the wanted distance, weighted by nearness; mean of four sides."""
        wanted = wanted.clamp(0.0, self._reg_max - 0.01)
        lower = wanted.floor().long()
        fraction = wanted - lower
        log = logits.log_softmax(-1)
        low, high = (log.gather(-1, index[..., None])[..., 0] for index in (lower, lower + 1))
        return -(low * (1.0 - fraction) + high * fraction).mean(-1)


# --- Assignment -------------------------------------------------------------------------------------------------------


def assign(boxes: Tensor, class_cost: Tensor, near: Tensor, targets: Targets) -> Tensor:
    """The object that each prediction is to find, [B, P], or -1.

    An object takes its k cheapest predictions, k being the sum of its best IoUs, rounded down, at least one. A
    prediction that several objects want goes to the one to which it is cheapest.

    Args:
        boxes: predicted, [B, P, 4].
        class_cost: [B, M, P].
        near: predictions that an object may have, [B, M, P].
        targets: the objects.
    """
    near = near & targets.valid[..., None]
    iou = pairwise_iou(targets.boxes, boxes) * near
    cost = (class_cost - 3.0 * (iou + 1e-8).log()).masked_fill(~near, math.inf)
    k = iou.topk(min(_CANDIDATES_FOR_K, iou.shape[-1]), dim=-1).values.sum(-1).floor().clamp(min=1.0)
    cheapest = cost.topk(_CANDIDATES_FOR_K, dim=-1, largest=False).values
    limit = cheapest.gather(-1, (k.long() - 1)[..., None])
    cost = cost.masked_fill(cost > limit, math.inf)
    best, owner = cost.min(dim=1)
    return torch.where(best.isfinite(), owner, -1)


def _class_log_likelihood(scores: Tensor, targets: Targets) -> Tensor:
    """[B, M, P]: of each object's class under scores [B, P, C], all classes counted."""
    scores = scores.clamp(_EPSILON, 1.0 - _EPSILON)
    none = (1.0 - scores).log()
    yes = (scores.log() - none).transpose(1, 2)
    index = targets.classes[..., None].expand(-1, -1, scores.shape[1])
    return yes.gather(1, index) + none.sum(-1)[:, None]


# --- Measures ---------------------------------------------------------------------------------------------------------


def pairwise_iou(first: Tensor, second: Tensor) -> Tensor:
    """[B, M, 4] and [B, P, 4] to [B, M, P]."""
    a, b = first[:, :, None], second[:, None]
    inter = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0.0).prod(-1)
    union = _area(a) + _area(b) - inter
    return inter / (union + _EPSILON)


def complete_iou(first: Tensor, second: Tensor) -> Tensor:
    """IoU less the distance of the centres and the difference in aspect; [K]."""
    iou, _ = _iou_and_gap(first, second)
    hull = torch.maximum(first[:, 2:], second[:, 2:]) - torch.minimum(first[:, :2], second[:, :2])
    between = (first[:, 2:] + first[:, :2] - second[:, 2:] - second[:, :2]) / 2
    distance = between.square().sum(-1) / (hull.square().sum(-1) + _EPSILON)
    a, b = (box[:, 2:] - box[:, :2] + _EPSILON for box in (first, second))
    aspect = (torch.atan(b[:, 0] / b[:, 1]) - torch.atan(a[:, 0] / a[:, 1])).square() * (4.0 / math.pi**2)
    with torch.no_grad():
        weight = aspect / (1.0 - iou + aspect + _EPSILON)
    return iou - distance - weight * aspect


def quality_focal(logits: Tensor, quality: Tensor) -> Tensor:
    """Cross-entropy towards a score between 0 and 1, weighted by the squared error."""
    error = (quality - logits.sigmoid()).abs().square()
    return functional.binary_cross_entropy_with_logits(logits, quality, reduction="none") * error


def _iou_and_gap(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """IoU, and the part of the hull that belongs to neither box; [K] each."""
    inter = (torch.minimum(first[:, 2:], second[:, 2:]) - torch.maximum(first[:, :2], second[:, :2])).clamp(min=0.0)
    overlap = inter.prod(-1)
    union = _area(first) + _area(second) - overlap
    hull = (torch.maximum(first[:, 2:], second[:, 2:]) - torch.minimum(first[:, :2], second[:, :2])).prod(-1)
    return overlap / (union + _EPSILON), (hull - union) / (hull + _EPSILON)


def _area(boxes: Tensor) -> Tensor:
    return (boxes[..., 2:] - boxes[..., :2]).prod(-1)


def _grid(cells: int) -> Tensor:
    """(x, y) of the cells of a square map, row by row; [cells * cells, 2]."""
    y, x = torch.meshgrid(torch.arange(cells), torch.arange(cells), indexing="ij")
    return torch.stack([x, y], dim=-1).view(-1, 2).float()
