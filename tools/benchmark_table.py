"""Prints pytest-benchmark's JSON as a Markdown table: each case of swiftdet beside each peer's.

A benchmark takes part when its `benchmark.extra_info` holds, set before the timed call,

    {"case": "letterbox 1920x1080 -> 640x640", "side": "swiftdet" | "<name of the peer>", "bound": 0.33 | None}

Sides with the same case are paired. `bound` is the largest ratio of the medians that we promise, on the side swiftdet.
`"resident_mib"`, the memory that a side has in use, makes a second table.

Usage: python tools/benchmark_table.py RESULT.json
Exit code 1 when a bound is exceeded or a side is missing.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OURS = "swiftdet"
HEADER = """\
| case | swiftdet, median ms (p25 to p75) | peer | peer, median ms (p25 to p75) | ratio | bound | |
| --- | ---: | --- | ---: | ---: | ---: | --- |"""

MEMORY_HEADER = """\
| case | swiftdet, resident MiB | peer | peer, resident MiB |
| --- | ---: | --- | ---: |"""


@dataclass(frozen=True)
class Measured:
    """One side of one case; times in ms."""

    side: str
    median: float
    q1: float
    q3: float
    bound: float | None
    unbounded: bool = False  # a peer shown for comparison, to which our bound does not apply

    def __str__(self) -> str:
        """`1.23 (1.20 to 1.31)`."""
        return f"{_short(self.median)} ({_short(self.q1)} to {_short(self.q3)})"


def _short(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def by_case(result: dict[str, Any]) -> dict[str, list[Measured]]:
    """The measured sides of each case, cases in the order of the run."""
    cases: dict[str, list[Measured]] = {}
    for benchmark in result["benchmarks"]:
        info, stats = benchmark["extra_info"], benchmark["stats"]
        if "case" in info:
            times = (1e3 * stats[key] for key in ("median", "q1", "q3"))
            cases.setdefault(info["case"], []).append(
                Measured(info["side"], *times, info.get("bound"), info.get("unbounded", False))
            )
    return cases


def rows(cases: dict[str, list[Measured]]) -> tuple[list[str], bool]:
    """Lines of the table, and whether every case is paired and within its bound."""
    lines, good = [], True
    for case, sides in cases.items():
        ours = next((m for m in sides if m.side == OURS), None)
        peers = [m for m in sides if m.side != OURS]
        if ours is None or not peers:
            lines.append(f"| {case} | {ours or '-'} | {peers[0].side if peers else '-'} | - | - | - | one side only |")
            good = False
            continue
        for peer in peers:
            ratio = ours.median / peer.median
            limit = None if peer.unbounded else ours.bound
            kept = limit is None or ratio <= limit
            good &= kept
            bound = "" if limit is None else f"{limit:g}"
            verdict = "" if limit is None else ("met" if kept else "**missed**")
            lines.append(f"| {case} | {ours} | {peer.side} | {peer} | {ratio:.2f} | {bound} | {verdict} |")
    return lines, good


def memory(result: dict[str, Any]) -> list[str]:
    """Lines of a table of the memory that each side had in use, where a benchmark tells it as `resident_mib`."""
    told: dict[str, dict[str, float]] = {}
    for benchmark in result["benchmarks"]:
        info = benchmark["extra_info"]
        if "resident_mib" in info:
            told.setdefault(info["case"], {})[info["side"]] = info["resident_mib"]
    pairs = [(case, side, sides) for case, sides in told.items() if OURS in sides for side in sides if side != OURS]
    lines = [f"| {case} | {sides[OURS]:.0f} | {side} | {sides[side]:.0f} |" for case, side, sides in pairs]
    return ["", MEMORY_HEADER, *lines] if lines else []


def provenance(result: dict[str, Any]) -> str:
    """Where and when the figures were made."""
    machine, commit = result["machine_info"], result["commit_info"]
    cpu = machine.get("cpu", {})
    dirty = " with changes" if commit.get("dirty") else ""
    return (
        f"{cpu.get('brand_raw', machine['machine'])}, {cpu.get('count', '?')} logical processors; "
        f"{machine['system']} {machine['release']}; Python {machine['python_version']}; "
        f"commit {str(commit.get('id'))[:10]}{dirty}; {result['datetime'][:19]} UTC."
    )


def main(arguments: list[str]) -> int:
    """Prints the table."""
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    result = json.loads(Path(arguments[0]).read_text())
    lines, good = rows(by_case(result))
    print(HEADER, *lines, *memory(result), "", provenance(result), sep="\n")
    return 0 if good and lines else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
