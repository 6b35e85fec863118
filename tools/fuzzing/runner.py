"""Runs cases in a child process, so that a crash of native code is seen and belongs to its case."""

from __future__ import annotations

import collections
import faulthandler
import hashlib
import mmap
import os
import random
import re
import select
import shutil
import signal
import struct
import sys
import time
import traceback
import warnings
from dataclasses import dataclass, field
from pathlib import Path

from fuzzing.door import Door
from fuzzing.watch import Watch, peak_mib, reset_peak
from swiftdet.errors import SwiftdetError

_HEADER = struct.Struct("<qd")  # the case at hand, and when it began
_LABEL = 64
_MOST_LABELS = 250
_OTHER = 251
_FOUND = 253
_STARTUP_S = 300.0
_KEPT = 3  # cases of one kind of finding that are written


@dataclass
class Report:
    """What a run found.

    Attributes:
        outcomes: how many cases ended how.
        findings: kind to the folder where its first case lies.
        cases: that were run.
        seconds: that it took.
    """

    outcomes: collections.Counter[str] = field(default_factory=collections.Counter)
    findings: dict[str, Path] = field(default_factory=dict)
    cases: int = 0
    seconds: float = 0.0


class Runner:
    """Puts cases to one door."""

    def __init__(self, door: Door, name: str, *, seed: int, findings: Path) -> None:
        """Findings are written to a folder of their own under `findings`, which is made when there is one."""
        self._door = door
        self._name = name
        self._seed = seed
        self._findings = findings
        self._noise = door.folder.parent / f"{door.folder.name}.noise"

    def run(self, cases: int, *, seconds: float | None = None, minimise_s: float = 20.0) -> Report:
        """Runs so many cases, or as many as the time allows."""
        report = Report()
        for stale in self._findings.glob(f"{self._name}-????????"):
            shutil.rmtree(stale)
        self._door.prepare()
        shared = mmap.mmap(-1, _HEADER.size + _LABEL * 256 + cases)
        started = time.monotonic()
        until = None if seconds is None else started + seconds
        index = 0
        while index < cases:
            end = self._work(shared, index, cases, until)
            at, _ = _HEADER.unpack_from(shared)
            if end is None:
                index = at
                break
            shared[_HEADER.size + _LABEL * 256 + at] = _FOUND
            self._keep(report, end, self.case(at), at)
            index = at + 1
        report.seconds = time.monotonic() - started
        report.cases = index
        self._tally(report, shared)
        self._collect(report)
        for kind, folder in report.findings.items():
            if kind != "hang":  # every try would last as long
                self._minimise(folder, minimise_s)
        return report

    def case(self, index: int) -> bytes:
        """The case of that number."""
        return self._door.case(random.Random(f"{self._name}:{self._seed}:{index}"))

    def replay(self, cases: list[bytes]) -> list[str]:
        """What becomes of each case."""
        self._door.prepare()
        return [self.outcome(case) for case in cases]

    def outcome(self, case: bytes) -> str:
        """What becomes of one case, in a child process: its label, or "FOUND" with the kind of finding."""
        read, write = os.pipe()
        pid = os.fork()
        if not pid:
            self._enter_child()
            self._door.warm_up()
            watch = Watch(self._door.folder, may_import=self._door.may_import)
            label, found = self._judge(case, watch)
            os.write(write, (f"FOUND {found[0]}" if found else label).encode(errors="replace"))
            os._exit(0)
        os.close(write)
        ready, _, _ = select.select([read], [], [], self._door.hang_s + _STARTUP_S)
        answer = os.read(read, 1 << 16).decode() if ready else ""
        os.close(read)
        if not ready:
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        return answer or ("FOUND hang" if not ready else f"FOUND {_death(status)}")

    # -- the child ------------------------------------------------------------------------------------------------

    def _work(self, shared: mmap.mmap, first: int, cases: int, until: float | None) -> str | None:
        """Runs cases in a child until it is done (None) or dies (of what)."""
        _HEADER.pack_into(shared, 0, first, 0.0)
        read, write = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(read)
            status = 3
            try:
                self._enter_child()
                self._loop(shared, first, cases, until)
                status = 0
            except BaseException:  # noqa: BLE001 - a child must not return into the code of its parent
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(status)
        os.close(write)
        born = time.monotonic()
        hung = False
        while not select.select([read], [], [], 0.5)[0]:
            _, began = _HEADER.unpack_from(shared)
            limit = (began + self._door.hang_s) if began else born + _STARTUP_S
            if time.monotonic() > limit:
                hung = True
                os.kill(pid, signal.SIGABRT)  # faulthandler writes down where it hangs
                time.sleep(1.0)
                os.kill(pid, signal.SIGKILL)
                break
        os.close(read)
        _, status = os.waitpid(pid, 0)
        if status == 0:
            return None
        if os.WIFEXITED(status):
            raise RuntimeError(f"the fuzzer itself failed:\n{self._noise.read_text(errors='replace')[-4000:]}")
        return "hang" if hung else _death(status)

    def _enter_child(self) -> None:
        noise = os.open(self._noise, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        os.dup2(noise, 1)
        os.dup2(noise, 2)
        sys.stdout = open(1, "w", closefd=False, encoding="utf-8")  # noqa: SIM115 - for as long as the child lives
        sys.stderr = open(2, "w", closefd=False, encoding="utf-8")  # noqa: SIM115
        faulthandler.enable(sys.stderr)
        warnings.simplefilter("always")  # a warning is a print, and that is a finding
        os.chdir(self._door.folder)

    def _loop(self, shared: mmap.mmap, first: int, cases: int, until: float | None) -> None:
        self._door.warm_up()
        labels = {name: code for code, name in enumerate(_labels(shared))}
        kept: collections.Counter[str] = collections.Counter()
        watch = Watch(self._door.folder, may_import=self._door.may_import)
        results = _HEADER.size + _LABEL * 256
        for index in range(first, cases):
            now = time.monotonic()
            if until is not None and now > until:
                _HEADER.pack_into(shared, 0, index, now)
                return
            case = self.case(index)
            _HEADER.pack_into(shared, 0, index, time.monotonic())
            label, found = self._judge(case, watch)
            if found is not None:
                shared[results + index] = _FOUND
                kept[found[0]] += 1
                if kept[found[0]] <= _KEPT:
                    self._write(found[0], found[1], case, index)
                continue
            if label not in labels and len(labels) < _MOST_LABELS:
                code = labels[label] = len(labels)
                name = label.encode(errors="replace")[:_LABEL].ljust(_LABEL, b"\0")
                shared[_HEADER.size + _LABEL * code : _HEADER.size + _LABEL * (code + 1)] = name
            shared[results + index] = labels.get(label, _OTHER) + 1
        _HEADER.pack_into(shared, 0, cases, time.monotonic())

    def _judge(self, case: bytes, watch: Watch) -> tuple[str, tuple[str, str] | None]:
        """The outcome of one case; and where it is a finding, its kind and what there is to say."""
        reset_peak()
        before = peak_mib()
        printed = self._noise.stat().st_size
        error: BaseException | None = None
        label = ""
        with watch:
            try:
                label = self._door.run(case)
            except BaseException as e:  # noqa: BLE001 - that is what is looked for
                error = e
        sys.stdout.flush()
        sys.stderr.flush()
        grown = peak_mib() - before
        if watch.heard:
            return "", (f"did {watch.heard[0].split()[0]}", "\n".join(watch.heard))
        if error is not None and not isinstance(error, SwiftdetError):
            return "", (_kind(error), "".join(traceback.format_exception(error)))
        if error is not None and not str(error).strip():
            return "", ("no message", "".join(traceback.format_exception(error)))
        if self._noise.stat().st_size > printed:
            with self._noise.open("rb") as file:
                file.seek(printed)
                text = file.read(4000).decode(errors="replace")
                line = re.sub(r"\d+", "#", text.strip().split("\n")[0].rpartition(": ")[2])
                return "", (f"printed {line[:60]}", text)
        if grown > self._door.allowed_mib(case):
            return "", ("memory", f"peak memory grew by {grown:.0f} MiB")
        return (label if error is None else _refusal(error, self._door.folder)), None

    # -- findings -------------------------------------------------------------------------------------------------

    def _keep(self, report: Report, kind: str, case: bytes, index: int) -> None:
        folder = self._write(kind, self._noise.read_text(errors="replace")[-8000:], case, index)
        report.findings.setdefault(kind, folder)

    def _write(self, kind: str, text: str, case: bytes, index: int) -> Path:
        digest = hashlib.sha256(kind.encode()).hexdigest()[:8]
        folder = self._findings / f"{self._name}-{digest}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{self._seed}-{index}.case").write_bytes(case)
        (folder / "kind.txt").write_text(kind, encoding="utf-8")
        (folder / f"{self._seed}-{index}.txt").write_text(f"{kind}\n\n{text}", encoding="utf-8", errors="replace")
        return folder

    def _collect(self, report: Report) -> None:
        for path in sorted(self._findings.glob(f"{self._name}-*/kind.txt")):
            report.findings.setdefault(path.read_text(encoding="utf-8"), path.parent)

    def _tally(self, report: Report, shared: mmap.mmap) -> None:
        labels = _labels(shared)
        codes = collections.Counter(shared[_HEADER.size + _LABEL * 256 :][: report.cases])
        for code, count in codes.items():
            name = "FOUND" if code == _FOUND else "refused in other words" if code == _OTHER + 1 else labels[code - 1]
            report.outcomes[name] += count

    def _minimise(self, folder: Path, seconds: float) -> None:
        """Writes the smallest case that still gives the finding, as far as taking blocks away leads."""
        case = min((path.read_bytes() for path in folder.glob("*.case")), key=len)
        kind = f"FOUND {(folder / 'kind.txt').read_text(encoding='utf-8')}"
        until = time.monotonic() + seconds
        block = len(case) // 2
        while block and time.monotonic() < until:
            at, smaller = 0, False
            while at < len(case) and time.monotonic() < until:
                shorter = case[:at] + case[at + block :]
                if self.outcome(shorter) == kind:
                    case, smaller = shorter, True
                else:
                    at += block
            if not smaller:
                block //= 2
        (folder / "minimal.case").write_bytes(case)


def _labels(shared: mmap.mmap) -> list[str]:
    table = [
        shared[_HEADER.size + _LABEL * code : _HEADER.size + _LABEL * (code + 1)].rstrip(b"\0")
        for code in range(_MOST_LABELS)
    ]
    return [name.decode(errors="replace") for name in table if name]


def _death(status: int) -> str:
    return f"died of {signal.Signals(os.WTERMSIG(status)).name}" if os.WIFSIGNALED(status) else f"ended with {status}"


def _kind(error: BaseException) -> str:
    """The error's class and the innermost place in the library where it came through."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "/swiftdet/" in frame.filename] or frames
    place = f"{Path(own[-1].filename).name}:{own[-1].lineno}" if own else "?"
    return f"{type(error).__name__} at {place}"


def _refusal(error: BaseException, folder: Path) -> str:
    text = re.sub(r"\d[\d.]*|'[^']*'|\"[^\"]*\"", "#", str(error).replace(str(folder), ""))
    return f"{type(error).__name__}: {' '.join(text.split())}"[: _LABEL - 14]
