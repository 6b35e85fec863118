"""Resident memory and threads of `predict(stream=True)` on a 1920x1080 film, with a caller slower than the reader.

python benchmarks/stream_memory.py
"""

from __future__ import annotations

import resource
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import onnx

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests/python"), str(ROOT / "tests/data")]

import make_models  # noqa: E402

import little_videos  # noqa: E402 - found by the line above
import swiftdet  # noqa: E402

FRAMES = 250
LOOKED_AT = (50, 150, 249)


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        onnx.save(make_models.build("ultralytics-columns", size=(64, 96), classes=3, seed=3), folder / "tiny.onnx")
        pictures = little_videos.pictures(25, size=(1080, 1920))
        options = {"preset": "ultrafast", "g": "50"}
        film = little_videos.write(folder / "film.mp4", pictures * (FRAMES // 25), options=options)
        del pictures
        detector = swiftdet.Detector(folder / "tiny.onnx", device="cpu")
        detector(np.zeros((1080, 1920, 3), np.uint8))
        for prefetch in (0, 4, 16):
            before, threads = resident_mib(), threading.active_count()
            most, added, seen = 0.0, 0, []
            for i, _ in enumerate(detector.predict(film, stream=True, prefetch=prefetch)):
                time.sleep(0.01)
                most = max(most, resident_mib() - before)
                added = max(added, threading.active_count() - threads)
                if i in LOOKED_AT:
                    seen.append(f"{resident_mib():.0f}")
            left = threading.active_count() - threads
            print(
                f"prefetch {prefetch}: before {before:.0f} MiB, after 51/151/250 frames {'/'.join(seen)} MiB, "
                f"most +{most:.0f} MiB, threads +{added}, left {left}"
            )


if __name__ == "__main__":
    main()
