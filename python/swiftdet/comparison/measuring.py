"""Measures a list of models, each in processes of its own, and keeps every document as soon as it is there.

The processes run `swiftdet benchmark` and `swiftdet val`, so that memory and start are those of one model alone, and
anybody can repeat a document by its command. A document that an earlier run left is taken where the same command on the
same machine by the same code, with the same files, would measure it again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from swiftdet import measurements, zoo
from swiftdet.comparison.folder import model_sha256
from swiftdet.comparison.page import RESULTS
from swiftdet.comparison.rows import Source, host_of, read_sources
from swiftdet.comparison.schedule import FEWEST_CALLS, Cost, Schedule, Slot
from swiftdet.errors import InvalidArgument, ModelError, SwiftdetError

DEFAULT_BUDGET_S = 12 * 60.0
"""For all that is measured without a list of models; the rest of a quarter of an hour is for slow machines."""

EVALUATIONS = "evaluations"
"""Of a comparison's folder: predictions and plots of each model that was scored."""

_SHORTEST_S, _LONGEST_S = 0.01, 7 * 86400.0
_GRACE_S = 45.0  # that a process may take longer than the budget has
_VARYING = ("--duration", "--warmup", "--output", "--save-dir")  # what changes nothing that a document is about
_LAST = 300
_MILLION = 1e6


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to measure, and on what.

    Attributes:
        models: names or files; empty: the demos, and the official variants with made-up weights.
        images, annotations: a data set in COCO's format to score on and to time with; None: the demos' own sample.
        device: as for `Detector`.
        protocol: of accuracy; None: the one that goes through the pipeline that is timed.
        duration_s: most seconds of calls for each model.
        budget_s: for all of it; None: as long as it takes, or `DEFAULT_BUDGET_S` where no models are named.
        fresh: measure anew what an earlier run left.
    """

    models: Sequence[str] = ()
    images: Path | None = None
    annotations: Path | None = None
    device: str = "auto"
    protocol: str | None = None
    duration_s: float = 10.0
    budget_s: float | None = None
    fresh: bool = False


@dataclass
class Outcome:
    """What a run of measurements ended with.

    Attributes:
        sources: the documents, model by model.
        skipped: a line on each thing that was not measured for want of time.
        failed: a line on each thing that could not be measured.
    """

    sources: list[Source] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


def measure(folder: Path, options: Options, *, on_progress: Callable[[str], None] = lambda _: None) -> Outcome:
    """Measures what is asked for and not there yet.

    Args:
        folder: of the comparison; documents go into its folder of results.
        options: what to measure.
        on_progress: is told, in words, what begins and how it went.

    Raises:
        InvalidArgument: options that contradict each other, or a name that is no model.
        OSError: the folder cannot be written.
    """
    return _Run(folder, options, on_progress).all()


class _Run:
    """The state of `measure`."""

    def __init__(self, folder: Path, options: Options, on_progress: Callable[[str], None]) -> None:
        if (options.images is None) != (options.annotations is None):
            raise InvalidArgument("images and annotations: expected both or neither")
        for name, seconds in (("duration", options.duration_s), ("budget", options.budget_s)):
            if seconds is not None and not _SHORTEST_S <= seconds <= _LONGEST_S:
                raise InvalidArgument(f"{name}: expected {_SHORTEST_S:g} to {_LONGEST_S:g} seconds, got {seconds:g}")
        self._results = folder / RESULTS
        self._evaluations = folder / EVALUATIONS
        self._options = options
        self._tell = on_progress
        self._models = _in_order(options.models)
        budget_s = options.budget_s
        if budget_s is None and not options.models:
            budget_s = DEFAULT_BUDGET_S
        self._budget_s = budget_s
        self._schedule = Schedule(budget_s, options.duration_s, [_cost(model) for model in self._models])
        self._outcome = Outcome()
        self._earlier: list[Path] = []

    def all(self) -> Outcome:
        """Everything, model by model."""
        self._results.mkdir(parents=True, exist_ok=True)
        for left in self._results.glob(".*.json"):
            left.unlink()  # of a process that was interrupted
        self._earlier = sorted(self._results.glob("*.json"))
        for number, model in enumerate(self._models):
            place = f"[{number + 1}/{len(self._models)}] {model}"
            source = self._timed(number, model, place)
            if source is not None and self._is_to_be_scored(model, source):
                self._scored(model, source, place)
        return self._outcome

    def _timed(self, number: int, model: str, place: str) -> Source | None:
        arguments = ["benchmark", model, "--device", self._options.device, "--cold-start", "this"]
        if self._options.images is not None:
            arguments += ["--images", str(self._options.images)]
        source = self._earlier_source("benchmark", arguments) or self._timed_anew(number, model, place, arguments)
        return self._keep(source, place)

    def _timed_anew(self, number: int, model: str, place: str, arguments: Sequence[str]) -> Source | None:
        """Times a model, and once more where the estimate was so low that there is no median, if that still fits."""
        slot = self._schedule.slot(number)
        if slot is None:
            self._skip(f"{model}: {self._lacking(number)}.")
            return None
        source = self._timed_for(slot, number, model, place, arguments)
        if source is not None and source.document["measured"]["runs"][0]["calls"] < FEWEST_CALLS:
            slot = self._schedule.slot(number)
            again = None if slot is None else self._timed_for(slot, number, model, place, arguments)
            if again is not None:
                (self._results / source.name).unlink()
                source = again
        return source

    def _timed_for(self, slot: Slot, number: int, model: str, place: str, arguments: Sequence[str]) -> Source | None:
        self._tell(f"{place}: timing for {slot.duration_s:.0f} s")
        began = time.monotonic()
        times = ["--duration", f"{slot.duration_s:.1f}", "--warmup", f"{slot.warmup_s:g}"]
        source = self._run(model, [*arguments, *times])
        if source is not None:
            run = source.document["measured"]["runs"][0]
            start_s = time.monotonic() - began - run["warmup_s"] - run["duration_s"]
            self._schedule.learn(number, start_s=start_s, call_s=run["total"]["mean"] / 1e3)
        return source

    def _scored(self, model: str, timed: Source, place: str) -> None:
        protocol = self._options.protocol
        if protocol is None:  # YOLOv7's own has rectangular batches, which is not what was timed
            protocol = "yolov7-fixed" if timed.document["subject"]["family"] == "yolov7" else "auto"
        arguments = ["val", "--model", model, "--device", self._options.device, "--protocol", protocol]
        if self._options.images is not None and self._options.annotations is not None:
            arguments += ["--images", str(self._options.images), "--annotations", str(self._options.annotations)]
        source = self._earlier_source("evaluation", arguments)
        if source is None:
            self._tell(f"{place}: scoring")
            folder = self._evaluations / re.sub(r"[^A-Za-z0-9.]+", "-", Path(model).name)
            source = self._run(model, [*arguments, "--save-dir", str(folder)])
        self._keep(source, place)

    def _is_to_be_scored(self, model: str, timed: Source) -> bool:
        return not timed.document["subject"]["synthetic"] and (
            self._options.annotations is not None or model in zoo.demo_names()
        )

    def _run(self, model: str, arguments: Sequence[str]) -> Source | None:
        """Runs a verb in a process of its own; None, and a line, if no document came of it."""
        unfinished = self._results / f".{os.getpid()}.json"
        left_s = self._schedule.left_s
        limit_s = None if left_s is None else max(left_s, 0.0) + _GRACE_S
        command = [sys.executable, "-m", "swiftdet", *arguments, "--output", str(unfinished)]
        began = time.monotonic()
        try:
            with _process(command) as process:
                _, told = process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            self._skip(f"{model}: {arguments[0]} was stopped, for it took longer than the budget of {self._budget()}.")
            return None
        finally:
            self._schedule.spend(time.monotonic() - began)
        if process.returncode != 0 or not unfinished.is_file():
            lines = [line for line in told.decode(errors="replace").splitlines() if line.startswith("error: ")]
            reason = lines[-1].removeprefix("error: ") if lines else f"it ended with code {process.returncode}"
            self._fail(f"{model}: {arguments[0]}: {reason:.{_LAST}}")
            return None
        (source,) = read_sources([unfinished])
        unfinished.replace(self._results / source.name)
        return source

    def _earlier_source(self, kind: str, arguments: Sequence[str]) -> Source | None:
        """What an earlier run left of the same."""
        if self._options.fresh:
            return None
        for path in self._earlier:
            try:
                (source,) = read_sources([path])
            except SwiftdetError:
                continue
            if source.kind == kind and self._is_the_same(source, arguments):
                return source
        return None

    def _is_the_same(self, source: Source, arguments: Sequence[str]) -> bool:
        made_by, subject = source.document["provenance"], source.document["subject"]
        if _settled(made_by["command"][1:]) != _settled(arguments):
            return False
        try:
            here = measurements.collect(subject["device"])
        except SwiftdetError:
            return False  # that GPU is not here
        if any(made_by[key] != here[key] for key in ("swiftdet", "commit", "packages")):
            return False
        if host_of(source.document) != host_of({"provenance": here}):
            return False
        if self._options.annotations is not None and source.kind == "evaluation":
            digest = hashlib.sha256(self._options.annotations.read_bytes()).hexdigest()
            if source.document["measured"]["dataset"]["annotations_sha256"] != digest:
                return False
        try:
            return bool(subject["synthetic"] or model_sha256(Path(subject["file"])) == subject["model_sha256"])
        except (ModelError, OSError):
            return False

    def _keep(self, source: Source | None, place: str) -> Source | None:
        if source is not None:
            self._outcome.sources.append(source)
            self._tell(f"{place}: {_in_short(source)}")
        return source

    def _skip(self, line: str) -> None:
        self._outcome.skipped.append(line)
        self._tell(line)

    def _fail(self, line: str) -> None:
        self._outcome.failed.append(line)
        self._tell(line)

    def _lacking(self, number: int) -> str:
        call_s = self._schedule.call_s(number)
        at = "" if call_s is None else f" at about {call_s:.1f} s a call"
        left_s = max(self._schedule.left_s or 0.0, 0.0)
        return f"not timed:{at} its start and ten calls need more than the {left_s:.0f} s left of {self._budget()}"

    def _budget(self) -> str:
        return f"{(self._budget_s or 0.0) / 60:.0f} min"


def _in_order(models: Sequence[str]) -> list[str]:
    """Cheap ones first, so that what is learnt of them helps to judge the others, and each once."""
    asked = list(dict.fromkeys(models)) or [*zoo.demo_names(), *zoo.names()]
    return sorted(asked, key=lambda model: _cost(model).gflops or 0.0)


def _cost(model: str) -> Cost:
    try:
        info = zoo.info(model)
    except InvalidArgument:
        return Cost(None, None)  # a file
    return Cost(info.params / _MILLION, info.gflops)


@contextlib.contextmanager
def _process(command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process that does not outlive the body."""
    with subprocess.Popen(  # noqa: S603 - this interpreter, with arguments of ours
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        try:
            yield process
        except BaseException:
            process.kill()
            raise


def _settled(arguments: Sequence[str]) -> list[str]:
    """The arguments that a document is about: without how long was measured, and where it was written."""
    kept, rest = [], iter(arguments)
    for argument in rest:
        if argument in _VARYING:
            next(rest, None)
        else:
            kept.append(argument)
    return kept


def _in_short(source: Source) -> str:
    measured = source.document["measured"]
    if source.kind == "evaluation":
        ap = measured["scores"]["AP"]
        return f"AP {'-' if ap is None else f'{100.0 * ap:.1f}'} by protocol {measured['protocol']['name']}"
    total = measured["runs"][0]["total"]
    middle = f"mean {total['mean']:.1f} ms" if total["p50"] is None else f"p50 {total['p50']:.1f} ms"
    return f"{middle} over {total['count']} calls"
