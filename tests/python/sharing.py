"""One detector, many threads, every kind of call: each result beside its serial twin. For the CPU and the GPU alike."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

THREADS = 16
GUARD_S = 240.0  # no request takes as long
CALLS_VARIABLE = "SWIFTDET_SHARING_CALLS"


def wanted_calls(default: int) -> int:
    """How many calls to make: what the environment asks for, else `default`."""
    return int(os.environ.get(CALLS_VARIABLE, default))


@dataclass
class Outcome:
    """What the threads saw."""

    calls: int = 0
    images: int = 0
    crossings: int = 0
    failures: int = 0


def images(count: int = 12, seed: int = 11) -> list[np.ndarray]:
    """Noise of mixed shapes and channels, some of it a view with odd strides."""
    rng = np.random.default_rng(seed)
    made = []
    for i in range(count):
        shape = tuple(int(side) for side in rng.integers(1, 150, 2))
        channels = [(3,), (4,), ()][i % 3]
        array = rng.integers(0, 256, (*shape, *channels), dtype=np.uint8)
        made.append(array[::-1, ::-1] if i % 4 == 3 else array)
    return made


def options(classes: int, count: int = 16, seed: int = 12) -> list[dict[str, Any]]:
    """Calls of every kind; each option takes several values."""
    rng = np.random.default_rng(seed)
    return [
        {
            "conf": float(rng.choice([0.0, 0.05, 0.3, 0.5, 0.7])),
            "iou": float(rng.choice([0.1, 0.45, 0.7, 1.0])),
            "max_det": int(rng.choice([1, 5, 300])),
            "classes": [None, [0], list(range(1, classes)), []][i % 4],
            "class_agnostic": bool(rng.integers(2)),
            "multi_label": bool(rng.integers(2)),
            "color": ["bgr", "rgb"][int(rng.integers(2))],
        }
        for i in range(count)
    ]


def key(result: Any) -> tuple[Any, ...]:
    """A result as something that is equal only where every bit is."""
    return result.xyxy.tobytes(), result.conf.tobytes(), result.cls.tobytes(), result.truncated, result.orig_shape


def serial_twins(detector: Any, pictures: list[np.ndarray], kinds: list[dict[str, Any]]) -> list[list[Any]]:
    """`twins[kind][picture]`: what each call gives alone, one after the other."""
    return [[key(detector(picture, **kind)) for picture in pictures] for kind in kinds]


def through(dispatcher: Any) -> Callable[..., Any]:
    """Calls as a detector takes them, of one image or a list, each image a request of its own."""

    def call(images: Any, **options: Any) -> Any:
        if not isinstance(images, list | tuple):
            return dispatcher(images, **options)
        futures = [dispatcher.submit(image, **options) for image in images]
        return [future.result(GUARD_S) for future in futures]

    return call


def hammer(
    detector: Callable[..., Any],
    pictures: list[np.ndarray],
    kinds: list[dict[str, Any]],
    twins: list[list[Any]],
    calls: int,
    *,
    tolerated: tuple[type[Exception], ...] = (),
) -> Outcome:
    """`calls` calls of mixed kinds, single and in batches, from THREADS threads that start together."""
    outcome, lock, left, barrier = Outcome(), threading.Lock(), iter(range(calls)), threading.Barrier(THREADS)
    errors: list[Exception] = []

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        own = Outcome()
        barrier.wait()
        try:
            for _ in left:
                kind = int(rng.integers(len(kinds)))
                chosen = rng.integers(len(pictures), size=int(rng.integers(1, 6)) if rng.random() < 0.25 else 1)
                own.calls += 1
                own.images += len(chosen)
                try:
                    if len(chosen) == 1:
                        results = [detector(pictures[chosen[0]], **kinds[kind])]
                    else:
                        results = detector([pictures[i] for i in chosen], **kinds[kind])
                except tolerated:
                    own.failures += 1
                    continue
                own.crossings += sum(key(r) != twins[kind][i] for r, i in zip(results, chosen, strict=True))
        except Exception as e:  # noqa: BLE001 - shown by the assertion below
            errors.append(e)
        with lock:
            outcome.calls += own.calls
            outcome.images += own.images
            outcome.crossings += own.crossings
            outcome.failures += own.failures

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors
    return outcome
