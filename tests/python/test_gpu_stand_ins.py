"""The compiled GPU path, executed on stand-ins for CUDA and TensorRT: tests/gpusim/python in processes of their own.

Needs the build of the CMake preset `gpu`; SWIFTDET_GPUSIM_BUILD names its folder.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "gpusim/python"
sys.path.append(str(FOLDER))

import stand_ins  # noqa: E402 - found by the line above

SUITES = sorted(path.stem for path in FOLDER.glob("test_*.py"))


@pytest.fixture(scope="module")
def build() -> Path:
    folder = os.environ.get(stand_ins.BUILD_VARIABLE)
    if folder is None:
        pytest.skip(f"{stand_ins.BUILD_VARIABLE} does not name a build of the preset gpu (docs/development.md)")
    return Path(folder)


@pytest.mark.parametrize("eager", [False, True], ids=["lazy", "eager"])
@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.timeout(1800)
def test_suite(build, suite, eager, tmp_path):
    config = tmp_path / "pytest.ini"  # of its own: not that of the repository
    config.write_text("[pytest]\n")
    options = ["--rootdir", str(FOLDER), "-c", str(config), "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", *options, str(FOLDER / f"{suite}.py")],
        env=stand_ins.environment(build, eager=eager, PYTHONPATH=str(FOLDER)),
        capture_output=True,
        text=True,
        timeout=1700,
        check=False,
    )
    print(done.stdout)  # noqa: T201 - the figures of proofs, for `pytest -s`
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-4000:]
    assert " passed" in done.stdout
