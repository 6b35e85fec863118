"""Trains the bundled demo detectors on the demo data set, on the CPU, and writes their weights.

    python tools/demo/train.py DATA {demo-yolov7,demo-damo-yolo} -o WEIGHTS.safetensors [--epochs 12] [--seed 0]

The images are fed as the detector itself feeds them: by `swiftdet.ops.letterbox` with the family's own pre-processing.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors.numpy import save_file
from torch import Tensor, nn

import swiftdet
from losses import AnchorLoss, DistributionLoss, Targets
from swiftdet.recognition.families import FAMILY_DEFAULTS
from swiftdet.zoo import damo_yolo, yolov7
from torch_network import TorchNetwork

SIZE = 256
BATCH = 32
PEAK_LEARNING_RATE = 4e-3
WEIGHT_DECAY = 0.02
WARM_UP_STEPS = 200
MODELS = ("demo-yolov7", "demo-damo-yolo")


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    torch.set_flush_denormal(True)  # vanishing gradients would otherwise be computed at a tenth of the speed
    categories = json.loads((args.data / "train.json").read_text())["categories"]
    network, loss, divisor = _detector(args.model, len(categories))
    images, targets = load(args.data, "train", args.model)
    for averaged in train(network, loss, images, targets, epochs=args.epochs, divisor=divisor):
        # Half precision: half the file. What is measured afterwards are these very numbers.
        state = {key: value.astype(np.float16) for key, value in averaged.official_state().items()}
        save_file(state, args.output, metadata={"names": json.dumps([c["name"] for c in categories])})
    print(f"{args.output}: {args.output.stat().st_size} bytes")


def _detector(name: str, classes: int) -> tuple[TorchNetwork, AnchorLoss | DistributionLoss, float]:
    """The network to train, with its loss and the divisor of its input."""
    if name in yolov7.ARCHITECTURES:
        plan = yolov7.ARCHITECTURES[name]
        network = TorchNetwork(yolov7.network(plan, num_classes=classes, training=True))
        for unit in list(network.units)[-len(plan.strides) :]:  # few predictions are objects: start from that
            _start_rare(unit.kernel.conv, 5 + classes, slice(4, None))
        return network, AnchorLoss(plan.anchors, plan.strides, SIZE, classes), 255.0
    damo = damo_yolo.ARCHITECTURES[name]
    network = TorchNetwork(damo_yolo.network(damo, num_classes=classes))
    for unit in list(network.units)[-2 * len(damo_yolo.STRIDES) :: 2]:
        _start_rare(unit.kernel.conv, classes, slice(None))
    return network, DistributionLoss(damo.reg_max, damo_yolo.STRIDES, SIZE), 1.0


def _start_rare(head: nn.Conv2d, row: int, scores: slice) -> None:
    """Biases of a head's scores such that everything starts at a probability of one percent."""
    with torch.no_grad():
        head.bias.view(-1, row)[:, scores] = -math.log(99.0)


# --- Data -------------------------------------------------------------------------------------------------------------


def load(data: Path, split: str, model: str) -> tuple[Tensor, Targets]:
    """The images of a split as the network sees them, uint8 [N, 3, SIZE, SIZE] RGB, and their objects in its px."""
    family = "yolov7" if model in yolov7.ARCHITECTURES else "damo-yolo"
    preprocess = FAMILY_DEFAULTS[family].preprocess
    annotations = json.loads((data / f"{split}.json").read_text())
    of_image: dict[int, list[dict]] = {image["id"]: [] for image in annotations["images"]}
    for item in annotations["annotations"]:
        of_image[item["image_id"]].append(item)
    count, most = len(of_image), max(map(len, of_image.values()))
    images = torch.empty(count, 3, SIZE, SIZE, dtype=torch.uint8)
    boxes, classes, valid = (
        torch.zeros(count, most, 4),
        torch.zeros(count, most).long(),
        torch.zeros(count, most).bool(),
    )
    for i, image in enumerate(annotations["images"]):
        pixels = cv2.imread(str(data / split / image["file_name"]))
        tensor, meta = swiftdet.ops.letterbox(
            pixels, (SIZE, SIZE), mode=preprocess.mode, interpolation=preprocess.interpolation, divisor=1.0
        )
        images[i] = torch.from_numpy(tensor.astype(np.uint8))
        for j, item in enumerate(of_image[image["id"]]):
            x, y, w, h = item["bbox"]
            corners = torch.tensor([x, y, x + w, y + h]) * torch.tensor([meta.scale_x, meta.scale_y] * 2)
            boxes[i, j] = corners + torch.tensor([meta.pad_left, meta.pad_top] * 2)
            classes[i, j], valid[i, j] = item["category_id"] - 1, True
    return images, Targets(boxes, classes, valid)


