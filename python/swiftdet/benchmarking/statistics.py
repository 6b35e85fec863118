"""Numbers that describe many samples, and none that the samples do not support."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

FEWEST = {"p50": 10, "p90": 100, "p95": 200, "p99": 1000}
"""How many samples a percentile needs, so that no odd one is the answer: ten beyond it, or ten in all for p50."""


def describe(milliseconds: npt.NDArray[np.float64]) -> dict[str, Any]:
    """Count, mean, standard deviation, extremes and percentiles of samples [N]; None for what N is too small for.

    Every sample counts, however far out. A percentile is the smallest sample that at least so many percent do not
    exceed, thus a time that some call took. The standard deviation is that of a sample (N - 1).
    """
    count = len(milliseconds)
    return {
        "count": count,
        "mean": float(milliseconds.mean()) if count else None,
        "std": float(milliseconds.std(ddof=1)) if count > 1 else None,
        "min": float(milliseconds.min()) if count else None,
        **{name: _percentile(milliseconds, name) for name in FEWEST},
        "max": float(milliseconds.max()) if count else None,
    }


def _percentile(milliseconds: npt.NDArray[np.float64], name: str) -> float | None:
    if len(milliseconds) < FEWEST[name]:
        return None
    return float(np.percentile(milliseconds, int(name[1:]), method="inverted_cdf"))
