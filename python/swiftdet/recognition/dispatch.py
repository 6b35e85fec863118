"""From the outputs of a network to the reader of their layout."""

from __future__ import annotations

from typing import TYPE_CHECKING

from swiftdet.recognition.anchor_maps import read_anchor_maps
from swiftdet.recognition.distribution_maps import read_distribution_maps
from swiftdet.recognition.predictions import read_predictions
from swiftdet.recognition.scores_boxes import read_scores_boxes
from swiftdet.recognition.shapes import check_outputs

if TYPE_CHECKING:
    from swiftdet.recognition.evidence import Evidence
    from swiftdet.spec import ModelSpec

_LAYOUTS_READ = (
    "swiftdet reads YOLOv7 and YOLOv5 (raw maps, --grid, --end2end), DAMO-YOLO (default, --benchmark, --end2end, raw) "
    "and Ultralytics detection exports"
)


def recognise(evidence: Evidence) -> ModelSpec:
    """The description of the detector whose outputs `evidence` holds.

    Raises:
        ModelError: no known detector, or an ambiguous or contradictory one; says what was found and what would help.
    """
    task = evidence.metadata.task
    if task not in {None, "detect"}:
        raise evidence.refusal(f"the metadata says that the task is {task!r}, expected 'detect'")
    spec = _read(evidence)
    if evidence.family is not None and spec.family != evidence.family:
        raise evidence.refusal(
            f"family {evidence.family!r} was asked for, but the outputs are those of {spec.family!r} "
            f"({spec.source.removeprefix('inferred: ')})",
            "leave the family out, or check that this is the right file",
        )
    spec.check()
    check_outputs(spec, evidence.signature)
    return spec


def _read(evidence: Evidence) -> ModelSpec:
    shapes = [port.shape for port in evidence.outputs]
    ranks = [len(shape) for shape in shapes]
    if evidence.cut is not None:
        return read_scores_boxes(evidence)
    if any(d < 1 for shape in shapes for d in shape):
        raise evidence.refusal(
            "an output's shape stays open at a fixed input size: final detections, or no detector",
            "if it suppresses inside, give swiftdet the ONNX file: there the suppression is cut away",
        )
    if ranks.count(3) == 1 and set(ranks) == {3, 4} and all(min(s[2:]) > 1 for s in shapes if len(s) == 4):
        raise evidence.refusal(
            "predictions beside a map of prototypes: an instance segmentation model",
            "export the detection model of that size instead",
        )
    if ranks.count(3) == 1 and all(rank in {3, 5} for rank in ranks):  # older exports add the raw maps
        return read_predictions(evidence, shapes[ranks.index(3)], evidence.outputs[ranks.index(3)].name)
    if len(ranks) in {3, 4} and (set(ranks) == {5} or set(ranks) == {4}):
        return read_anchor_maps(evidence)
    if len(ranks) == 6 and set(ranks) == {4}:
        return read_distribution_maps(evidence)
    if ranks == [3, 3]:
        return read_scores_boxes(evidence)
    if len(ranks) == 4 and any(len(shape) == 3 and shape[-1] == 4 for shape in shapes):
        raise evidence.refusal(
            "boxes, scores, classes and their number: detections after a suppression that cannot be cut away here",
            "export the network without it (YOLOv7: without --end2end; DAMO-YOLO: without --end2end)",
        )
    if ranks == [2]:
        raise evidence.refusal(f"one vector per image: a classifier, not a detector; {_LAYOUTS_READ}")
    raise evidence.refusal(f"no known detector has such outputs; {_LAYOUTS_READ}")
