"""Puts random input to the doors of the library; each case must end in success or a typed error, and do nothing else.

    python tools/fuzz.py images --cases 100000
    python tools/fuzz.py all --seconds 60
    python tools/fuzz.py onnx --replay build/fuzz/onnx-1a2b3c4d/minimal.case

Cases are made from valid input by changes that know the format, and from nothing by programs that know its grammar; the
same seed gives the same cases. They run in a child process: a crash of native code, a case that hangs, takes too much
memory, prints, writes elsewhere, connects or starts a process is a finding like any error that is not a SwiftdetError.
Findings are minimised and written to a folder. Exits 1 when there is one.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

# Before numpy: a child that is forked must not need threads of its parent.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
_ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(_ROOT / "tools"), str(_ROOT / "tests/python"), str(_ROOT / "tests/data")]

from fuzzing import doors  # noqa: E402 - the path is set above
from fuzzing.runner import Report, Runner  # noqa: E402

_MOST = 20_000_000


def main() -> int:
    """Runs the doors that were named; 1 when there is a finding."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, epilog=_described()
    )
    parser.add_argument("door", choices=[*doors.DOORS, "all"], metavar="DOOR")
    parser.add_argument("--cases", type=int, help="how many (1000, or with --seconds as many as fit)")
    parser.add_argument("--seconds", type=float, help="stop after this time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--findings", type=Path, default=_ROOT / "build/fuzz", help="folder to write to")
    parser.add_argument("--replay", type=Path, nargs="+", default=[], metavar="CASE", help="run these instead")
    parser.add_argument("--outcomes", type=int, default=8, help="how many kinds of outcome to print")
    options = parser.parse_args()
    cases = options.cases or (_MOST if options.seconds else 1000)
    found = 0
    for name in doors.DOORS if options.door == "all" else [options.door]:
        with tempfile.TemporaryDirectory() as parent:
            folder = Path(parent).resolve() / "case"
            folder.mkdir()
            runner = Runner(doors.DOORS[name](folder), name, seed=options.seed, findings=options.findings.resolve())
            if options.replay:
                found += _replay(runner, options.replay)
                continue
            report = runner.run(cases, seconds=options.seconds)
            _print(name, report, options.outcomes)
            found += len(report.findings)
    return 1 if found else 0


def _described() -> str:
    lines = ((name, (door.__doc__ or "").splitlines()[0]) for name, door in doors.DOORS.items())
    return "doors:\n" + "\n".join(f"  {name:<14} {line}" for name, line in lines)


def _replay(runner: Runner, paths: list[Path]) -> int:
    outcomes = runner.replay([path.read_bytes() for path in paths])
    for path, outcome in zip(paths, outcomes, strict=True):
        print(f"{path}: {outcome}")
    return sum(outcome.startswith("FOUND") for outcome in outcomes)


def _print(name: str, report: Report, shown: int) -> None:
    rate = report.cases / max(report.seconds, 1e-9)
    print(
        f"{name}: {report.cases} cases in {report.seconds:.0f} s ({rate:.0f} a second), {len(report.findings)} findings"
    )
    for label, count in report.outcomes.most_common(shown):
        print(f"{count:9d}  {label}")
    if len(report.outcomes) > shown:
        print(f"{'':9}  and {len(report.outcomes) - shown} more kinds")
    for kind, folder in report.findings.items():
        print(f"  FOUND {kind}: {folder}")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
