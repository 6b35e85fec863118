"""Documents of measurements that nobody measured, complete and valid, for tests of what is made of them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from swiftdet import measurements

FEWEST = {"p50": 10, "p90": 100, "p95": 200, "p99": 1000}
HOST = {
    "cpu": "Imagined CPU",
    "logical_processors": 4,
    "physical_cores": 2,
    "usable_processors": 4,
    "memory_bytes": 8 << 30,
    "cpu_mhz": 3000,
    "cpu_max_mhz": None,
    "governor": None,
    "virtualised": False,
    "system": "Linux 6.1 x86_64",
    "gpu": None,
}
SUBJECT = {
    "model": "demo-yolov7",
    "file": "demo-yolov7.safetensors",
    "variant": "demo-yolov7",
    "family": "yolov7",
    "model_sha256": "0" * 64,
    "graph_sha256": "1" * 64,
    "engine_sha256": None,
    "synthetic": False,
    "classes": 8,
    "imgsz": [256, 256],
    "preprocess": {"mode": "letterbox", "interpolation": "linear"},
    "head": "anchor_maps",
    "engine": "OpenVINO 2026.4.1-22982 CPU f32",
    "device": "cpu",
    "device_reason": None,
    "precision": "fp32",
    "performance": "latency",
    "isa": "avx2",
}
PROTOCOL = {
    "name": "yolov7-fixed",
    "family": "yolov7",
    "conf": 0.001,
    "iou": 0.65,
    "max_det": 300,
    "multi_label": True,
    "resize": {
        "rule": "letterbox",
        "shrink": "linear",
        "enlarge": "linear",
        "pad_value": 114,
        "group": None,
        "extra_strides": None,
    },
    "box_decimals": 3,
    "score_decimals": 5,
    "source": "somewhere",
    "deviations": [],
    "chosen": "asked for",
}
DATASET = {
    "name": "scenes",
    "split": "val",
    "annotations": "val.json",
    "annotations_sha256": "a" * 64,
    "images_sha256": "b" * 64,
    "images": 100,
    "objects": 479,
}
SCORES = {
    "AP": 0.655, "AP50": 0.95, "AP75": 0.76, "APs": 0.62, "APm": 0.69, "APl": None,
    "AR1": 0.5, "AR10": 0.6, "AR100": 0.7, "ARs": 0.5, "ARm": 0.6, "ARl": None,
}  # fmt: skip


def subject(**changes: Any) -> dict[str, Any]:
    return {**copy.deepcopy(SUBJECT), **changes}


def provenance(command: str = "swiftdet benchmark demo-yolov7", **host: Any) -> dict[str, Any]:
    return {
        "swiftdet": "0.1.0",
        "commit": "c" * 40,
        "build": {},
        "python": "3.11.7",
        "packages": {"openvino": "2026.4.1"},
        "host": {**HOST, **host},
        "command": command.split(),
        "environment": {},
        "seed": None,
    }


def evaluation(
    *,
    of: dict[str, Any] | None = None,
    protocol: dict[str, Any] | None = None,
    dataset: dict[str, Any] | None = None,
    ap: float = 0.655,
    interval: tuple[float, float] | None = None,
    unknown: Sequence[str] = (),
    host: dict[str, Any] | None = None,
) -> measurements.Document:
    """Of a detector; `protocol` and `dataset` change fields of the usual ones."""
    between = None if interval is None else {"low": interval[0], "high": interval[1], "level": 0.95, "resamples": 400}
    return measurements.seal(
        "evaluation",
        subject=subject() if of is None else of,
        measured={
            **({} if between is None else {"ap_interval": between}),
            "protocol": {**copy.deepcopy(PROTOCOL), **(protocol or {})},
            "dataset": {**DATASET, **(dataset or {})},
            "scores": {**SCORES, "AP": ap},
            "per_class": {"house": {"AP": ap, "AP50": 0.9, "objects": 479}},
            "evaluator": "pycocotools 2.0.11",
            "unknown_categories": list(unknown),
            "truncated": 0,
            "predictions": {"count": 3, "sha256": "d" * 64, "file": None},
            "duration_s": 5.0,
            "images_per_s": 20.0,
            "resumed_images": 0,
        },
        provenance=provenance("swiftdet val --model demo-yolov7", **(host or {})),
    )


def benchmark(
    *,
    of: dict[str, Any] | None = None,
    runs: list[dict[str, Any]] | None = None,
    options: dict[str, Any] | None = None,
    given: dict[str, Any] | None = None,
    host: dict[str, Any] | None = None,
) -> measurements.Document:
    """Of a detector; `options` and `given` change fields of the usual options and input."""
    usual = {"conf": 0.25, "iou": 0.7, "max_det": 300, "class_agnostic": False, "multi_label": False}
    images = {
        "kind": "files",
        "source": "the demos' sample",
        "names": ["a.jpg"],
        "images": 100,
        "left_out": 0,
        "sha256": "e" * 64,
        "sizes": [[480, 640]],
    }
    start = {"process": "new", "import_ms": 300.0, "load_ms": 100.0, "first_call_ms": 9.0, "rss_bytes": 200 << 20}
    return measurements.seal(
        "benchmark",
        subject=subject() if of is None else of,
        measured={
            "input": {**images, **(given or {})},
            "options": {**usual, **(options or {})},
            "cold_start": start,
            "runs": [run()] if runs is None else runs,
        },
        provenance=provenance(**(host or {})),
    )


def run(*, median: float = 10.0, count: int = 1500, warnings: tuple[str, ...] = (), **changes: Any) -> dict[str, Any]:
    """One run of a benchmark, whose calls took about `median` ms."""
    shares = {"decode": 0.1, "preprocess": 0.05, "inference": 0.8, "postprocess": 0.03, "python": 0.02}
    interference = {
        "steal_percent": 0.0,
        "other_load_percent": 0.0,
        "frequency_mhz": None,
        "involuntary_switches": 0,
        "throttled": False,
        "cpu_pressure_percent": None,
        "gpu": None,
        "warnings": list(warnings),
    }
    return {
        "loop": "closed",
        "rate_hz": None,
        "threads": 1,
        "sessions": 3,
        "batch": 1,
        "timed": False,
        "warmup_s": 1.0,
        "duration_s": 10.0,
        "calls": count,
        "images": count,
        "objects": 4 * count,
        "not_begun": 0,
        "stages": {name: statistics(share * median, count) for name, share in shares.items()},
        "late": None,
        "total": statistics(median, count),
        "throughput_images_per_s": 1000.0 / median,
        "harness_ms": 0.01,
        "memory": {"rss_bytes": 100 << 20, "peak_rss_bytes": 120 << 20, "gpu_bytes": None},
        "interference": interference,
        "samples": None,
        **changes,
    }


def statistics(median: float, count: int) -> dict[str, Any]:
    spread = {"p50": 1.0, "p90": 1.2, "p95": 1.3, "p99": 1.5}
    percentiles = {name: median * spread[name] if count >= least else None for name, least in FEWEST.items()}
    return {"count": count, "mean": median, "std": 0.1, "min": 0.8 * median, **percentiles, "max": 2.0 * median}


def verification(*, passed: bool = True) -> measurements.Document:
    """Of the usual detector against itself in another engine."""
    error = {"mean": 0.001, "p99": 0.01, "max": 0.02}
    side = {"detections": 9, "paired": 9, "class_flips": 0, "nms_choices": 0, "alone": 0, "truncated": 0}
    options = {"iou": 0.7, "max_det": 300, "multi_label": False, "class_agnostic": False, "imgsz": [256, 256]}
    outcome = "passed" if passed else "broken"
    return measurements.seal(
        "verification",
        subject=subject(),
        measured={
            "reference": subject(engine="onnxruntime 1.32.0"),
            "images": {"count": 12, "sha256": "f" * 64},
            "conf": 0.25,
            "lowest_conf": 0.2,
            "tolerance": {"name": "fp32", "same_box_px": 1.0, "same_score": 0.01},
            "options": {"reference": options, "test": options},
            "detections": {"reference": side, "test": side},
            "pairs": 9,
            "match_rate": 1.0,
            "class_flip_rate": 0.0,
            "nms_choice_rate": 0.0,
            "box_error_px": error,
            "box_error_network_px": error,
            "box_shift_network_px": None,
            "score_error": error,
            "raw_outputs": {"reference": None, "test": None},
            "raw_output_difference": None,
            "accuracy": None,
            "worst": [],
            "notes": [],
            "passed": passed,
            "gates": [{"name": "min_match_rate", "limit": 0.99, "measured": 1.0, "outcome": outcome}],
        },
        provenance=provenance("swiftdet verify"),
    )
