"""What exporters write beside the graph: our own description, and the keys of Ultralytics' exports."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from swiftdet.errors import ModelError
from swiftdet.model_files.names import parse_names, printable
from swiftdet.spec import METADATA_KEY, ModelSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

_INTEGERS = re.compile(r"\s*[\[(]?\s*(\d{1,6})(?:\s*,\s*(\d{1,6}))?\s*,?\s*[\])]?\s*")


@dataclass(frozen=True)
class Metadata:
    """Parsed metadata; a field is None (or empty) where the file does not have it.

    Attributes:
        spec: our own description.
        ultralytics: the keys are those of an Ultralytics (YOLOv5 or later) export.
        names: class names.
        task: "detect", "segment", ...
        stride: of the network's coarsest level, px.
        imgsz: (height, width) px of the export.
        nms_done: the export says that its outputs are final detections; None where it does not say.
        description: the exporter's one line about the model.
    """

    spec: ModelSpec | None = None
    ultralytics: bool = False
    names: tuple[str, ...] | None = None
    task: str | None = None
    stride: int | None = None
    imgsz: tuple[int, int] | None = None
    nms_done: bool | None = None
    description: str = ""


def parse_metadata(entries: Mapping[str, str]) -> Metadata:
    """Reads the keys we know; others are ignored.

    Raises:
        ModelError: our own description, or the class names, are there but unreadable.
    """
    spec = ModelSpec.from_json(entries[METADATA_KEY]) if METADATA_KEY in entries else None
    names = None
    if "names" in entries:
        names = parse_names(entries["names"])
        if names is None:
            raise ModelError(
                "metadata key 'names': expected a flat dict {0: 'a', 1: 'b'} or list of class names, "
                f"got {entries['names'][:60]!r}"
            )
    stride = _integers(entries.get("stride", ""))
    imgsz = _integers(entries.get("imgsz", ""))
    end_to_end, nms = _flag(entries.get("end2end")), _flag(entries.get("nms"))
    if nms is None and (found := re.search(r"'nms': (True|False)", entries.get("args", "")[:10_000])):
        nms = found[1] == "True"
    return Metadata(
        spec=spec,
        ultralytics=entries.get("author") == "Ultralytics" or ("names" in entries and "stride" in entries),
        names=names,
        task=printable(entries["task"][:40]) if "task" in entries else None,
        stride=max(stride) if stride else None,
        imgsz=(imgsz[0], imgsz[-1]) if imgsz else None,
        nms_done=None if end_to_end is None and nms is None else bool(end_to_end or nms),
        description=printable(entries.get("description", "")[:200]),
    )


def _integers(text: str) -> tuple[int, ...]:
    """One or two positive integers from "640", "[640, 480]" or "(640,)"; () for anything else."""
    found = _INTEGERS.fullmatch(text[:200])
    values = tuple(int(v) for v in found.groups() if v) if found else ()
    return values if all(v > 0 for v in values) else ()


def _flag(text: str | None) -> bool | None:
    return {"true": True, "false": False}.get((text or "").lower())
