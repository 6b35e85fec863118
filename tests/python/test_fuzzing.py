"""The fuzzer over every door, briefly; what it once found; and that it sees what it looks for."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fuzzing.doors import DOORS

ROOT = Path(__file__).resolve().parents[2]
FOUND = ROOT / "tests/data/fuzz"
CASES = 200
SLOW_SECONDS = float(os.environ.get("SWIFTDET_FUZZ_SECONDS", "10"))
COMPILING = {"onnx-run": 40, "onnxruntime": 40, "ir-run": 40}  # a network is compiled for each


def fuzz(*arguments: object, tool: str = "fuzz.py") -> str:
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / tool), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("door", DOORS)
def test_random_input_ends_in_success_or_a_typed_error(door, tmp_path):
    cases = COMPILING.get(door, CASES)
    assert fuzz(door, "--cases", cases, "--seed", 1, "--findings", tmp_path).startswith(f"{door}: {cases} cases in ")


@pytest.mark.slow
@pytest.mark.parametrize("door", DOORS)
def test_much_random_input_ends_in_success_or_a_typed_error(door, tmp_path):
    assert fuzz(door, "--seconds", SLOW_SECONDS, "--seed", 2, "--findings", tmp_path).startswith(f"{door}: ")


@pytest.mark.parametrize("door", sorted(path.name for path in FOUND.iterdir()))
def test_what_was_found_once_is_mended(door, tmp_path):
    cases = sorted((FOUND / door).iterdir())
    outcomes = fuzz(door, "--findings", tmp_path, "--replay", *cases).splitlines()
    assert len(outcomes) == len(cases)


# --- led by coverage ------------------------------------------------------------------------------------------------


def test_input_led_by_coverage_ends_in_success_or_a_typed_error(tmp_path):
    pytest.importorskip("atheris", reason="atheris has no wheel for this Python or processor")
    told = fuzz("--cases", 1000, "--findings", tmp_path, tool="fuzz_atheris.py").splitlines()
    doors = [line.partition(" cases")[0].split(": ") for line in told]
    assert [door for door, _ in doors] == ["annotations", "checkpoints", "descriptions", "manifests", "measurements"]
    assert all(int(cases) >= 1000 for _, cases in doors)  # libFuzzer was seen to run some more
    assert list(tmp_path.iterdir()) == []


LED = f"""
import sys, tempfile
from pathlib import Path
sys.path[:0] = [{str(ROOT / "tools")!r}]
import fuzz_atheris

class Bad(fuzz_atheris.Door):
    def prepare(self): pass
    def case(self, rng): return b'{{"a": [1, 2]}}'
    def run(self, case):
        if case[:1] != b"{{":
            raise ValueError("no braces")
        return "read"

fuzz_atheris.DOORS["bad"] = Bad
with tempfile.TemporaryDirectory() as folder:
    parent = Path(folder).resolve()
    status = fuzz_atheris.Guided("bad", parent, seed=1, findings=parent / "findings").run(10_000)
    (found,) = (parent / "findings").glob("bad-*.case")
    print(status, found.read_bytes()[:1] != b"{{")
"""


GOES_ON = f"""
import sys, tempfile
from pathlib import Path
sys.path[:0] = [{str(ROOT / "tools")!r}]
import fuzz_atheris

fuzz_atheris._ROUND = 400
with tempfile.TemporaryDirectory() as folder:
    parent = Path(folder).resolve()
    guided = fuzz_atheris.Guided("manifests", parent, seed=1, findings=parent / "findings")
    print(guided.run(1000), guided._seed)
