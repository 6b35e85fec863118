"""Fails on trailing whitespace, a missing or doubled final newline, CRLF line ends, tabs, and large files.

Usage: python tools/check_files.py [FILE...]    (without files: everything that git tracks)
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

LARGEST = 512 * 1024
LARGEST_WEIGHTS = 3_000_000  # of a demo model, all that the wheel may carry of it
BINARY = {".jpg", ".jpeg", ".png", ".onnx", ".bin", ".npz", ".safetensors", ".case"}
TABS_ALLOWED = {".gitmodules", ".supp"}


def tracked() -> list[Path]:
    """The files of the repository, as git lists them."""
    listing = subprocess.run(["git", "ls-files", "-z"], check=True, capture_output=True, text=True)  # noqa: S607 - the git on PATH
    return [Path(name) for name in listing.stdout.split("\0") if name]


def faults(path: Path) -> Iterator[str]:
    """What is wrong with one file, as `path:line: fault`."""
    data = path.read_bytes()
    largest = LARGEST_WEIGHTS if path.suffix == ".safetensors" else LARGEST
    if len(data) > largest:
        yield f"{path}: {len(data)} bytes, the limit is {largest}"
    if path.suffix in BINARY or not data:
        return
    if b"\r\n" in data:
        yield f"{path}: CRLF line ends"
    if not data.endswith(b"\n") or data.endswith(b"\n\n"):
        yield f"{path}: expected exactly one newline at the end"
    for number, line in enumerate(data.split(b"\n"), 1):
        if line.rstrip(b" \t\r") != line.rstrip(b"\r"):
            yield f"{path}:{number}: trailing whitespace"
        if b"\t" in line and path.suffix not in TABS_ALLOWED:
            yield f"{path}:{number}: tab"


def main(arguments: list[str]) -> int:
    """Checks the files and prints their faults."""
    paths = [Path(name) for name in arguments] or tracked()
    found = [fault for path in paths if path.is_file() for fault in faults(path)]
    print("\n".join(found) or f"{len(paths)} files are clean")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
