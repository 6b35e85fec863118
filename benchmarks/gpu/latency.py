"""Latency of detectors on this machine's GPU: the network alone by CUDA events, and whole calls by the clock.

    python benchmarks/gpu/latency.py damo-yolo-t damo-yolo-s yolov7-tiny yolov7 -o latency.json
    python benchmarks/gpu/latency.py mine.engine --batch 8

A name gets an FP16 engine with made-up weights, which cost the same time as trained ones; `--weights` names a
checkpoint instead. Engines are kept in `--engines`. Every call is timed, nothing is clipped.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from swiftdet import _core, device_policy
from swiftdet.engines.tensorrt import running
from swiftdet.engines.tensorrt.plan_files import SUFFIXES, read_plan
from swiftdet.results import TIMED_STAGES

OPTIONS = {"conf": 0.25, "iou": 0.7, "max_det": 300, "class_agnostic": False, "multi_label": False, "classes": None}


def engine_file(model, arguments):
    """The engine of a name, built unless it is there; an engine's file itself."""
    if Path(model).suffix in SUFFIXES:
        return Path(model)
    path = arguments.engines / f"{model}-{arguments.precision}-{arguments.batch}.engine"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        batches = [f"--{name}-batch={arguments.batch}" for name in ("min", "opt", "max")]
        command = [sys.executable, "-m", "swiftdet", "build", model, "--weights", arguments.weights, *batches]
        command += ["--precision", arguments.precision, "--device", arguments.device, "-o", str(path)]
        subprocess.run(command, check=True)  # noqa: S603 - what the caller of this script asked for
    return path


def pipeline(path, device, batch):
    """The compiled pipeline over an engine, and the description of the engine."""
    plan = read_plan(path)
    if plan.manifest is None:
        raise SystemExit(f"{path}: expected an engine of `swiftdet build`, with its manifest beside it")
    spec = plan.manifest.spec
    preprocess = {name: value for name, value in vars(spec.preprocess).items() if name != "channel_order"}
    engine = running.open_engine(plan, device)
    make = running.cuda_part().Detector
    parts = (_core.Preprocess(**preprocess), _core.HeadSpec(**vars(spec.head)), spec.imgsz)
    return make(engine, *parts, max_batch=batch), engine.description, plan.manifest.precision


def measure(path, arguments):
    """One row: milliseconds per call."""
    device = device_policy.parse(arguments.device)
    rng = np.random.default_rng(0)
    frames = [(rng.integers(0, 256, (720, 1280, 3), np.uint8), False) for _ in range(arguments.batch)]
    detector, description, precision = pipeline(path, device, arguments.batch)
    for timed in (True, False):
        for _ in range(arguments.warmup):
            detector.detect(frames, timed=timed, **OPTIONS)
    times = [detector.detect(frames, timed=True, **OPTIONS)[0][4] for _ in range(arguments.calls)]
    stages = dict(zip(TIMED_STAGES, np.median(times, axis=0) * arguments.batch, strict=True))
    calls = []
    for _ in range(arguments.calls):
        start = time.perf_counter()
        detector.detect(frames, **OPTIONS)
        calls.append(1000 * (time.perf_counter() - start))
    p50, p90, p99 = (float(value) for value in np.percentile(calls, (50, 90, 99)))
    return {
        "model": path.stem,
        "engine": description,
        "precision": precision,
        "batch": arguments.batch,
        "frame": [720, 1280],
        "calls": arguments.calls,
        "captured": detector.capture_refusal == "",
        **{f"{stage}_ms_p50": float(time) for stage, time in stages.items() if stage != "inference"},
        "network_ms_p50": float(stages["inference"]),
        "call_ms_p50": p50,
        "call_ms_p90": p90,
        "call_ms_p99": p99,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL", help="names of `swiftdet models`, or engine files")
    parser.add_argument("--weights", default="synthetic", help="a checkpoint (default: made-up weights)")
    parser.add_argument("--precision", default="fp16", choices=["fp16", "fp32"])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--engines", type=Path, default=Path("engines"), help="where engines are kept")
    parser.add_argument("--calls", type=int, default=1000)
    parser.add_argument("--warmup", type=int, default=100)
    parser.add_argument("-o", "--output", type=Path, help="a file for the rows, as JSON")
    arguments = parser.parse_args()
    columns = ("network_ms_p50", "call_ms_p50", "call_ms_p90", "call_ms_p99")
    rows = []
    print(f"{'model':36} {'precision':9} {'batch':>5} {'captured':>8} " + " ".join(f"{c:>14}" for c in columns))
    for model in arguments.models:
        row = measure(engine_file(model, arguments), arguments)
        rows.append(row)
        print(
            f"{row['model']:36} {row['precision']:9} {row['batch']:5} {'yes' if row['captured'] else 'NO':>8} "
            + " ".join(f"{row[c]:14.3f}" for c in columns),
            flush=True,
        )
    print(rows[0]["engine"])
    if arguments.output:
        build = dict(running.cuda_part().build_config())
        document = {"rows": rows, "build": build, "python": platform.python_version(), "host": platform.platform()}
        arguments.output.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
