"""TensorRT engines as files: a manifest beside the plan, or the header that Ultralytics puts before it."""

from __future__ import annotations

import hashlib
import json
import random
from typing import Any

from fuzzing import mutations
from swiftdet.engines.tensorrt.plan_files import Manifest
from swiftdet.spec import Head, ModelSpec, Preprocess

_PLAN = b"ftrt" + bytes(range(60))
_HEADER = {
    "description": "Ultralytics YOLOv8n model", "author": "Ultralytics", "stride": 32, "task": "detect", "batch": 1,
    "imgsz": [64, 96], "names": {"0": "a", "1": "b", "2": "c"}, "args": {"nms": False},
}  # fmt: skip


def spec() -> ModelSpec:
    """The description of a small detector."""
    return ModelSpec(
        family="ultralytics",
        names=("a", "b", "c"),
        imgsz=(64, 96),
        stride=32,
        preprocess=Preprocess(),
        head=Head(layout="columns", num_classes=3, outputs=("output0",)),
    )


def manifest(plan: bytes) -> Manifest:
    """The manifest of a plan."""
    shape = (1, 3, 64, 96)
    return Manifest(
        spec=spec(), model="m.onnx", graph_sha256="0" * 64, plan_sha256=hashlib.sha256(plan).hexdigest(),
        plan_bytes=len(plan), precision="fp16", shapes=(shape, shape, (8, *shape[1:])), tensorrt="10.14.1.48",
        gpu="GPU",
        sm="sm_75", driver="580", created="2026-01-01T00:00:00+00:00", swiftdet="0.1.0",
    )  # fmt: skip


def with_header(document: Any) -> bytes:
    """A plan as Ultralytics writes it: the length of a JSON header, the header, the plan."""
    header = json.dumps(document).encode()
    return len(header).to_bytes(4, "little") + header + _PLAN


def seeds() -> list[tuple[bytes, bytes]]:
    """Plans and their manifests."""
    return [
        (_PLAN, manifest(_PLAN).to_json().encode()),
        (with_header(_HEADER), b""),
        (with_header({**_HEADER, "names": str(_HEADER["names"]), "imgsz": "[64, 96]"}), b""),
        (_PLAN, b""),
    ]


def changed_header(plan: bytes, rng: random.Random) -> bytes:
    """A plan whose header differs in its values, or that differs as bytes."""
    if plan[4:5] == b"{" and rng.random() < 0.8:
        return with_header(mutations.of_json(json.loads(plan[4:].split(_PLAN)[0]), rng))
    return mutations.of_bytes(plan, rng)


def changed_manifest(text: bytes, rng: random.Random) -> bytes:
    """A manifest whose values differ."""
    return mutations.json_text(mutations.of_json(json.loads(text), rng), rng)
