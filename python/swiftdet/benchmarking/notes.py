"""What a reader of a run should know beside its figures and the warnings of interference, in words."""

from __future__ import annotations

import math
from typing import Any

from swiftdet.benchmarking.statistics import FEWEST


def of_run(run: dict[str, Any]) -> list[str]:
    """Sentences about one of `measured.runs`; none where all is as it should be."""
    notes = []
    images_per_s = run["throughput_images_per_s"]
    if run["not_begun"]:
        due = run["calls"] + run["not_begun"]
        notes.append(
            f"{run['not_begun']} of {due} calls never began, and the figures leave them out: {run['rate_hz']:g} calls/s"
            f" of batch {run['batch']} are more than the {images_per_s:.1f} images/s that this detector does here"
        )
    elif run["late"] is not None and run["late"]["max"] > 1000.0 / run["rate_hz"]:
        notes.append(
            f"calls began up to {run['late']['max']:.0f} ms after they were due, more than the "
            f"{1000.0 / run['rate_hz']:.3g} ms between two of them; their time counts from when they were due"
        )
    if run["threads"] > run["sessions"]:
        notes.append(f"{run['threads']} threads share {run['sessions']} sessions; waiting for one counts as python")
    missing = [name for name, fewest in FEWEST.items() if run["calls"] < fewest]
    if missing:
        seconds = math.ceil(1.1 * run["duration_s"] * FEWEST["p99"] / run["calls"])
        few = f"too few calls ({run['calls']}) for {', '.join(missing)}"
        notes.append(f"{few}; --duration {seconds} would make the {FEWEST['p99']} that p99 needs")
    return notes
