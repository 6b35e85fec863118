"""The committed stub of the compiled module is the one that its bindings give."""

from __future__ import annotations

import difflib
import importlib.metadata
import importlib.util
from pathlib import Path

import pybind11_stubgen  # noqa: F401 - a test without it must fail at once, not in a subprocess
import pytest

ROOT = Path(__file__).resolve().parents[2]
_location = importlib.util.spec_from_file_location("make_stubs", ROOT / "tools/make_stubs.py")
make_stubs = importlib.util.module_from_spec(_location)
_location.loader.exec_module(make_stubs)


def test_committed_stub_is_current():
    committed = make_stubs.STUB.read_text()
    generated = make_stubs.generate()
    if committed != generated:
        difference = difflib.unified_diff(
            committed.splitlines(), generated.splitlines(), "committed", "generated", lineterm=""
        )
        pytest.fail(
            "python/swiftdet/_core.pyi does not describe the installed module. If the bindings changed on purpose, "
            "accept with: python tools/make_stubs.py\n" + "\n".join(difference),
            pytrace=False,
        )


def test_the_stub_and_the_marker_are_installed():
    installed = {str(path) for path in importlib.metadata.files("swiftdet") or ()}
    if any("_editable_" in name or "_editable.py" in name for name in installed):
        pytest.skip("an editable install serves the source tree")
    assert {"swiftdet/_core.pyi", "swiftdet/_cuda.pyi", "swiftdet/py.typed"} <= installed
