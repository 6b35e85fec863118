"""Prints pytest-benchmark's JSON as Markdown tables: each case of swiftdet beside each peer's.

How a benchmark takes part is told in `benchmark_results`. Besides its times a side may tell `"resident_mib"` and
`"cpu_ms_per_image"`, which make a second table; cases whose own side has `"added_bound_us"` are about what is added to
a direct call, in a third.

Usage: python tools/benchmark_table.py RESULT.json
Exit code 1 when a bound is exceeded or a side is missing.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import benchmark_results
from benchmark_results import OURS, Case

COMPARED = """\
| case | swiftdet, median ms (p25 to p75) | peer | peer, median ms (p25 to p75) | ratio | bound | |
| --- | ---: | --- | ---: | ---: | ---: | --- |"""

ONE_SIDE = "| {case} | {ours} | {peer} | - | - | - | one side only |"

USED = """\
| case | side | resident MiB | processor time, ms an image |
| --- | --- | ---: | ---: |"""

ADDED = """\
| case | requests | direct, median us | swiftdet adds, us: mean, median, p99 | executor adds, us | goal, mean us | |
| --- | ---: | ---: | ---: | ---: | ---: | --- |"""


class Verdict(NamedTuple):
    """How a case stands to its bound."""

    case: str
    peer: str
    figure: str
    bound: str
    kept: bool


def verdicts(cases: Mapping[str, Case]) -> list[Verdict]:
    """Of all cases that have a bound, in order."""
    found = []
    for name, case in cases.items():
        for peer, ratio, bound in _ratios(case):
            if bound is not None:
                found.append(Verdict(name, peer, f"{ratio:.2f}", f"{bound:.3g}", ratio <= bound))
        if _is_about_added(case):
            added, goal = _added(case, OURS)[0], case["sides"][OURS]["added_bound_us"]
            found.append(Verdict(name, "direct", f"{added:.0f} us added", f"{goal} us", added <= goal))
    return found


def tables(cases: Mapping[str, Case]) -> list[str]:
    """Lines of the tables that the cases need; empty lines between them."""
    compared = {name: case for name, case in cases.items() if not _is_about_added(case)}
    parts = [(COMPARED, _compared(compared)), (USED, _used(cases)), (ADDED, _added_rows(cases))]
    lines: list[str] = []
    for header, rows in parts:
        if rows:
            lines += ["", *header.splitlines(), *rows]
    return lines[1:]


def is_whole(cases: Mapping[str, Case]) -> bool:
    """Whether there are cases, each with our side and a peer's."""
    return bool(cases) and all(OURS in case["sides"] and len(case["sides"]) > 1 for case in cases.values())


def _short(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def _times(side: Mapping[str, Any]) -> str:
    """`1.23 (1.20 to 1.31)`."""
    return f"{_short(side['median_ms'])} ({_short(side['q1_ms'])} to {_short(side['q3_ms'])})"


def _is_about_added(case: Case) -> bool:
    return "added_bound_us" in case["sides"].get(OURS, {})


def _ratios(case: Case) -> Iterator[tuple[str, float, float | None]]:
    """Each peer, the ratio of our median to its, and the bound where there is one."""
    ours = case["sides"].get(OURS)
    for peer, told in case["sides"].items():
        if ours is not None and peer != OURS:
            bound = None if told.get("unbounded") else ours.get("bound")
            yield peer, ours["median_ms"] / told["median_ms"], bound


def _compared(cases: Mapping[str, Case]) -> list[str]:
    lines = []
    for name, case in cases.items():
        sides = case["sides"]
        for peer, ratio, bound in _ratios(case):
            limit = "" if bound is None else f"{bound:.3g}"
            verdict = "" if bound is None else ("met" if ratio <= bound else "**missed**")
            columns = [name, _times(sides[OURS]), peer, _times(sides[peer]), f"{ratio:.2f}", limit, verdict]
            lines.append(f"| {' | '.join(columns)} |")
        if OURS not in sides or len(sides) == 1:
            ours = _times(sides[OURS]) if OURS in sides else "-"
            lines.append(ONE_SIDE.format(case=name, ours=ours, peer=", ".join(s for s in sides if s != OURS) or "-"))
    return lines


def _used(cases: Mapping[str, Case]) -> list[str]:
    return [
        f"| {name} | {side} | {told['resident_mib']:.0f} | {told['cpu_ms_per_image']:.0f} |"
        for name, case in cases.items()
        for side, told in case["sides"].items()
        if "resident_mib" in told
    ]


def _added(case: Case, side: str) -> tuple[float, float, float]:
    """Microseconds that a side has more than the direct one: mean, median, p99."""
    mean, median, p99 = (
        1e3 * (case["sides"][side][key] - case["sides"]["direct"][key]) for key in ("mean_ms", "median_ms", "p99_ms")
    )
    return mean, median, p99


def _added_rows(cases: Mapping[str, Case]) -> list[str]:
    lines = []
    for name, case in cases.items():
        if _is_about_added(case):
            direct, goal = case["sides"]["direct"], case["sides"][OURS]["added_bound_us"]
            ours, executor = ([f"{us:.0f}" for us in _added(case, side)] for side in (OURS, "executor"))
            verdict = "met" if _added(case, OURS)[0] <= goal else "**missed**"
            columns = [name, f"{direct['rounds']}", f"{1e3 * direct['median_ms']:.0f}", ", ".join(ours)]
            lines.append(f"| {' | '.join([*columns, ', '.join(executor), f'{goal}', verdict])} |")
    return lines


def main(arguments: list[str]) -> int:
    """Prints the tables."""
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    cases = benchmark_results.from_run(json.loads(Path(arguments[0]).read_text()))["cases"]
    print(*tables(cases), sep="\n")
    return 0 if is_whole(cases) and all(verdict.kept for verdict in verdicts(cases)) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