def batch_of(images: Tensor, targets: Targets, index: Tensor, divisor: float) -> tuple[Tensor, Targets]:
    """Images and objects, half of them mirrored, each a little darker or lighter."""
    x = images[index].float()
    boxes = targets.boxes[index].clone()
    mirrored = torch.rand(len(index)) < 0.5
    x[mirrored] = x[mirrored].flip(-1)
    boxes[mirrored] = torch.stack(
        [SIZE - boxes[mirrored, :, 2], boxes[mirrored, :, 1], SIZE - boxes[mirrored, :, 0], boxes[mirrored, :, 3]], -1
    )
    x = (x * (0.8 + 0.4 * torch.rand(len(index), 1, 1, 1))).clamp(max=255.0) / divisor
    return x, Targets(boxes, targets.classes[index], targets.valid[index])


# --- Training ---------------------------------------------------------------------------------------------------------


def train(
    network: TorchNetwork,
    loss: AnchorLoss | DistributionLoss,
    images: Tensor,
    targets: Targets,
    *,
    epochs: int,
    divisor: float,
) -> Iterator[TorchNetwork]:
    """AdamW with warm-up and cosine decay; yields the exponential moving average of the weights after each epoch."""
    network.train().to(memory_format=torch.channels_last)
    averaged = copy.deepcopy(network).eval()
    decayed = [p for p in network.parameters() if p.ndim > 1]
    rest = [p for p in network.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed}, {"params": rest, "weight_decay": 0.0}], weight_decay=WEIGHT_DECAY
    )
    fast = torch.ops.mkldnn._is_mkldnn_bf16_supported()  # noqa: SLF001 - torch tells it nowhere else
    per_epoch = len(images) // BATCH
    start, step = time.monotonic(), 0
    for epoch in range(epochs):
        order = torch.randperm(len(images))
        sums: dict[str, float] = {}
        for i in range(per_epoch):
            for group in optimizer.param_groups:
                group["lr"] = PEAK_LEARNING_RATE * _schedule(step, per_epoch * epochs)
            x, wanted = batch_of(images, targets, order[i * BATCH : (i + 1) * BATCH], divisor)
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=fast):
                maps = network(x.contiguous(memory_format=torch.channels_last))
            parts = loss(maps, wanted)
            optimizer.zero_grad()
            sum(parts.values()).backward()
            nn.utils.clip_grad_norm_(network.parameters(), 10.0)
            optimizer.step()
            step += 1
            _average(averaged, network, min(0.998, step / (step + 20)))
            for key, value in parts.items():
                sums[key] = sums.get(key, 0.0) + value.item() / per_epoch
        described = "  ".join(f"{key} {value:.3f}" for key, value in sums.items())
        print(f"epoch {epoch + 1}/{epochs}  {time.monotonic() - start:.0f} s  {described}", flush=True)
        yield averaged


def _schedule(step: int, steps: int) -> float:
    """Share of the peak learning rate: a linear rise, then half a cosine down to a hundredth."""
    if step < WARM_UP_STEPS:
        return (step + 1) / WARM_UP_STEPS
    return 0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * step / steps))


@torch.no_grad()
def _average(averaged: nn.Module, network: nn.Module, keep: float) -> None:
    for old, new in zip(averaged.state_dict().values(), network.state_dict().values(), strict=True):
        if old.dtype.is_floating_point:
            old.lerp_(new, 1.0 - keep)
        else:
            old.copy_(new)


if __name__ == "__main__":
    main()
