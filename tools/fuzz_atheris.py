"""Lets coverage lead random input through the parsers that are written in Python; needs atheris (libFuzzer).

    python tools/fuzz_atheris.py manifests descriptions --cases 100000

The doors are those of tools/fuzz.py, whose cases are the first corpus. A case that reaches new code of swiftdet is kept
and changed further: as libFuzzer does, as JSON where it is some, or by taking a new one of the door's. A finding is an
error that is no SwiftdetError, a crash, a case of more than a minute, more than 2 GB, or a deed that the watch forbids.
The first one ends the run of its door; its case is written to a folder for `tools/fuzz.py DOOR --replay`. Exits 1 when
there is one.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import mmap
import os
import random
import re
import struct
import sys
import tempfile
import time
import traceback
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
_ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(_ROOT / "tools"), str(_ROOT / "tests/python"), str(_ROOT / "tests/data")]

import atheris  # noqa: E402 - the path is set above

with contextlib.redirect_stderr(io.StringIO()), atheris.instrument_imports(include=["swiftdet"]):  # it lists them
    from fuzzing import mutations
    from fuzzing.door import Door
    from fuzzing.doors import DOORS
    from fuzzing.watch import Watch
    from swiftdet.errors import SwiftdetError

PARSERS = ("annotations", "checkpoints", "descriptions", "manifests", "measurements")
"""The doors behind which is Python; of C++ the instrumentation sees nothing."""
_FIRST = 200  # cases that the corpus begins with
_ROUND = 10_000
"""Cases of one process: instrumented code keeps memory; 100,000 of `annotations` in one ended at the limit of 2 GB."""
_LONGEST = 1 << 16
_COUNTS = struct.Struct("<qq")  # cases, and how many of them were read


def main() -> int:
    """Runs the doors; 1 when there is a finding."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("doors", nargs="*", metavar="DOOR", help=f"of {', '.join(PARSERS)}; all of them by default")
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--findings", type=Path, default=_ROOT / "build/fuzz", help="folder to write to")
    options = parser.parse_args()
    if unknown := set(options.doors) - set(PARSERS):
        parser.error(f"no such door: {', '.join(unknown)}")
    found = 0
    for name in options.doors or PARSERS:
        with tempfile.TemporaryDirectory() as parent:
            guided = Guided(name, Path(parent).resolve(), seed=options.seed, findings=options.findings.resolve())
            found += guided.run(options.cases)
    return int(found > 0)


class Guided:
    """One door, and libFuzzer in a child process in front of it."""

    def __init__(self, name: str, parent: Path, *, seed: int, findings: Path) -> None:
        self._name = name
        self._seed = seed
        self._findings = findings
        self._corpus = parent / "corpus"
        self._said = parent / "said"
        folder = parent / "case"
        for made in (self._corpus, folder):
            made.mkdir()
        self._door: Door = DOORS[name](folder)
        self._counts = mmap.mmap(-1, _COUNTS.size)

    def run(self, cases: int) -> int:
        """Runs so many cases, or until the first finding; prints what came of it."""
        self._findings.mkdir(parents=True, exist_ok=True)
        self._door.prepare()
        for index in range(_FIRST):
            case = self._door.case(random.Random(f"{self._name}:{self._seed}:{index}"))
            (self._corpus / f"{index:03}").write_bytes(case)
        begin = time.monotonic()
        kept = status = 0
        said = ""
        while cases > 0 and not status:
            pid = os.fork()
            if not pid:
                self._fuzz(min(cases, _ROUND))
            _, status = os.waitpid(pid, 0)
            said = self._said.read_text(errors="replace")
            kept += sum(map(int, re.findall(r"stat::new_units_added: +(\d+)", said)))
            cases -= _ROUND
            self._seed += 1
        seconds = time.monotonic() - begin
        done, read = _COUNTS.unpack_from(self._counts)
        print(
            f"{self._name}: {done} cases in {seconds:.0f} s ({done / seconds:.0f} a second), {read} read, "
            f"{kept} reached something new, {int(status != 0)} findings"
        )
        if status:
            print(said[-6000:])
        return int(status != 0)

    def _fuzz(self, cases: int) -> None:
        """The child; does not return. What it finds new goes into the corpus, with which the next one begins."""
        said = os.open(self._said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(said, 1)
        os.dup2(said, 2)
        os.chdir(self._door.folder)
        try:
            with atheris.instrument_imports(include=["swiftdet"]):
                self._door.warm_up()
            self._watch = Watch(self._door.folder, may_import=self._door.may_import)
            flags = {
                "runs": cases,
                "seed": self._seed,
                "max_len": _LONGEST,
                "timeout": int(self._door.hang_s),
                "rss_limit_mb": 2048,
                "artifact_prefix": f"{self._findings}/{self._name}-",
                "print_final_stats": 1,
                "verbosity": 0,
            }
            arguments = [sys.argv[0], *(f"-{key}={value}" for key, value in flags.items()), str(self._corpus)]
            atheris.Setup(arguments, self._one, custom_mutator=self._changed)
            atheris.Fuzz()
        except BaseException:  # noqa: BLE001 - a child must not return into the code of its parent
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(1)  # a run without a finding ends inside of Fuzz, with 0

    def _one(self, case: bytes) -> None:
        done, read = _COUNTS.unpack_from(self._counts)
        _COUNTS.pack_into(self._counts, 0, done + 1, read)
        try:
            with self._watch, contextlib.suppress(SwiftdetError):
                self._door.run(case)
                _COUNTS.pack_into(self._counts, 0, done + 1, read + 1)
            if self._watch.heard:
                raise PermissionError("\n".join(self._watch.heard))  # noqa: TRY301 - a finding as any other
        except Exception:
            # libFuzzer writes the case of a crash, and not that of an exception.
            digest = hashlib.sha256(case).hexdigest()[:8]
            (self._findings / f"{self._name}-{digest}.case").write_bytes(case)
            raise

    def _changed(self, case: bytes, longest: int, seed: int) -> bytes:
        rng = random.Random(seed)
        chance = rng.random()
        changed = case
        if chance < 0.1:
            changed = self._door.case(rng)
        elif chance < 0.5:
            with contextlib.suppress(ValueError, RecursionError):  # no JSON
                changed = mutations.json_text(mutations.of_json(json.loads(case), rng), rng)
        elif chance < 0.6:
            changed = mutations.of_bytes(case, rng)
        if changed == case or len(changed) > longest:
            changed = atheris.Mutate(case, longest)
        return changed


if __name__ == "__main__":
    sys.exit(main())
