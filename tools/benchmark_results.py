"""What is recorded of benchmark runs: each case with its sides, and the run that measured them.

A benchmark takes part when its `benchmark.extra_info` holds, set before the timed call,

    {"case": "letterbox 1920x1080 -> 640x640", "side": "swiftdet" | "<name of the peer>", "bound": 0.33 | None}

Sides with the same case are compared, and only where one run measured them. `bound` is the largest ratio of the medians
that we promise, on the side swiftdet; a peer with `"unbounded": True` is shown without it. What else `extra_info` holds
is kept.

The record (benchmarks/results.json) is {"runs": {name: run}, "cases": {case: {"suite", "run", "sides": {name: side}}}}.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeAlias

OURS = "swiftdet"
EMPTY: dict[str, Any] = {"runs": {}, "cases": {}}
_DIGITS = 4

Results: TypeAlias = dict[str, Any]
Case: TypeAlias = dict[str, Any]


class NotComparable(Exception):  # noqa: N818 - reads as the sentence it is raised with
    """A run that measured only some sides of a case; the text says which."""


def from_run(measured: dict[str, Any]) -> Results:
    """The record of one run, from pytest-benchmark's JSON."""
    run = measured["datetime"][:19] + "Z"
    cases: dict[str, Case] = {}
    for benchmark in measured["benchmarks"]:
        info, stats = dict(benchmark["extra_info"]), benchmark["stats"]
        if "case" not in info:
            continue
        suite = Path(benchmark["fullname"].split("::")[0]).stem.removeprefix("bench_")
        case = cases.setdefault(info.pop("case"), {"suite": suite, "run": run, "sides": {}})
        case["sides"][info.pop("side")] = {
            "test": benchmark["fullname"],
            "rounds": stats["rounds"],
            **{f"{name}_ms": _rounded(1e3 * stats[name]) for name in ("mean", "median", "q1", "q3")},
            **{key: _rounded(value) for key, value in info.items() if value is not None and value is not False},
        }
    return {"runs": {run: _described(measured)}, "cases": cases}


def merged(recorded: Results, new: Results) -> Results:
    """The record with the cases of a new run in place of those of the same name, or made by the same tests.

    Raises:
        NotComparable: the new run lacks a side of one of its cases.
    """
    tests = {side["test"] for case in new["cases"].values() for side in case["sides"].values()}
    kept = {
        name: case
        for name, case in recorded["cases"].items()
        if name not in new["cases"] and tests.isdisjoint(side["test"] for side in case["sides"].values())
    }
    for name, case in new["cases"].items():
        wanted = {OURS, *recorded["cases"].get(name, {"sides": {}})["sides"]}
        missing = sorted(wanted - case["sides"].keys())
        if missing or len(case["sides"]) < 2:
            raise NotComparable(
                f"{name}: expected all sides in one run, got {', '.join(case['sides'])} without "
                f"{', '.join(missing) or 'a peer'}; run the whole case"
            )
    cases = kept | new["cases"]
    used = {case["run"] for case in cases.values()}
    runs = {name: run for name, run in (recorded["runs"] | new["runs"]).items() if name in used}
    return {"runs": runs, "cases": cases}


def load(path: Path) -> Results:
    """The record in a file; an empty one where there is none."""
    return json.loads(path.read_text()) if path.exists() else EMPTY


def save(results: Results, path: Path) -> None:
    """Writes the record, a line for each side."""
    cases = []
    for name, case in results["cases"].items():
        sides = ",\n".join(f"    {json.dumps(side)}: {json.dumps(told)}" for side, told in case["sides"].items())
        head = f'"suite": {json.dumps(case["suite"])}, "run": {json.dumps(case["run"])}'
        cases.append(f'  {json.dumps(name)}: {{{head}, "sides": {{\n{sides}\n  }}}}')
    runs = ",\n".join(f"  {json.dumps(name)}: {json.dumps(run)}" for name, run in results["runs"].items())
    path.write_text(f'{{"runs": {{\n{runs}\n}}, "cases": {{\n' + ",\n".join(cases) + "\n}}\n")


def _described(measured: dict[str, Any]) -> dict[str, Any]:
    """What the figures of a run depend on."""
    machine, commit = measured["machine_info"], measured["commit_info"]
    cpu = machine.get("cpu", {})
    return {
        "processor": cpu.get("brand_raw", machine["machine"]),
        "logical_processors": cpu.get("count"),
        "system": f"{machine['system']} {machine['release']}",
        "python": machine["python_version"],
        "libraries": machine.get("libraries", {}),
        "commit": commit.get("id"),
        "changed": bool(commit.get("dirty")),
        "command": machine.get("command", ""),
    }


def _rounded(value: Any) -> Any:
    """Numbers with the digits that mean something, to keep the record small."""
    return float(f"{value:.{_DIGITS}g}") if isinstance(value, float) else value
