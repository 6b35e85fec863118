"""Detects in all images of a data set, several at a time, by a protocol's rules."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np

from swiftdet.detector import Detector
from swiftdet.dispatch import BatchDispatcher
from swiftdet.evaluation import rectangular
from swiftdet.evaluation.dataset import Entry
from swiftdet.evaluation.partial_file import PartialFile
from swiftdet.evaluation.predictions import ImagePredictions
from swiftdet.evaluation.protocols import Protocol
from swiftdet.results import Detections

IMAGES_AT_ONCE = 16
"""Most images that are in flight. What an interrupted evaluation loses, and what bounds its memory."""


@dataclass(frozen=True)
class Job:
    """One image and how it goes through the detector.

    Attributes:
        entry: the image.
        image: what the detector gets.
        options: of the call, beside the protocol's.
        to_source: from boxes of the result to boxes in px of the image; None: they are.
    """

    entry: Entry
    image: Any
    options: Mapping[str, Any]
    to_source: Callable[[rectangular.FloatArray], rectangular.FloatArray] | None = None


def jobs(
    entries: Sequence[Entry], sizes: Sequence[tuple[int, int]], protocol: Protocol, detector: Detector
) -> list[Job]:
    """A job for each image, in the order in which the protocol takes them.

    Args:
        entries: the images.
        sizes: (height, width) px of each.
        protocol: whose geometry the detector has.
        detector: for its size and stride.
    """
    resize = protocol.resize
    if resize.rule != "rectangular":
        return [Job(entry, entry.path, {}) for entry in entries]
    by_name = sorted(range(len(entries)), key=lambda i: entries[i].name)
    order, placements = rectangular.plan([sizes[i] for i in by_name], detector.imgsz[0], detector.spec.stride, resize)
    return [
        Job(
            entry=(entry := entries[by_name[i]]),
            image=rectangular.PlacedFile(entry.path, placements[i], resize),
            options={"imgsz": placements[i].shape, "color": "bgr"},
            to_source=placements[i].to_source,
        )
        for i in order
    ]


@dataclass(frozen=True)
class Outcome:
    """What a run found.

    Attributes:
        found: predictions by image id.
        duration_s: of this run.
        detected: images of this run.
        resumed_images: that an earlier run had done.
    """

    found: dict[int, ImagePredictions]
    duration_s: float
    detected: int
    resumed_images: int

    @property
    def images_per_s(self) -> float | None:
        """Of this run; None where there was nothing left to do."""
        return self.detected / self.duration_s if self.detected else None


def run(
    detector: Detector,
    todo: Sequence[Job],
    protocol: Protocol,
    category_of_class: Mapping[int, int],
    *,
    kept: PartialFile | None,
    on_progress: Callable[[int, int], None] | None,
) -> Outcome:
    """Does all jobs that an earlier run has not done.

    Args:
        detector: as `detect` has it, and the next two.
        todo: all jobs.
        protocol: of the evaluation.
        category_of_class: category ids by class id.
        kept: what an earlier run left; gets what this one finds.
        on_progress: called with (images done, images in all).
    """
    found = {} if kept is None else dict(kept.found)
    resumed = len(found)
    tell = on_progress or (lambda *_: None)
    if resumed:
        tell(resumed, len(todo))
    started = time.perf_counter()
    rest = [job for job in todo if job.entry.image_id not in found]
    with contextlib.closing(detect(detector, rest, protocol, category_of_class)) as results:
        for entry, one in results:
            found[entry.image_id] = one
            if kept is not None:
                kept.add(entry.image_id, one)
            tell(len(found), len(todo))
    return Outcome(found, time.perf_counter() - started, len(rest), resumed)


def detect(
    detector: Detector, todo: Sequence[Job], protocol: Protocol, category_of_class: Mapping[int, int]
) -> Generator[tuple[Entry, ImagePredictions], None, None]:
    """Yields the predictions of each job in order; what a call of the detector for that image alone gives.

    At most `IMAGES_AT_ONCE` images are in flight. One image to a call of the engine, so that nothing depends on which
    images happen to meet.

    Raises:
        ImageError, DatasetError: an image that cannot be read, or has changed.
        BackendError: the engine failed.
    """
    options = call_options(protocol, category_of_class)
    flying: deque[tuple[Job, Future[Detections]]] = deque()

    def landed() -> tuple[Entry, ImagePredictions]:
        job, future = flying.popleft()
        return job.entry, predictions(future.result(), job, protocol, category_of_class)

    with BatchDispatcher(detector, max_batch=1, queue_size=IMAGES_AT_ONCE) as dispatcher:
        for job in todo:
            if len(flying) == IMAGES_AT_ONCE:
                yield landed()
            flying.append((job, dispatcher.submit(job.image, **options, **job.options)))
        while flying:
            yield landed()


def call_options(protocol: Protocol, category_of_class: Mapping[int, int]) -> dict[str, Any]:
    """What a protocol asks of a call of the detector."""
    return {
        "conf": protocol.conf,
        "iou": protocol.iou,
        "max_det": protocol.max_det,
        "multi_label": protocol.multi_label,
        "class_agnostic": False,
        "classes": list(category_of_class),
    }


def predictions(
    result: Detections, job: Job, protocol: Protocol, category_of_class: Mapping[int, int]
) -> ImagePredictions:
    """A result as predictions of the data set: in px of the image, by category, rounded as the protocol says."""
    xyxy = result.xyxy if job.to_source is None else job.to_source(result.xyxy)
    boxes = xyxy.astype(np.float64)
    boxes[:, 2:] -= boxes[:, :2]
    table = np.empty((len(result), 6), np.float64)
    table[:, 0] = [category_of_class[cls] for cls in result.cls.tolist()]
    table[:, 1:5] = _rounded(boxes, protocol.box_decimals)
    table[:, 5] = _rounded(result.conf.astype(np.float64), protocol.score_decimals)
    return ImagePredictions(table, result.truncated)


def _rounded(values: np.ndarray[Any, np.dtype[np.float64]], decimals: int | None) -> Any:
    """Rounded by Python's rule, which is exact; NumPy's goes by way of a product that rounds by itself."""
    if decimals is None:
        return values
    flat = [round(value, decimals) for value in values.ravel().tolist()]
    return np.array(flat, np.float64).reshape(values.shape)
