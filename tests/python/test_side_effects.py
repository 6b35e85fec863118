"""What the library does not do: connect, print, write elsewhere, or change the state of its process.

Each job runs in a new interpreter under an audit hook, which Python calls for every file, socket and process, and
compares the state of the process before and after.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import make_models
import numpy as np
import onnx
import pytest
from PIL import Image as PilImage
from safetensors import numpy as safetensors

import little_videos
from network_states import random_fill, state_of

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
for file in ("missing.onnx", "bad/cut.onnx", "a.png", "bad/cut.pt", "bad/cut.xml", "bad/cut.engine"):
    try: swiftdet.Detector(file, device="cpu")
    except swiftdet.SwiftdetError: pass
    else: raise AssertionError(file)
with swiftdet.Detector("model.onnx", device="cpu") as det:
    for image in ("missing.png", "bad/cut.png", "bad/cut.tif", b"nothing", "model.onnx"):
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
    "benchmark": """
import swiftdet
swiftdet.benchmark("model.onnx", device="cpu", images=["a.png", "b.jpg"], duration_s=0.1, warmup_s=0, cold_start="this")
""",
    "verification": """
import swiftdet
with swiftdet.Detector("model.onnx", device="cpu") as det:
    swiftdet.verify(det, det, ["a.png", "b.jpg"]).document
""",
    "zoo and demo": """
import swiftdet
swiftdet.zoo.info("yolov7"); swiftdet.zoo.names()
with swiftdet.Detector("demo-damo-yolo", device="cpu") as det:
    det(swiftdet.demo.picture())
""",
    "dispatcher": """
import concurrent.futures, threading
import numpy as np, swiftdet
image = np.zeros((40, 50, 3), np.uint8)
with swiftdet.Detector("model.onnx", device="cpu") as det, swiftdet.BatchDispatcher(det, max_delay_ms=1) as dispatcher:
    def work():
        futures = [dispatcher.submit(image, conf=0.01, deadline_ms=1e6) for _ in range(20)]
        futures.append(dispatcher.submit(b"bad"))
        concurrent.futures.wait(futures)
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    list(dispatcher.map(["a.png", "b.jpg"])); dispatcher.stats().to_dict()
assert dispatcher.stats().done == 82
""",
    "dispatcher in an event loop": """
import numpy as np, swiftdet
async def main():
    image = np.zeros((40, 50, 3), np.uint8)
    results = await asyncio.gather(*(dispatcher.asubmit(image) for _ in range(20)))
    assert len(results) == 20
with swiftdet.Detector("model.onnx", device="cpu") as det, swiftdet.BatchDispatcher(det) as dispatcher:
    loop.run_until_complete(main())
loop.close()
""",
    "video": """
import swiftdet
with swiftdet.Detector("model.onnx", device="cpu") as det:
    assert len(list(det.predict("film/a.mp4", stream=True))) == 6
    for _ in det.predict("film/a.mp4", stream=True, live=True): break
    try: list(det.predict("bad/cut.mp4", stream=True))
    except swiftdet.VideoError: pass
    else: raise AssertionError
""",
    "checkpoints": """
import numpy as np, swiftdet
from swiftdet import checkpoints
checkpoints.load("weights/nano.safetensors")
with swiftdet.Detector("damo-yolo-ns", weights="weights/nano.safetensors", imgsz=64, device="cpu") as det:
    det(np.zeros((40, 50, 3), np.uint8))
""",
    "doctor": "import swiftdet; from swiftdet import doctor; doctor.run_checks(); swiftdet.build_config()",
}

BEFORE = {
    # A loop makes a pair of sockets for itself, which is asyncio's deed.
    "dispatcher in an event loop": "import asyncio; loop = asyncio.new_event_loop()",
}

WATCHED = """
import ctypes, json, locale, logging, os, random, signal, sys, threading, warnings
job, answer, beforehand = json.load(sys.stdin)
import numpy as np  # whose own import changes what it likes
names = {"__name__": "job"}
exec(beforehand, names)
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
        "random": str(random.getstate()),
        "numpy random": str(np.random.get_state()), "numpy errors": np.geterr(),
        "print options": str(np.get_printoptions()),
        "hooks": (str(sys.excepthook), str(threading.excepthook)),
        "umask": [os.umask(0o22), os.umask(0o22)][0],
        "switch interval": sys.getswitchinterval(), "path": list(sys.path),
        "recursion": sys.getrecursionlimit(),
    }

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
heard, active = [], True

def listen(event, arguments):
    if not active:
        return
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
listed = sorted(os.listdir("."))
exec(compile(job, "job", "exec"), names)
files = sorted(os.listdir("."))
after = state()
changed = {key: [str(before[key])[:300], str(after[key])[:300]] for key in before if before[key] != after[key]}
text = json.dumps({"heard": heard, "changed": changed, "made": [f for f in files if f not in listed]})
active = False
open(answer, "w").write(text)
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
    bad = folder / "bad"
    bad.mkdir()
    for name, source in (("cut.png", "a.png"), ("cut.onnx", "model.onnx"), ("cut.pt", "model.onnx")):
        (bad / name).write_bytes((folder / source).read_bytes()[:100])
    content = bytearray((folder / "lzw.tif").read_bytes())
    content[8:40] = b"\xff" * 32  # of which libtiff would complain on stderr
    (bad / "cut.tif").write_bytes(content)
    (folder / "lzw.tif").unlink()
    (folder / "film").mkdir()
    film = little_videos.write(folder / "film/a.mp4", little_videos.pictures(6))
    (bad / "cut.mp4").write_bytes(film.read_bytes()[:1000])
    (folder / "weights").mkdir()
    state = {name: np.asarray(array) for name, array in state_of("damo-yolo-ns", random_fill).items()}
    safetensors.save_file(state, folder / "weights/nano.safetensors")
    (bad / "cut.xml").write_text("<net")
    (bad / "cut.engine").write_bytes(b"ftrt")
    truth = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 10, 10]}],
        "categories": [{"id": 1, "name": "class0"}],
    }
    (folder / "truth.json").write_text(json.dumps(truth))
    return folder


