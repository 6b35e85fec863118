"""Writes every figure of benchmarks/README.md, from the record of the runs in benchmarks/results.json.

    python tools/write_benchmarks.py                    # renders the record
    python tools/write_benchmarks.py RESULT.json...     # takes pytest-benchmark's results into it first, case by case

`tools/bench.sh --record [PYTEST OPTION...]` does the latter. A section is what stands between `<!-- figures: NAME -->`
and `<!-- end -->`: NAME is a suite (zoo for bench_zoo.py), or `bounds` (which were missed), `kernels` (bytes that are
computed, see kernel_bytes) or `runs` (where and when the figures were made).
"""

from __future__ import annotations

import json
import re
import sys
import textwrap
from pathlib import Path

import benchmark_results
import benchmark_table
import kernel_bytes
from benchmark_results import Results

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"
RECORD, README = FOLDER / "results.json", FOLDER / "README.md"
SECTION = re.compile(r"(?P<begin><!-- figures: (?P<name>[\w-]+) -->\n)(?P<body>.*?)(?P<end><!-- end -->)", re.DOTALL)


def rendered(text: str, results: Results) -> str:
    """The document with its sections made anew.

    Raises:
        ValueError: a section that has no figures, or a suite that has no section.
    """
    suites = {case["suite"] for case in results["cases"].values()}
    sections = [match["name"] for match in SECTION.finditer(text)]
    expected = sorted([*suites, "bounds", "kernels", "runs"])
    if sorted(sections) != expected:
        raise ValueError(f"sections: expected one for each of {', '.join(expected)}, got {', '.join(sections)}")
    return SECTION.sub(lambda match: f"{match['begin']}{_body(match['name'], results)}{match['end']}", text)


def _body(name: str, results: Results) -> str:
    special = {"bounds": _bounds, "kernels": lambda _: kernel_bytes.table(), "runs": _runs}
    lines = special[name](results) if name in special else _suite(name, results)
    return "\n".join(["", *lines, "", ""])


def _suite(name: str, results: Results) -> list[str]:
    cases = {case: told for case, told in results["cases"].items() if told["suite"] == name}
    numbers = {run: str(i) for i, run in enumerate(sorted(results["runs"]), start=1)}
    runs = sorted({numbers[case["run"]] for case in cases.values()}, key=int)
    sides = [side for case in cases.values() for side in case["sides"].values()]
    work, stolen = (_range([side[key] for side in sides]) for key in ("other_work_percent", "stolen_percent"))
    note = (
        f"Run {' and '.join(runs)}. Meanwhile other work took {work} of the processors, "
        f"and the host of the virtual machine kept {stolen} for others."
    )
    return [*benchmark_table.tables(cases), "", *_wrapped(note)]


def _range(values: list[float]) -> str:
    """`3 to 45 %`."""
    ends = dict.fromkeys(f"{end:.0f}" for end in (min(values), max(values)))
    return f"{' to '.join(ends)} %"


def _bounds(results: Results) -> list[str]:
    verdicts = benchmark_table.verdicts(results["cases"])
    missed = [verdict for verdict in verdicts if not verdict.kept]
    lines = [f"Bounds: {len(verdicts)}; met: {len(verdicts) - len(missed)}; missed: {len(missed)}."]
    if missed:
        lines.append("")
        lines += [f"- {v.case}, against {v.peer}: {v.figure}, bound {v.bound}" for v in missed]
    return lines


def _runs(results: Results) -> list[str]:
    lines = []
    for number, (name, run) in enumerate(sorted(results["runs"].items()), start=1):
        libraries = ", ".join(f"{library} {version}" for library, version in run["libraries"].items())
        changed = " with changes" if run["changed"] else ""
        text = (
            f"`{run['command']}`, {name}, commit {run['commit'][:10]}{changed}: {run['processor']}, "
            f"{run['logical_processors']} logical processors; {run['system']}; Python {run['python']}; {libraries}."
        )
        lines += _wrapped(text, f"{number}. ")
    return lines


def _wrapped(text: str, begin: str = "") -> list[str]:
    options = {"break_long_words": False, "break_on_hyphens": False}
    return textwrap.wrap(text, 120, initial_indent=begin, subsequent_indent=" " * len(begin), **options)


def main(arguments: list[str]) -> int:
    """Takes results in and renders the document; 1 where a result cannot be taken in."""
    results = benchmark_results.load(RECORD)
    try:
        for path in arguments:
            results = benchmark_results.merged(results, benchmark_results.from_run(json.loads(Path(path).read_text())))
        text = rendered(README.read_text(), results)
    except (benchmark_results.NotComparable, ValueError) as e:
        print(e, file=sys.stderr)
        return 1
    if arguments:
        benchmark_results.save(results, RECORD)
    README.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
