"""Which lines of the GPU sources the tests run: prints a table, and fails below a share of them.

    cmake --preset gpu-coverage && cmake --build --preset gpu-coverage
    python tools/gpu_coverage.py [--build build/gpu-coverage] [--run] [--minimum 95]

With `--run` the tests are run first: the kernels' twins under the emulation, then the compiled CUDA half on the
stand-ins. gcov counts what the C++ compiler compiled: the twins hold every line of the kernels and of what launches
them; nvcc's own objects hold no counters. Every line counts. One that is not run needs a reason, a comment on it or
above the first of several: `// Not run in tests: ...`. A line of closing brackets alone (`}`, `},`, `});`) is the
compiler's clean-up, not ours.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PATTERNS = (
    "cpp/include/swiftdet/cuda/*.hpp",
    "cpp/include/swiftdet/gpu_*.hpp",
    "cpp/include/swiftdet/ops/cuda/*.hpp",
    "cpp/include/swiftdet/tensorrt.hpp",
    "cpp/src/backends/tensorrt*",
    "cpp/src/cuda/*.[ch]pp",
    "cpp/src/detector/gpu_*",
    "cpp/src/ops/*.cu",
    "cpp/src/ops/*_cuda.cpp",
    "cpp/src/ops/*.cuh",
    "cpp/src/ops/*_descriptors.cpp",
    "cpp/src/ops/*_formulas.hpp",
    "src/cuda_*.cpp",
)
# The CMake targets whose objects count. The CPU's bodies share the formulas: their runs are not the kernels' runs.
TARGETS = (
    "_cuda",
    "swiftdet_cuda",
    "swiftdet_gpu_detector",
    "swiftdet_ops_cuda",
    "swiftdet_ops_twins",
    "swiftdet_tensorrt",
    "swiftdet_trt",
)
COMPILED = {".cpp", ".cu"}
CLOSING = re.compile(r"\}[)\]};,]*")
REASON = re.compile(r"//\s*Not run in tests: (?P<reason>.+)")


@dataclasses.dataclass(frozen=True)
class Missed:
    """A line of code that no test runs."""

    line: int
    text: str
    reason: str | None


@dataclasses.dataclass(frozen=True)
class FileCoverage:
    """What is known of one source file."""

    path: str
    lines: int
    missed: list[Missed]
    stale: list[int]  # lines that give a reason, though what they speak of is run


def sources() -> list[str]:
    """The GPU's source files, relative to the root."""
    return sorted({str(path.relative_to(ROOT)) for pattern in PATTERNS for path in ROOT.glob(pattern)})


def examine(path: str, text: list[str], counts: dict[int, int]) -> FileCoverage:
    """Finds the lines with a count of 0, each with the reason on it, above it, or at the first of its row."""
    missed: list[Missed] = []
    used: set[int] = set()
    row: str | None = None
    for line in sorted(counts):
        if counts[line] > 0:
            row = None
            continue
        for near in (line, line - 1):
            if near > 0 and (found := REASON.search(text[near - 1])):
                row = found["reason"].strip()
                used.add(near)
                break
        if row is None and CLOSING.fullmatch(text[line - 1].strip()):
            missed.append(Missed(line, text[line - 1].strip(), "the compiler's clean-up for an exception that passes"))
            continue
        missed.append(Missed(line, text[line - 1].strip(), row))
    reasons = {number for number, content in enumerate(text, 1) if REASON.search(content)}
    return FileCoverage(path, len(counts), missed, sorted(reasons - used))


def measured(build: Path) -> list[FileCoverage]:
    """The counts that gcovr finds in `build`. Raises RuntimeError for a source that is not in it."""
    objects = [str(path) for target in TARGETS for path in build.rglob(f"CMakeFiles/{target}.dir")]
    wanted = sources()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "coverage.json"
        command = [sys.executable, "-m", "gcovr", "--root", str(ROOT), "--no-markers", "--json", str(report)]
        command += [option for path in wanted for option in ("--filter", f"{re.escape(str(ROOT / path))}$")]
        command += [
            "--merge-mode-functions",
            "merge-use-line-min",
            "--gcov-ignore-parse-errors",
            "suspicious_hits.warn",
        ]
        subprocess.run([*command, *objects], check=True, stdout=subprocess.DEVNULL)
        found = json.loads(report.read_text())
    table = []
    for entry in found["files"]:
        counts: dict[int, int] = {}
        for line in entry["lines"]:  # one entry per instantiation of a template
            counts[line["line_number"]] = counts.get(line["line_number"], 0) + line["count"]
        text = (ROOT / entry["file"]).read_text().splitlines()
        table.append(examine(entry["file"], text, counts))
    absent = {path for path in wanted if Path(path).suffix in COMPILED} - {row.path for row in table}
    if absent:
        raise RuntimeError(f"no counts of {', '.join(sorted(absent))}: is {build} a build of the preset gpu-coverage?")
    return sorted(table, key=lambda row: row.path)


def run_tests(build: Path) -> None:
    """Runs what counts, from zero."""
    for old in build.rglob("*.gcda"):
        old.unlink()
    subprocess.run(["ctest", "--test-dir", str(build), "-R", "^gpusim", "--output-on-failure"], check=True)  # noqa: S607 - CMake's
    suites = ["-m", "pytest", "-q", "tests/python/test_gpu_stand_ins.py", "-k", "lazy and not benchmark"]
    environment = {**os.environ, "SWIFTDET_GPUSIM_BUILD": str(build)}
    subprocess.run([sys.executable, *suites], check=True, cwd=ROOT, env=environment)


def share(lines: int, missed: int) -> float:
    """Per cent of lines that are run."""
    return 100.0 * (lines - missed) / lines if lines else 100.0


def printed(table: list[FileCoverage]) -> str:
    """The table, then the lines that are not run and why."""
    rows = [f"{'file':52} {'lines':>6} {'missed':>6} {'%':>6}"]
    rows += [
        f"{row.path:52} {row.lines:6} {len(row.missed):6} {share(row.lines, len(row.missed)):6.1f}" for row in table
    ]
    total, missed = sum(row.lines for row in table), sum(len(row.missed) for row in table)
    rows.append(f"{'all':52} {total:6} {missed:6} {share(total, missed):6.1f}")
    for row in table:
        rows += [f"{row.path}:{m.line}: {m.reason or 'NO REASON'}\n    {m.text}" for m in row.missed]
    return "\n".join(rows)


def main() -> int:
    """Runs, measures, prints, judges."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, default=ROOT / "build/gpu-coverage", help="build folder of the preset")
    parser.add_argument("--run", action="store_true", help="run the tests first")
    parser.add_argument("--minimum", type=float, default=95.0, metavar="PER_CENT", help="of all lines (default: 95)")
    arguments = parser.parse_args()
    build = arguments.build.resolve()
    try:
        if arguments.run:
            run_tests(build)
        table = measured(build)
    except (RuntimeError, subprocess.CalledProcessError) as error:
        print(error, file=sys.stderr)
        return 1
    print(printed(table))
    total, missed = sum(row.lines for row in table), [m for row in table for m in row.missed]
    faults = []
    if share(total, len(missed)) < arguments.minimum:
        faults.append(f"{share(total, len(missed)):.1f} % of the lines are run, {arguments.minimum:g} % are asked for")
    unexplained = sum(m.reason is None for m in missed)
    if unexplained:
        faults.append(f"{unexplained} lines are not run and give no reason")
    faults += [f"{row.path}:{line}: gives a reason for what is run" for row in table for line in row.stale]
    for fault in faults:
        print(f"FAULT: {fault}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
