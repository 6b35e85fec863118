"""What a dispatcher has done so far, in numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class DispatcherStats:
    """A consistent view of a dispatcher at one moment. Counters begin at 0 and never fall; words as Triton's.

    Every request that was submitted is in exactly one place:
    `submitted == done + failed + expired + rejected + dropped + cancelled + in_flight`.

    Attributes:
        submitted: requests that calls, `submit`, `asubmit` and `map` made; one with an option outside its contract, or
            after `close`, is none.
        done: results handed out (Triton: success).
        failed: requests that ended with an error of their image or of the engine (Triton: failure).
        expired: requests whose deadline passed first.
        rejected: requests that found no place in the queue, at once or within their `timeout`.
        dropped: requests that newer ones pushed out of the queue.
        cancelled: requests that their caller cancelled, and those that `close(cancel=True)` ended.
        queued: requests that wait now, those that wait for a place in the queue included.
        running: requests that are with a worker now.
        exec_count: batches that the engine ran, failed ones included.
        inference_count: images in them.
        retried: images that ran again alone, because the batch that they were in failed.
        batch_sizes: number of images -> batches that had as many; sums up to `exec_count`.
        queue_us: microseconds from submission to a worker, summed over the requests that reached one.
        compute_input_us: likewise, for loading and pre-processing, over `done`.
        compute_infer_us: likewise, in the network.
        compute_output_us: likewise, for post-processing.
        request_us: likewise, from submission to the result.
    """

    submitted: int = 0
    done: int = 0
    failed: int = 0
    expired: int = 0
    rejected: int = 0
    dropped: int = 0
    cancelled: int = 0
    queued: int = 0
    running: int = 0
    exec_count: int = 0
    inference_count: int = 0
    retried: int = 0
    batch_sizes: dict[int, int] = dataclasses.field(default_factory=dict)
    queue_us: float = 0.0
    compute_input_us: float = 0.0
    compute_infer_us: float = 0.0
    compute_output_us: float = 0.0
    request_us: float = 0.0

    @property
    def in_flight(self) -> int:
        """Requests whose futures are not resolved yet."""
        return self.queued + self.running

    @property
    def resolved(self) -> int:
        """Requests whose futures are resolved, however."""
        return self.done + self.failed + self.expired + self.rejected + self.dropped + self.cancelled

    def to_dict(self) -> dict[str, Any]:
        """All of it for `json.dumps`; the sizes of batches become text, as JSON's keys are."""
        values = dataclasses.asdict(self)
        values["batch_sizes"] = {str(size): count for size, count in sorted(self.batch_sizes.items())}
        return {**values, "in_flight": self.in_flight}


class Tally:
    """Counts; the names are those of `DispatcherStats`. Its owner has a lock."""

    def __init__(self) -> None:
        self.submitted = self.done = self.failed = self.expired = 0
        self.rejected = self.dropped = self.cancelled = self.running = 0
        self.exec_count = self.inference_count = self.retried = 0
        self.batch_sizes: dict[int, int] = {}
        self.queue_s = self.compute_input_s = self.compute_infer_s = self.compute_output_s = self.request_s = 0.0

    def add_execution(self, size: int) -> None:
        """Counts a batch that went to the engine."""
        self.exec_count += 1
        self.inference_count += size
        self.batch_sizes[size] = self.batch_sizes.get(size, 0) + 1

    def add_times(self, speed: Mapping[str, float], load_s: float, request_s: float) -> None:
        """Adds up where a request that is done spent its time; `speed` is its result's, in milliseconds."""
        self.compute_input_s += load_s + speed["preprocess"] * 1e-3
        self.compute_infer_s += speed["inference"] * 1e-3
        self.compute_output_s += speed["postprocess"] * 1e-3
        self.request_s += request_s

    def snapshot(self, queued: int) -> DispatcherStats:
        """The counts by now."""
        values = vars(self)
        seconds = {name: value for name, value in values.items() if name.endswith("_s")}
        counts = {name: value for name, value in values.items() if name not in seconds}
        counts["batch_sizes"] = dict(self.batch_sizes)
        micros = {f"{name[:-2]}_us": value * 1e6 for name, value in seconds.items()}
        return DispatcherStats(queued=queued, **counts, **micros)
