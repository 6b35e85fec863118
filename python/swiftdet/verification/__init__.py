"""Whether two detectors mean the same: two engines, precisions or files, on the same images.

Example:
    >>> reference = swiftdet.Detector("demo-yolov7")  # doctest: +SKIP
    >>> test = swiftdet.Detector("demo-yolov7", engine="onnxruntime")  # doctest: +SKIP
    >>> swiftdet.verify(reference, test, swiftdet.demo.dataset().images).passed  # doctest: +SKIP
    True
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swiftdet import checks, sources
from swiftdet.errors import InvalidArgument
from swiftdet.evaluation import EvalReport, evaluate
from swiftdet.verification.comparison import ImageComparison, Tolerance, compare
from swiftdet.verification.figures import Figures, gated
from swiftdet.verification.gates import FEW_DETECTIONS, judge, tolerance_for
from swiftdet.verification.report import VerificationReport
from swiftdet.verification.side import Side
from swiftdet.verification.worst import Worst

if TYPE_CHECKING:
    from swiftdet.detector import Detector
    from swiftdet.results import Detections

__all__ = ["CONF", "VerificationReport", "verify"]

CONF = 0.1
"""Detections over this score are compared: low enough for second classes of a box, high enough to mean something."""

Progress = Callable[[str, int, int], None]


def verify(
    reference: Detector,
    test: Detector,
    images: Any,
    *,
    annotations: str | os.PathLike[str] | None = None,
    protocol: str = "auto",
    conf: float = CONF,
    tolerance: str = "auto",
    gates: Mapping[str, float | None] | None = None,
    worst: int = 8,
    on_progress: Progress | None = None,
    **per_call: Any,
) -> VerificationReport:
    """Detects in the same images with two detectors and measures how far their answers are apart.

    Classes are compared by name. `docs/verify.md` defines each figure.

    Args:
        reference: the detector that is believed.
        test: the one in question.
        images: files, folders, patterns, arrays or lists of these, as `Detector.predict` takes them; no videos.
        annotations: of `images`, then one folder, in COCO's format: AP is measured too, of both by one protocol.
        protocol: of that measurement; "auto": the one of the reference's family.
        conf: detections over this score on either side are compared, 0..1.
        tolerance: "fp32", "fp16" or "bf16": which limits apply; "auto": by the sides' precisions.
        gates: other limits, by the names of `swiftdet.verification.gates.Gates`; None as a value: no limit.
        worst: how many of the images that differ most the report shows.
        on_progress: called with (what is done, images done, images in all) as it goes on, in the calling thread.
        **per_call: iou, max_det, multi_label, imgsz and the like, for the calls of both; what is not given is each
            detector's own.

    Raises:
        InvalidArgument, InvalidType: detectors of different classes, no image, a video, an option outside its contract.
        ImageError: an image that is missing or cannot be read.
        DatasetError: annotations that are none, or not of these images.
        ModelError: annotations, and weights that are made up.
        BackendError: an engine failed.

    Safe from several threads. Keeps a few numbers for each detection, and no picture but arrays that it was given.
    """
    sides = Side("reference", reference, per_call), Side("test", test, per_call)
    renumbered = sides[1].use_classes_of(sides[0])
    allowed = tolerance_for(tolerance, reference.provenance, test.provenance)
    limits = allowed.gates.changed(gates or {})
    same = Tolerance(checks.fraction("conf", conf), allowed.same_score, allowed.same_box_px)
    totals, shown = Figures(), Worst(checks.whole("worst", worst, lowest=0), same)
    items = _images(images)
    follow = on_progress or (lambda *_: None)
    accuracy = None if annotations is None else _accuracy(sides, images, annotations, protocol, follow)
    digest = hashlib.sha256()
    for number, item in enumerate(items):
        compared, result = _compare(item, sides, same)
        totals.add(compared)
        totals.add_raw(*(side.look_into(item) for side in sides))
        shown.add(str(item) if isinstance(item, Path) else f"image {number}", item, compared)
        digest.update(item.read_bytes() if isinstance(item, Path) else result.orig_img.tobytes())
        follow("comparing", number + 1, len(items))
    measured: dict[str, Any] = {
        "reference": reference.provenance,
        "images": {"count": len(items), "sha256": digest.hexdigest()},
        "conf": same.conf,
        "lowest_conf": same.lowest,
        "tolerance": {"name": allowed.name, "same_box_px": allowed.same_box_px, "same_score": allowed.same_score},
        "options": {side.name: side.options for side in sides},
        **totals.summary(),
        "raw_outputs": {side.name: None if side.raw is None else vars(side.raw) for side in sides},
        "accuracy": accuracy,
        "worst": [image.row() for image in shown.images()],
    }
    measured["notes"] = _notes(sides, measured, renumbered=renumbered)
    return VerificationReport(
        subject=test.provenance,
        measured=measured,
        gates=judge(limits, gated(measured)),
        names=reference.spec.names,
        worst=shown.images(),
    )


def _images(images: Any) -> list[Any]:
    items = sources.expand(images)
    for item in items:
        if isinstance(item, sources.Video):
            raise InvalidArgument(f"images: expected still images, got the video {item.name}")
    if not items:
        raise InvalidArgument("images: expected at least one image, got none")
    return items


def _compare(image: Any, sides: tuple[Side, Side], same: Tolerance) -> tuple[ImageComparison, Detections]:
    """One image, and what the reference found in it."""
    reference, test = sides
    results = [side.detect(image, same.lowest) for side in sides]
    by_name = {side.name: side for side in sides}
    compared = compare(
        reference.found(results[0]),
        test.found(results[1]),
        scale=reference.scale(results[0].orig_shape),
        tolerance=same,
        proposals=lambda name: by_name[name].propose(image, same.lowest_proposed),
    )
    return compared, results[0]


def _accuracy(
    sides: tuple[Side, Side], images: Any, annotations: str | os.PathLike[str], protocol: str, follow: Progress
) -> dict[str, Any]:
    """AP of both, by the protocol of the reference."""
    if not isinstance(images, str | os.PathLike) or not Path(images).is_dir():
        raise InvalidArgument("annotations: they are of one folder; expected that folder as the images")
    reports: list[EvalReport] = []
    for side in sides:
        # One protocol for both, whatever the family of the test.
        name = reports[0].protocol.name if reports else protocol
        on_progress = functools.partial(follow, f"AP of the {side.name}")
        reports.append(evaluate(side.detector, images, annotations, protocol=name, on_progress=on_progress))
    first, second = (report.scores for report in reports)
    return {
        "protocol": reports[0].protocol.name,
        "annotations": os.fspath(annotations),
        "annotations_sha256": hashlib.sha256(Path(annotations).read_bytes()).hexdigest(),
        "images": reports[0].images,
        "reference": first,
        "test": second,
        "change": {key: _difference(first[key], second[key]) for key in first},
    }


def _difference(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else after - before


def _notes(sides: tuple[Side, Side], measured: Mapping[str, Any], *, renumbered: bool) -> list[str]:
    """What is no failure, but must not be overlooked."""
    reference, test = (side.detector for side in sides)
    notes = []
    if sides[0].is_same_as(sides[1]):
        notes.append("both sides are the same model on the same engine with the same options: they can only agree")
    if renumbered:
        notes.append("the classes of the test are in another order; they are compared by name")
    for side in sides:
        if side.detector.spec.synthetic:
            notes.append(f"the weights of the {side.name} are made up (synthetic): what is found means nothing")
        if side.raw is None:
            notes.append(f"the {side.name} runs on a GPU, where raw outputs cannot be looked at: NaN were not counted")
        if truncated := measured["detections"][side.name]["truncated"]:
            notes.append(f"limits cut off {truncated} candidates of the {side.name}: raise max_det or conf")
    if 0 < (count := measured["detections"]["reference"]["detections"]) < FEW_DETECTIONS:
        notes.append(f"only {count} detections were compared: one of them is a large share; give more images")
    if reference.imgsz != test.imgsz:
        notes.append("the networks' inputs differ in size; px of the network's input are those of the reference")
    return notes
