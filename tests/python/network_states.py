"""Checkpoints for tests: every entry that inference reads, and those that official files hold besides."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from swiftdet.zoo import damo_yolo, yolov7
from swiftdet.zoo.network import Network
from swiftdet.zoo.parameters import required

Fill = Callable[[str, tuple[int, ...]], np.ndarray]
State = dict[str, np.ndarray]


def network_of(variant: str, *, training: bool = False, num_classes: int = 80) -> Network:
    if variant in yolov7.ARCHITECTURES:
        return yolov7.network(yolov7.ARCHITECTURES[variant], num_classes=num_classes, training=training)
    return damo_yolo.network(damo_yolo.ARCHITECTURES[variant], num_classes=num_classes)


def state_of(variant: str, fill: Fill, *, training: bool = False, num_classes: int = 80) -> State:
    """The unfused official form. Training forms come with what inference ignores, filled with NaN to prove it."""
    net = network_of(variant, training=training, num_classes=num_classes)
    state = {key: fill(key, shape) for key, shape in required(net).items()}
    if not training:
        return state
    for key in [key for key in state if key.endswith(".running_var")]:
        state[key.replace("running_var", "num_batches_tracked")] = np.array(7, np.int64)
    architecture = yolov7.ARCHITECTURES[variant]
    if architecture.has_auxiliary_head:
        head = yolov7.head_index(architecture, training=True)
        for level, (_, channels) in enumerate(architecture.head):
            nothing = np.full((channels, channels // 2, 3, 3), np.nan, dtype=np.float32)
            state[f"model.{head - len(architecture.head) + level}.conv.weight"] = nothing
            state[f"model.{head}.m2.{level}.weight"] = np.full((255, channels, 1, 1), np.nan, dtype=np.float32)
            state[f"model.{head}.m2.{level}.bias"] = np.full(255, np.nan, dtype=np.float32)
    return state


def random_fill(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """Small numbers by key; variances positive."""
    rng = np.random.default_rng(list(key.encode()))
    values = rng.normal(size=shape) * (0.05 if len(shape) == 4 else 0.2)
    return (1.0 + np.abs(values) if key.endswith(("running_var", "bn.weight", "scale")) else values).astype(np.float32)
