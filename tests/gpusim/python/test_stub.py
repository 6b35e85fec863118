"""The committed stub of the CUDA half is the one that its bindings give: tests/python/test_stubs.py for `_cuda`."""

from __future__ import annotations

import sys
from pathlib import Path

from conftest import BUILD

sys.path.append(str(Path(__file__).parents[3] / "tools"))

import make_stubs


def test_the_committed_stub_is_current():
    generated = make_stubs.generate("_cuda", BUILD / "swiftdet")
    assert make_stubs.CUDA_STUB.read_text().splitlines() == generated.splitlines(), (
        "python/swiftdet/_cuda.pyi does not describe the built module. If the bindings changed on purpose, accept "
        "with: python tools/make_stubs.py --cuda build/gpu"
    )
