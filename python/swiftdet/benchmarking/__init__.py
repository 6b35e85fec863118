"""Latency and throughput of a detector, measured as docs/measurements.md tells.

Example:
    >>> document = swiftdet.benchmark("demo-yolov7", duration_s=2)  # doctest: +SKIP
    >>> document["measured"]["runs"][0]["total"]["p50"]  # doctest: +SKIP
    1.9
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from swiftdet import checks, measurements
from swiftdet.benchmarking import cold_start as starting
from swiftdet.benchmarking import loops, plan, statistics, workload
from swiftdet.benchmarking.calls import Caller
from swiftdet.benchmarking.gpu_watch import GpuWatch
from swiftdet.benchmarking.interference import Watch
from swiftdet.benchmarking.loops import Loop, Outcome
from swiftdet.benchmarking.stages import STAGES, Stages
from swiftdet.errors import InvalidArgument

__all__ = ["STAGES", "Progress", "benchmark"]


@dataclass(frozen=True)
class Progress:
    """How far a benchmark is.

    Attributes:
        run, runs: the number of the present run, from 1, and how many there are.
        loop: of the present run.
        seconds, total: that are over, and that all runs are to take, without the making of the detector.
    """

    run: int
    runs: int
    loop: Loop
    seconds: float
    total: float


def benchmark(
    model: str | os.PathLike[str],
    *,
    weights: str | os.PathLike[str] | None = None,
    images: Any = None,
    batch: int | Sequence[int] = 1,
    threads: int | Sequence[int] = 1,
    rate_hz: float | Sequence[float] | None = None,
    duration_s: float = 10.0,
    warmup_s: float = 1.0,
    conf: float = 0.25,
    iou: float = 0.7,
    max_det: int = 300,
    class_agnostic: bool = False,
    multi_label: bool = False,
    timed: bool = True,
    cold_start: str = "new",
    samples: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
    **detector: Any,
) -> measurements.Document:
    """Measures how long a detector takes, alone in its process: start, stages, percentiles, throughput, memory.

    Each combination of `threads` and `batch` is a run in a closed loop, and one in a paced loop for each of `rate_hz`.
    All threads call one detector. Every call is timed and counts; nothing is clipped.

    Args:
        model: as for `Detector`.
        weights: as for `Detector`; None with a name of the zoo that brings no weights: "synthetic", made-up ones, whose
            time is the same. `subject.synthetic` says so.
        images: what to detect in: an image file, folder or pattern, or a list of files, which each call decodes from
            memory; or a uint8 array [H, W, 3] BGR or a list of them. None: the demos' sample of 100 pictures.
        batch: images a call.
        threads: that call at the same time.
        rate_hz: calls a second, of all threads together, by a timetable. A call is then timed from when it was due, so
            what waits because the detector is late counts.
        duration_s: of each run, without its warm-up.
        warmup_s: of each run; three calls a thread at least, unless it is 0.
        conf: as for a call of `Detector`, like the next four.
        iou: threshold of NMS.
        max_det: most boxes an image.
        class_agnostic: classes suppress one another.
        multi_label: several classes a box.
        timed: on a GPU: the stages by CUDA events. False measures calls as they usually are, a few events cheaper, with
            one stage "device" for all that the compiled part does.
        cold_start: "new": import, construction and first call in a new process, which is started for it; "this":
            construction and first call in this one, as is always done for an engine that is a Python object.
        samples: keep every call's times in the document.
        on_progress: called about twice a second, in the calling thread.
        **detector: options of `Detector`: family, device, engine, precision, performance, imgsz, max_batch, sessions,
            trust_plan, cache_dir.

    Returns:
        A document of format swiftdet.benchmark/1, for `swiftdet.measurements.write`.

    Raises:
        InvalidArgument, InvalidType: an option outside its contract, or no images.
        ImageError: an image that is missing or cannot be read.
        BackendError: a call failed, or the new process did.
        Whatever `Detector` raises.

    Blocks. Needs about 90 bytes a call and the encoded images in memory.
    """
    runs = plan.runs(batch=batch, threads=threads, rate_hz=rate_hz, duration_s=duration_s, warmup_s=warmup_s)
    checks.choice("cold_start", cold_start, ("new", "this"))
    keep = checks.switch("samples", samples)
    options = {
        "conf": checks.fraction("conf", conf),
        "iou": checks.fraction("iou", iou),
        "max_det": checks.whole("max_det", max_det),
        "class_agnostic": checks.switch("class_agnostic", class_agnostic),
        "multi_label": checks.switch("multi_label", multi_label),
    }
    if "color" in detector or "classes" in detector:
        raise InvalidArgument("a benchmark takes images in BGR order and looks for all classes")
    work = workload.gather(images)
    making = {
        "max_batch": max(8, *(loop.batch for loop in runs)),
        **options,
        **detector,
        "weights": plan.implied_weights(model, weights),
        "color": "rgb" if work.kind == "files" else "bgr",
    }
    bench = _Bench(model, making, work, timed=checks.switch("timed", timed))
    with bench.detector:
        start = bench.cold_start(cold_start)
        measured_runs = [
            bench.run(loop, keep_samples=keep, on_progress=report) for loop, report in _reported(runs, on_progress)
        ]
        return measurements.seal(
            "benchmark",
            subject=bench.detector.provenance,
            measured={"input": work.describe(), "options": options, "cold_start": start, "runs": measured_runs},
            provenance=measurements.collect(bench.detector.device),
        )


class _Bench:
    """A detector, and what it is measured with."""

    def __init__(
        self, model: str | os.PathLike[str], options: dict[str, Any], work: workload.Workload, *, timed: bool
    ) -> None:
        from swiftdet.detector import Detector  # noqa: PLC0415 - so that `swiftdet --help` loads no engine

        began = time.perf_counter_ns()
        self.detector = Detector(model, **options)
        self._load_ns = time.perf_counter_ns() - began
        self._model = os.fspath(model)
        self._options = options
        self._work = work
        self._on_gpu = self.detector.device != "cpu"
        self._timed = timed and self._on_gpu
        stages = Stages(decoded=work.kind == "files", on_gpu=self._on_gpu, timed=timed)
        self._caller = Caller(self.detector, stages, {"timed": True} if self._timed else {})

    def cold_start(self, where: str) -> dict[str, Any]:
        """As `measured.cold_start` has it."""
        image = self._work.first_pixels()
        if where == "this" or not isinstance(self._options.get("engine", "auto"), str):
            return starting.in_this_process(self._load_ns, self.detector, image)
        return starting.in_new_process(self._model, self._options, image)

    def run(self, loop: Loop, *, keep_samples: bool, on_progress: Callable[[float], None]) -> dict[str, Any]:
        """One of `measured.runs`."""
        watch = Watch(GpuWatch.of(int(self.detector.device.rpartition(":")[2])) if self._on_gpu else None)
        outcome = loops.run(self._caller, self._work.batches(loop.batch), loop, watch, on_progress)
        memory, interference = watch.stop()
        return {
            "loop": "closed" if loop.rate_hz is None else "paced",
            "rate_hz": loop.rate_hz,
            "threads": loop.threads,
            "sessions": self.detector._concurrency()[1],  # noqa: SLF001 - what else calls wait for
            "batch": loop.batch,
            "timed": self._timed,
            "warmup_s": outcome.warmup_s,
            "duration_s": outcome.duration_s,
            "calls": len(outcome.total),
            "images": len(outcome.total) * loop.batch,
            "objects": outcome.objects,
            "not_begun": outcome.not_begun,
            "stages": {name: statistics.describe(column) for name, column in outcome.stages.items()},
            "late": None if loop.rate_hz is None else statistics.describe(outcome.late),
            "total": statistics.describe(outcome.total),
            "throughput_images_per_s": len(outcome.total) * loop.batch / outcome.duration_s,
            "harness_ms": outcome.harness_ms,
            "memory": memory,
            "interference": interference,
            "samples": _samples(outcome, paced=loop.rate_hz is not None) if keep_samples else None,
        }


def _samples(outcome: Outcome, *, paced: bool) -> dict[str, list[float]]:
    """Every call's milliseconds, rounded to the nanosecond that the clock has."""
    columns = {**outcome.stages, **({"late": outcome.late} if paced else {}), "total": outcome.total}
    return {name: column.round(6).tolist() for name, column in columns.items()}


def _reported(
    runs: Sequence[Loop], on_progress: Callable[[Progress], None] | None
) -> Iterator[tuple[Loop, Callable[[float], None]]]:
    """Each run with what is to be called with its seconds."""
    total = sum(loop.warmup_s + loop.duration_s for loop in runs)
    over = 0.0
    for number, loop in enumerate(runs, start=1):

        def report(seconds: float, number: int = number, loop: Loop = loop, over: float = over) -> None:
            if on_progress is not None:
                on_progress(Progress(number, len(runs), loop, over + seconds, total))

        report(0.0)
        yield loop, report
        over += loop.warmup_s + loop.duration_s