"""


def test_the_led_fuzzer_goes_on_in_a_new_process():
    pytest.importorskip("atheris", reason="atheris has no wheel for this Python or processor")
    done = subprocess.run([sys.executable, "-c", GOES_ON], capture_output=True, text=True, timeout=280, check=True)
    told, ended = done.stdout.splitlines()
    assert ended == "0 4", "three rounds, of a seed each"
    assert int(told.partition(" cases")[0].partition(": ")[2]) >= 1000


def test_the_led_fuzzer_sees_what_it_looks_for():
    pytest.importorskip("atheris", reason="atheris has no wheel for this Python or processor")
    done = subprocess.run([sys.executable, "-c", LED], capture_output=True, text=True, timeout=280, check=False)
    assert done.stdout.splitlines()[-1:] == ["1 True"], done.stdout + done.stderr
    assert "ValueError: no braces" in done.stdout


# --- the fuzzer itself ----------------------------------------------------------------------------------------------

FAULTS = {
    "raise ValueError('x')": "ValueError at <string>",
    "raise ModelError(' ')": "no message",
    "ctypes.string_at(0)": "died of SIGSEGV",
    "os.abort()": "died of SIGABRT",
    "time.sleep(60)": "hang",
    "print('hello')": "printed hello",
    "os.write(2, b'native words')": "printed native words",
    "warnings.warn('beware')": "printed beware",
    "socket.socket()": "did socket.__new__",
    "subprocess.run(['true'])": "did subprocess.Popen",
    "open('/tmp/elsewhere', 'w')": "did open",
    "os.remove('/tmp/elsewhere')": "did os.remove",
    "os.environ['X'] = 'y'": "did os.putenv",
    "self.kept = bytearray(200 << 20)": "memory",
    "bytearray(200 << 20)": "memory",
    "bytearray(150 << 20)": "memory",  # below the peak of the one before
}
DOOR = f"""
import ctypes, os, socket, subprocess, sys, tempfile, time, warnings
from pathlib import Path
sys.path[:0] = [{str(ROOT / "tools")!r}]
from fuzzing.door import Door
from fuzzing.runner import Runner
from swiftdet.errors import ModelError

FAULTS = {list(FAULTS)!r}

class Bad(Door):
    hang_s = 2.0
    memory_mib = 64
    def prepare(self): pass
    def case(self, rng): raise AssertionError
    def run(self, case):
        if case[:1] == b"r":
            raise ModelError("refused")
        if case[:1] == b"f":
            exec(FAULTS[case[1]])
        return "read"

with tempfile.TemporaryDirectory() as parent:
    folder = Path(parent).resolve() / "case"
    folder.mkdir()
    runner = Runner(Bad(folder), "bad", seed=1, findings=Path(parent) / "findings")
    runner.case = lambda index: (b"f" + bytes([index // 3]), b"good", b"refused")[index % 3] + b"padding"
    report = runner.run(3 * len(FAULTS), minimise_s=1.0)
    kinds = sorted(kind.split(":")[0] for kind in report.findings)
    minimal = (report.findings["no message"] / "minimal.case").read_bytes()
    print([kinds, report.cases, dict(report.outcomes), minimal])
"""


def test_the_fuzzer_sees_what_it_looks_for():
    done = subprocess.run(
        [sys.executable, "-c", DOOR], capture_output=True, text=True, timeout=280, check=False, cwd="/"
    )
    assert done.returncode == 0, done.stderr
    kinds, cases, outcomes, minimal = ast.literal_eval(done.stdout)
    assert kinds == sorted(set(FAULTS.values()))
    assert cases == 3 * len(FAULTS)
    assert outcomes == {"FOUND": len(FAULTS), "read": len(FAULTS), "ModelError: refused": len(FAULTS)}
    assert minimal == b"f\x01"  # what was put behind it is gone


def test_a_seed_names_its_cases(tmp_path):
    code = f"""
import random, sys, tempfile
from pathlib import Path
sys.path[:0] = [{str(ROOT / "tools")!r}, {str(ROOT / "tests/python")!r}, {str(ROOT / "tests/data")!r}]
from fuzzing.doors import DOORS
import hashlib
digest = hashlib.sha256()
for name in ("images", "checkpoints", "onnx", "ops", "command-line"):
    folder = Path(tempfile.mkdtemp(dir={str(tmp_path)!r}))
    door = DOORS[name](folder)
    door.prepare()
    for index in range(20):
        digest.update(door.case(random.Random(f"{{name}}:{{index}}")))
print(digest.hexdigest())
"""
    first, second = (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200, check=True).stdout
        for _ in range(2)
    )
    assert first == second
