"""The doors by name."""

from __future__ import annotations

from fuzzing.door import Door
from fuzzing.doors.arguments import CallDoor, DetectorDoor, OpsDoor
from fuzzing.doors.checkpoints import CheckpointDoor
from fuzzing.doors.command_line import CommandLineDoor
from fuzzing.doors.documents import AnnotationsDoor, DescriptionDoor, ManifestDoor, UnfinishedDoor
from fuzzing.doors.images import ImageDoor
from fuzzing.doors.measurements import MeasurementsDoor
from fuzzing.doors.models import IrDoor, IrRunDoor, OnnxDoor, OnnxRunDoor, OnnxRuntimeDoor, PlanDoor
from fuzzing.doors.videos import VideoDoor

DOORS: dict[str, type[Door]] = {
    "images": ImageDoor,
    "videos": VideoDoor,
    "onnx": OnnxDoor,
    "onnx-run": OnnxRunDoor,
    "onnxruntime": OnnxRuntimeDoor,
    "ir": IrDoor,
    "ir-run": IrRunDoor,
    "plans": PlanDoor,
    "manifests": ManifestDoor,
    "checkpoints": CheckpointDoor,
    "descriptions": DescriptionDoor,
    "annotations": AnnotationsDoor,
    "measurements": MeasurementsDoor,
    "unfinished": UnfinishedDoor,
    "command-line": CommandLineDoor,
    "ops": OpsDoor,
    "calls": CallDoor,
    "detector": DetectorDoor,
}