def watched(job: str, folder, run_in, beforehand: str = "") -> dict:
    """What a job did, after its outputs were seen to be empty."""
    answer = folder.parent / "answer.json"
    done = subprocess.run(
        [sys.executable, "-c", WATCHED],
        input=json.dumps([job, str(answer), beforehand]),
        cwd=run_in,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (done.stdout, done.stderr) == ("", "")
    return json.loads(answer.read_text())


@pytest.mark.parametrize("job", JOBS)
def test_a_job_leaves_its_process_and_the_machine_as_they_were(job, folder):
    found = watched(JOBS[job], folder, folder, BEFORE.get(job, ""))
    assert found == {"heard": [], "changed": {}, "made": []}


def test_a_folder_for_compiled_models_is_the_only_thing_written(folder):
    """Where it is asked for, OpenVINO's cache; and by itself, nothing."""
    cache = folder / "cache"
    code = f"import swiftdet; swiftdet.Detector('model.onnx', device='cpu', cache_dir={str(cache)!r}).close()"
    assert watched(code, folder, folder) == {"heard": [], "changed": {}, "made": ["cache"]}
    assert any(cache.iterdir())


CUDA_LIBRARIES = ("libcuda.so.1", "libcudart.so.12", "libcudart.so.13", "libnvinfer.so.10", "libnvinfer.so.11")
LOADED = """
import json, sys
asked = []
sys.addaudithook(lambda event, arguments: asked.append(str(arguments[0])) if event == "ctypes.dlopen" else None)
{code}
mapped = {{line.split("/")[-1].strip() for line in open("/proc/self/maps") if "/" in line}}
print(json.dumps([name for name in [*asked, *mapped] if name.split("/")[-1].startswith(("libcuda", "libnv"))]))
"""


@pytest.fixture(scope="module")
def cuda_libraries(tmp_path_factory):
    """Libraries with NVIDIA's names where the loader finds them, so that a request for one is seen to succeed."""
    folder = tmp_path_factory.mktemp("cuda-libraries")
    if (compiler := shutil.which("g++")) is None:
        pytest.skip("no g++")
    for name in CUDA_LIBRARIES:
        command = [compiler, "-shared", "-fPIC", "-x", "c++", "-o", str(folder / name), "-"]
        subprocess.run(command, input="int nothing_to_be_found_here;", check=True, text=True)
    return folder


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import swiftdet", []),
        ("import swiftdet.cli, swiftdet.doctor; swiftdet.build_config(); swiftdet.zoo.names()", []),
        ("import swiftdet; swiftdet.Detector('demo-damo-yolo', device='cpu').close()", []),
        ("import ctypes; ctypes.CDLL('libnvinfer.so.10')", ["libnvinfer.so.10"]),
    ],
)
def test_importing_and_the_cpu_load_nothing_of_nvidia(code, expected, cuda_libraries):
    """Neither through ctypes nor from C++; the last one sees that the watch sees."""
    done = subprocess.run(
        [sys.executable, "-c", LOADED.format(code=code)],
        env={**os.environ, "LD_LIBRARY_PATH": str(cuda_libraries)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert set(json.loads(done.stdout.splitlines()[-1])) == set(expected)


def test_the_folder_of_the_process_does_not_matter(folder, tmp_path):
    """Not even where it was deleted."""
    gone = tmp_path / "gone"
    gone.mkdir()
    code = f"""
import os, swiftdet
os.rmdir({str(gone)!r})
with swiftdet.Detector({str(folder / "model.onnx")!r}, device="cpu") as det:
    det({str(folder / "a.png")!r}); swiftdet.evaluate(det, {str(folder)!r}, {str(folder / "truth.json")!r})
"""
    done = subprocess.run(
        [sys.executable, "-P" if sys.version_info >= (3, 11) else "-I", "-c", code],
        cwd=gone,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


DEEDS = {
    "import socket; socket.socket().close()": ("heard", "socket"),
    "import os; os.environ['A_NEW_ONE'] = '1'": ("changed", "environment in C"),
    "import ctypes; ctypes.CDLL(None).setenv(b'A_NEW_ONE', b'1', 1)": ("changed", "environment in C"),
    "open('made.txt', 'w').close()": ("made", "made.txt"),
    "import signal; signal.signal(signal.SIGUSR1, lambda *_: None)": ("changed", "signals"),
    "import warnings; warnings.simplefilter('ignore')": ("changed", "warnings"),
    "import logging; logging.basicConfig()": ("changed", "logging"),
    "import random; random.random()": ("changed", "random"),
    "import numpy; numpy.random.seed(1)": ("changed", "numpy random"),
    "import subprocess; subprocess.run(['true'])": ("heard", "subprocess.Popen"),
}


@pytest.mark.parametrize("deed", DEEDS)
def test_the_watch_sees_what_it_looks_for(deed, folder):
    kind, what = DEEDS[deed]
    assert what in str(watched(deed, folder, folder)[kind])
    (folder / "made.txt").unlink(missing_ok=True)


def test_the_watch_sees_prints(folder):
    with pytest.raises(AssertionError, match="hello"):
        watched("import os; os.write(2, b'hello')", folder, folder)
