"""What a process has after many cycles: memory, objects, files, threads. A leak of one small image a cycle is seen.

Each cycle runs in a process of its own. After a warm-up, memory and objects are read at intervals; a growth is the
median of the slopes between all pairs of readings, so that neither a step of an allocator's arena nor a cache that a
library fills once is taken for a leak.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import make_models
import numpy as np
import onnx
import pytest
from PIL import Image as PilImage

CYCLES = int(os.environ.get("SWIFTDET_LEAK_CYCLES", "120"))
IMAGE_BYTES = 300 * 400 * 3

COMMON = """
import ctypes, gc, io, json, os, sys, threading, tracemalloc
import numpy as np, swiftdet
from PIL import Image
LIBC = ctypes.CDLL(None)
IMAGE = np.random.default_rng(1).integers(0, 256, (300, 400, 3), dtype=np.uint8)
cycles, leaks = json.load(sys.stdin)
kept = []

def resident():
    gc.collect()
    LIBC.malloc_trim(0)
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

def counts():
    gc.collect()
    return {"files": len(os.listdir("/proc/self/fd")), "python threads": threading.active_count()}

def slope(readings):
    slopes = sorted((b - a) / (j - i) for n, (i, a) in enumerate(readings) for j, b in readings[n + 1:])
    return slopes[len(slopes) // 2]

def measure(cycle):
    def once():
        cycle()
        if leaks:
            kept.append(IMAGE.copy())
    tracemalloc.start()  # before the warm-up: what replaces an object that was not traced would look like growth
    for _ in range(max(cycles // 2, 12)):
        once()
    before, memory, traced, objects = counts(), [], [], []
    for i in range(cycles):
        if i % max(cycles // 12, 1) == 0:
            memory.append((i, resident()))
            objects.append((i, sum(1 for _ in gc.get_objects())))
            traced.append((i, tracemalloc.get_traced_memory()[0]))
        once()
    print(json.dumps({"slope": slope(memory), "objects": slope(objects), "traced": slope(traced),
                      "before": before, "after": counts(), "readings": memory, "traced readings": traced}))
"""

CYCLE = {
    "detectors": """
def cycle():
    with swiftdet.Detector("model.onnx", device="cpu", sessions=1) as det:
        det(IMAGE, conf=0.01)
measure(cycle)
""",
    "detectors not closed": """
def cycle():
    swiftdet.Detector("model.onnx", device="cpu", sessions=1)(IMAGE)
measure(cycle)
""",
    "calls": """
det = swiftdet.Detector("model.onnx", device="cpu")
def cycle():
    for _ in range(4):
        result = det([IMAGE, IMAGE[::2], "picture.png"], conf=0.01, max_det=300)
        result[0].to_json(); result[1].plot()
measure(cycle)
""",
    "failing loads": """
def cycle():
    for file in ("cut.onnx", "not.onnx", "cut.pt", "missing.onnx", "cut.xml"):
        try: swiftdet.Detector(file, device="cpu")
        except swiftdet.SwiftdetError: pass
        else: raise AssertionError(file)
measure(cycle)
""",
    "failing calls": """
det = swiftdet.Detector("model.onnx", device="cpu")
def cycle():
    for image, options in ((IMAGE, {"conf": 2}), (IMAGE.astype(float), {}), (b"x", {}), ("cut.png", {})):
        try: det([IMAGE, image], **options)
        except swiftdet.SwiftdetError: pass
        else: raise AssertionError(options)
measure(cycle)
""",
    "images": """
from swiftdet import images, ops
def encoded(kind, **options):
    buffer = io.BytesIO(); Image.fromarray(IMAGE).save(buffer, kind, **options); return buffer.getvalue()
files = [encoded("PNG", compress_level=0), encoded("JPEG"), encoded("TIFF", compression="tiff_lzw"), encoded("BMP")]
def cycle():
    for content in files:
        pixels = images.load(content).bgr()
        try: images.load(content[: len(content) // 2])
        except swiftdet.ImageError: pass
    ops.letterbox(pixels, (320, 320)); ops.resize(pixels, (100, 100))
measure(cycle)
""",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("leaks")
    model = make_models.build("ultralytics-columns", size=(64, 96), classes=3, seed=3)
    onnx.save(model, folder / "model.onnx")
    content = (folder / "model.onnx").read_bytes()
    (folder / "cut.onnx").write_bytes(content[: len(content) // 2])
    (folder / "not.onnx").write_bytes(b"\x08\x08" + bytes(100_000))
    (folder / "cut.pt").write_bytes(b"PK\x03\x04" + bytes(100_000))
    (folder / "cut.xml").write_text("<net><layers>")
    PilImage.fromarray(np.zeros((300, 400, 3), np.uint8)).save(folder / "picture.png")
    (folder / "cut.png").write_bytes((folder / "picture.png").read_bytes()[:200])
    return folder


def measured(name: str, folder, *, cycles: int, leaks: bool = False) -> dict:
    done = subprocess.run(
        [sys.executable, "-c", COMMON + CYCLE[name]],
        input=json.dumps([cycles, leaks]),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict = json.loads(done.stdout)
    kept = (
        f"{found['slope'] / 1024:.1f} KiB resident, {found['traced']:.0f} bytes traced, {found['objects']:.2f} objects"
    )
    print(f"\n{name}, {cycles} cycles, each: {kept}")  # noqa: T201 - the figures of a proof, for `pytest -s`
    return found


def faults(found: dict) -> list[str]:
    """What is wrong with a measurement: less than a quarter of one image a cycle may stay."""
    wrong = []
    if found["slope"] > IMAGE_BYTES / 4:
        wrong.append("resident memory")
    if found["traced"] > 2048:
        wrong.append("memory of Python")
    if found["objects"] > 1:
        wrong.append("objects")
    if found["before"] != found["after"]:
        wrong.append("files or threads")
    return wrong


@pytest.mark.parametrize("name", CYCLE)
def test_nothing_is_left_of_a_cycle(name, folder):
    found = measured(name, folder, cycles=24)
    assert faults(found) == [], found


@pytest.mark.slow
@pytest.mark.parametrize("name", CYCLE)
def test_nothing_is_left_of_many_cycles(name, folder):
    found = measured(name, folder, cycles=CYCLES)
    assert faults(found) == [], found


def test_one_image_a_cycle_is_seen(folder):
    assert set(faults(measured("calls", folder, cycles=24, leaks=True))) == {"resident memory", "memory of Python"}
