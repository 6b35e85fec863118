"""COCO accuracy of a detector, measured through the same pipeline that serves, by pycocotools.

Example:
    >>> det = swiftdet.Detector("demo-yolov7")  # doctest: +SKIP
    >>> report = swiftdet.evaluate(det, *swiftdet.demo.dataset())  # doctest: +SKIP
    >>> report.ap  # doctest: +SKIP
    0.65
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from swiftdet import checks, measurements
from swiftdet.detector import Detector
from swiftdet.errors import InvalidType, ModelError
from swiftdet.evaluation import protocols, running
from swiftdet.evaluation.dataset import Dataset, Survey, read_dataset, survey
from swiftdet.evaluation.partial_file import PartialFile
from swiftdet.evaluation.predictions import Predictions
from swiftdet.evaluation.protocols import PROTOCOLS, Protocol
from swiftdet.evaluation.report import EvalReport

__all__ = ["PROTOCOLS", "EvalReport", "Protocol", "evaluate"]

# Of what a detector says of itself: where it lies and why it runs there does not change what it predicts.
_WITHOUT_INFLUENCE = frozenset({"model", "file", "device_reason"})


def evaluate(
    detector: Detector,
    images_dir: str | os.PathLike[str],
    annotations_json: str | os.PathLike[str],
    *,
    protocol: str = "auto",
    force_protocol: bool = False,
    save_dir: str | os.PathLike[str] | None = None,
    restart: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> EvalReport:
    """Detects in every image of a COCO-format data set and scores the result by pycocotools.

    Several images are in flight, by way of a `BatchDispatcher`; each gets what a call for it alone gives. A detector
    made with `performance="throughput"` is fastest here.

    Args:
        detector: whose thresholds are replaced by the protocol's; engine and device are its own, as are the size and
            the way images are fitted into it, unless the protocol has rectangular batches.
        images_dir: folder that the file names of the annotations are relative to.
        annotations_json: objects with `images`, `annotations` and `categories`. Categories are matched to the
            detector's classes by name; those that the detector does not know count as never found, as COCO has it, and
            classes that are no category are not predicted.
        protocol: a name of `PROTOCOLS`; "auto": the one of the detector's family, for YOLOv7 `yolov7` where the model
            takes any size and `yolov7-fixed` where it does not. The report says which, and why.
        force_protocol: take the protocol's thresholds although its geometry is not the model's, which keeps its own;
            the result is labelled `NAME-forced`.
        save_dir: folder to keep what was found while the evaluation runs, and to `EvalReport.save` the result in. One
            that was interrupted goes on there when it is started again, with the same result.
        restart: drop what an interrupted evaluation left in `save_dir`.
        on_progress: called with (images done, images in all) after each image, in the calling thread.

    Raises:
        DatasetError: annotations that are none, an image that is missing, or no class in common.
        ImageError: an image that cannot be read.
        ModelError: the detector's weights are made up; its accuracy would mean nothing.
        InvalidArgument: no such protocol, or one that contradicts the detector's description; `save_dir` holds an
            unfinished evaluation of something else.
        InvalidType: an argument of the wrong type.
        OSError: `save_dir` cannot be written.

    Safe from several threads. At most 16 images are in memory, and 48 bytes for each predicted box; pycocotools needs
    about ten times that in the end.
    """
    if not isinstance(detector, Detector):
        raise InvalidType(f"detector: expected a swiftdet.Detector, got {type(detector).__name__}")
    folder = None if save_dir is None else Path(checks.path("save_dir", save_dir))
    restart = checks.switch("restart", restart)
    if detector.spec.synthetic:
        raise ModelError("the weights are made up (synthetic): there is no accuracy to measure; give real weights")
    chosen = protocols.choose(
        checks.choice("protocol", protocol, ("auto", *PROTOCOLS)),
        detector.spec,
        dynamic_size=detector.dynamic_size,
        force=checks.switch("force_protocol", force_protocol),
    )
    from swiftdet.evaluation import coco  # noqa: PLC0415 - pycocotools takes a moment to load

    provenance = measurements.collect(detector.device)
    dataset = read_dataset(
        Path(checks.path("images_dir", images_dir)), Path(checks.path("annotations_json", annotations_json))
    )
    category_of_class = dataset.match(detector.names)
    files = survey(dataset)
    todo = running.jobs(dataset.entries, files.sizes, chosen.protocol, detector)
    image_ids = [entry.image_id for entry in dataset.entries]
    with contextlib.ExitStack() as stack:
        kept = None
        if folder is not None:
            settings = _settings(detector, chosen.protocol, dataset, files) | {"commit": provenance["commit"]}
            kept = stack.enter_context(
                PartialFile(
                    folder,
                    settings,
                    image_ids=image_ids,
                    categories=category_of_class.values(),
                    restart=restart,
                )
            )
        outcome = running.run(detector, todo, chosen.protocol, category_of_class, kept=kept, on_progress=on_progress)
        predictions = Predictions(image_ids, [outcome.found[image_id] for image_id in image_ids])
        scores = coco.score(dataset.truth, predictions, interval=True)
        report = EvalReport(
            scores=scores.summary,
            interval=scores.interval,
            class_scores=scores.per_class,
            curves=scores.curves,
            dataset=dataset,
            images_sha256=files.sha256,
            unknown_categories=tuple(dataset.unknown(detector.names)),
            protocol=chosen.protocol,
            protocol_reason=chosen.reason,
            predictions=predictions,
            subject=detector.provenance,
            provenance=provenance,
            duration_s=outcome.duration_s,
            images_per_s=outcome.images_per_s,
            resumed_images=outcome.resumed_images,
        )
        if folder is not None and kept is not None:
            report.save(folder)
            kept.remove()
    return report


def _settings(detector: Detector, protocol: Protocol, dataset: Dataset, files: Survey) -> dict[str, Any]:
    """Everything that the predictions depend on."""
    return {
        **{key: value for key, value in detector.provenance.items() if key not in _WITHOUT_INFLUENCE},
        "names": list(detector.names.values()),
        "protocol": dataclasses.asdict(protocol),
        "annotations": dataset.sha256,
        "images": files.sha256,
    }
