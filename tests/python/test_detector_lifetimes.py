"""What becomes of a detector, and of those who wait for it, when something ends: Ctrl-C, close, fork, the process."""

from __future__ import annotations

import itertools
import subprocess
import sys
import textwrap
from pathlib import Path

import make_models
import numpy as np
import onnx
import pytest

SIZE = (64, 96)

PRELUDE = """
import os, signal, sys, threading, time
import numpy as np
import swiftdet

signal.alarm(60)  # what hangs is ended, here and in children
os.register_at_fork(after_in_child=lambda: signal.alarm(20))
model, image = sys.argv[1], np.random.default_rng(7).integers(0, 256, (70, 130, 3), dtype=np.uint8)

class SlowEngine:
    '''As long as `hold` is set, a run stays inside, like a network that takes its time.'''
    inputs = (("images", (1, 3, 64, 96)),)
    def __init__(self):
        self.real = swiftdet.engines.compile(open(model, "rb").read(), b"", engine="openvino", device="cpu")
        self.outputs = self.real.outputs
        self.inside, self.go = threading.Semaphore(0), threading.Event()
        self.go.set()
    def run(self, inputs):
        self.inside.release()
        self.go.wait()
        return self.real.infer(inputs["images"].copy())

def detector(engine="openvino", **options):
    return swiftdet.Detector(model, engine=engine, device="cpu", conf=0.0, **options)

def same(a, b):
    return np.array_equal(a.xyxy, b.xyxy) and np.array_equal(a.conf, b.conf) and np.array_equal(a.cls, b.cls)

def wait_for(condition):
    while not condition():
        time.sleep(0.005)

def sessions(det):
    return det._pipelines["fixed"].sessions  # (limit, made, idle, waiting)

def interrupt_when(condition):
    def work():
        wait_for(condition)
        os.kill(os.getpid(), signal.SIGINT)
    threading.Thread(target=work).start()
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("lifetimes") / "tiny.onnx"
    onnx.save(make_models.build("ultralytics-columns", size=SIZE, classes=3, seed=3), path)
    return path


@pytest.fixture(scope="module")
def run(model):
    """Runs a program on the tiny model in a process of its own; the text that it printed."""

    def start(code: str, *arguments: object, before: str = "") -> str:
        program = before + PRELUDE + textwrap.dedent(code)
        done = subprocess.run(
            [sys.executable, "-c", program, str(model), *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, ""), f"{done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    return start


# --- Ctrl-C ---------------------------------------------------------------------------------------------------------


def test_ctrl_c_ends_a_wait_for_a_session_and_the_others_keep_their_turn(run):
    """Sessions are all on loan; the main thread waits between two others in the line."""
    assert run(
        """
        engine = SlowEngine()
        det = detector(engine, sessions=1)
        expected = det(image)
        engine.inside.acquire()
        engine.go.clear()
        results = {}
        def call(name):
            results[name] = det(image)
        threads = [threading.Thread(target=call, args=(name,)) for name in ("has one", "before", "after")]
        threads[0].start()
        engine.inside.acquire()
        threads[1].start()
        wait_for(lambda: sessions(det)[3] == 1)
        def last():
            wait_for(lambda: sessions(det)[3] == 2)
            threads[2].start()
        threading.Thread(target=last).start()
        interrupt_when(lambda: sessions(det)[3] == 3)
        try:
            det(image)
            print("not interrupted")
        except KeyboardInterrupt:
            print("interrupted", sessions(det)[3])
        engine.go.set()
        for thread in threads:
            thread.join()
        print(all(same(result, expected) for result in results.values()), len(results), sessions(det)[1:])
        print(same(det(image), expected))
        """
    ).split("\n")[:3] == ["interrupted 2", "True 3 (1, 1, 0)", "True"]


def test_a_handler_that_does_not_raise_lets_the_wait_go_on(run):
    assert run(
        """
        engine = SlowEngine()
        det = detector(engine, sessions=1)
        expected = det(image)
        engine.inside.acquire()
        engine.go.clear()
        other = threading.Thread(target=det, args=(image,))
        other.start()
        engine.inside.acquire()
        def handler(*_):
            print("handled")
            engine.go.set()
        signal.signal(signal.SIGUSR1, handler)
        def send():
            wait_for(lambda: sessions(det)[3] == 1)
            os.kill(os.getpid(), signal.SIGUSR1)
        threading.Thread(target=send).start()
        print(same(det(image), expected))
        other.join()
        """
    ).split() == ["handled", "True"]


@pytest.mark.parametrize("count", [1, 6])
def test_ctrl_c_ends_the_networks_own_run(run, tmp_path, count):
    """A convolution that takes seconds, alone and as a batch; the detector goes on afterwards, with whole results."""
    path = tmp_path / "slow.onnx"
    path.write_bytes(slow_model())
    assert run(
        """
        det = swiftdet.Detector(sys.argv[2], device="cpu", conf=0.0, sessions=2)
        expected = det(image)
        interrupt_when(lambda: sessions(det)[1] and sessions(det)[2] < sessions(det)[1])
        try:
            while True:  # the signal may come between two calls
                det([image] * int(sys.argv[3]))
        except KeyboardInterrupt:
            print("interrupted")
        print(same(det(image), expected), sessions(det)[2] == sessions(det)[1])
        """,
        path,
        count,
    ).split() == ["interrupted", "True", "True"]


def slow_model() -> bytes:
    """An Ultralytics head behind a chain of convolutions: some tenths of a second, in many steps."""
    from onnx import helper, numpy_helper

    proto = make_models.build("ultralytics-columns", size=SIZE, classes=3, seed=3)
    rng = np.random.default_rng(0)
    name = proto.graph.input[0].name
    nodes, initializers, current = [], [], name
    widths = [3, *[64] * 60, 3]
    for i, (a, b) in enumerate(itertools.pairwise(widths)):
        weight = (rng.normal(size=(b, a, 3, 3)) / np.sqrt(9 * a)).astype(np.float32)
        initializers.append(numpy_helper.from_array(weight, f"slow{i}"))
        nodes.append(helper.make_node("Conv", [current, f"slow{i}"], [f"slow_out{i}"], pads=[1] * 4))
        current = f"slow_out{i}"
    for node in proto.graph.node:
        node.input[:] = [current if used == name else used for used in node.input]
    for i, node in enumerate(nodes):
        proto.graph.node.insert(i, node)
    proto.graph.initializer.extend(initializers)
    return proto.SerializeToString()


# --- close ----------------------------------------------------------------------------------------------------------


def test_closing_lets_calls_in_flight_finish_and_turns_away_those_who_wait(run):
    assert run(
        """
        engine = SlowEngine()
        det = detector(engine, sessions=1)
        expected = det(image)
        engine.inside.acquire()
        engine.go.clear()
        finished, refused = [], []
        def call(images):
            try:
                finished.append([same(r, expected) for r in det(images)])
            except swiftdet.DetectorClosed as e:
                refused.append(str(e))
        inside = threading.Thread(target=call, args=([image] * 3,))
        inside.start()
        engine.inside.acquire()
        counts, waiting = det._pipelines["fixed"], [threading.Thread(target=call, args=([image],)) for _ in range(4)]
        for thread in waiting:
            thread.start()
        wait_for(lambda: counts.sessions[3] == 4)
        det.close()
        for thread in waiting:
            thread.join()  # at once: nobody has let the run go on
        print(len(refused), "closed" in refused[0])
        engine.go.set()
        inside.join()
        print(finished)
        """
    ).split("\n")[:2] == ["4 True", "[[True, True, True]]"]


def test_the_last_reference_may_go_while_another_thread_is_inside(run):
    assert run(
        """
        import gc, weakref
        engine = SlowEngine()
        det = detector(engine, sessions=1)
        expected = det(image)
        engine.inside.acquire()
        engine.go.clear()
        results = []
        def call(det):
            results.append(det(image))
        thread = threading.Thread(target=call, args=(det,))
        thread.start()
        engine.inside.acquire()
        gone = weakref.ref(engine)
        del det
        gc.collect()
        engine.go.set()
        thread.join()
        del thread, engine
        gc.collect()
        print(same(results[0], expected), gone() is None)
        """
    ).split() == ["True", "True"]


# --- fork -----------------------------------------------------------------------------------------------------------

ADVICE = ("forked", "spawn", "in the child")


def test_a_forked_child_is_refused_at_once_though_all_sessions_were_on_loan(run):
    """Calls, batches, close and the end of the child; the parent goes on."""
    out = run(
        """
        engine = SlowEngine()
        det = detector(engine, sessions=1)
        expected = det(image)
        engine.inside.acquire()
        engine.go.clear()
        thread = threading.Thread(target=det, args=(image,))
        thread.start()
        engine.inside.acquire()
        child = os.fork()
        if child == 0:
            for call in (lambda: det(image), lambda: det([image] * 3), lambda: det.predict(image)):
                try:
                    call()
                except swiftdet.UsedAfterFork as e:
                    print(e, flush=True)
            det.close()
            try:
                det(image)
            except swiftdet.UsedAfterFork:
                print("still", flush=True)
            del det
            sys.exit(7)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        engine.go.set()
        thread.join()
        print(same(det(image), expected))
        """
    ).splitlines()
    assert all(word in line for line in out[:3] for word in ADVICE), out
    assert out[3:] == ["still", "7", "True"]


@pytest.mark.parametrize("performance", ["latency", "throughput"])
def test_a_child_ends_well_though_openvino_was_at_work_at_the_fork(run, performance):
    """Ends by sys.exit, with everything that Python and the libraries tear down; and cannot make a detector, either."""
    out = run(
        """
        det = detector(performance=sys.argv[2])
        det(image)
        stop = threading.Event()
        def work():
            while not stop.is_set():
                det([image] * 2)
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(5):
            child = os.fork()
            if child == 0:
                for make in (lambda: det(image), detector):
                    try:
                        make()
                    except swiftdet.UsedAfterFork:
                        print("refused", flush=True)
                sys.exit(3)
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        stop.set()
        for thread in threads:
            thread.join()
        """,
        performance,
    ).split()
    assert out == ["refused", "refused", "3"] * 5


def test_multiprocessing_by_fork(run):
    """An inherited detector is refused; a child of a parent that has used none makes its own and works."""
    assert run(
        """
        import multiprocessing
        context = multiprocessing.get_context("fork")
        def child(queue, det):
            try:
                own = det or detector()
                queue.put(own(image).xyxy)
            except swiftdet.SwiftdetError as e:
                queue.put(type(e).__name__)
        def ask(det):
            queue = context.Queue()
            process = context.Process(target=child, args=(queue, det))
            process.start()
            answer = queue.get(timeout=60)
            process.join(60)
            return answer, process.exitcode
        answer, code = ask(None)
        det = detector()
        print(np.array_equal(answer, det(image).xyxy), code)
        print(*ask(det))
        other = detector("onnxruntime")
        other(image)
        print(*ask(other))
        """
    ).splitlines() == ["True 0", "UsedAfterFork 0", "UsedAfterFork 0"]


def test_multiprocessing_by_spawn_works_after_the_parent_has_detected(model, tmp_path):
    script = tmp_path / "spawned.py"
    script.write_text(
        "import multiprocessing, sys\n"
        "import numpy as np\n"
        "import swiftdet\n"
        "image = np.full((50, 60, 3), 90, np.uint8)\n"
        "def child(path):\n"
        "    with swiftdet.Detector(path, device='cpu', conf=0.0) as det:\n"
        "        return det(image).xyxy\n"
        "if __name__ == '__main__':\n"
        "    expected = child(sys.argv[1])\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
        "        print(np.array_equal(pool.apply(child, (sys.argv[1],)), expected))\n"
    )
    done = subprocess.run([sys.executable, script, model], capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


# --- the end of the process -----------------------------------------------------------------------------------------

AT_WORK = """
    det = detector(sys.argv[2], sessions=1, performance=sys.argv[3])
    det(image)
    def forever():
        while True:
            det([image] * int(sys.argv[4]))
    for _ in range(5):
        threading.Thread(target=forever, daemon=True).start()
    wait_for(lambda: sessions(det)[3] > 0)
"""


@pytest.mark.parametrize("count", [1, 5], ids=["single", "batch"])
@pytest.mark.parametrize(
    ("engine", "performance"), [("openvino", "latency"), ("openvino", "throughput"), ("onnxruntime", "latency")]
)
def test_the_interpreter_ends_well_while_daemon_threads_detect_and_wait(run, engine, performance, count):
    for _ in range(3):
        run(AT_WORK, engine, performance, count)


def test_who_waits_at_the_end_for_a_thread_that_detects_does_not_wait_for_ever(run):
    """A hook that was registered before swiftdet's runs after it, and joins the thread, which ends with an error."""
    assert run(
        """
        def forever():
            try:
                while True:
                    det(image)
            except swiftdet.DetectorClosed as e:
                ended.append(str(e))
        det, ended = detector(), []
        thread = threading.Thread(target=forever, daemon=True)
        thread.start()
        hooks += [thread.join, lambda: os.write(1, ended[0].encode())]
        """,
        before="import atexit\nhooks = []\natexit.register(lambda: [hook() for hook in hooks])\n",
    ).startswith("the interpreter is ending")


def test_an_engine_that_never_comes_back_does_not_hold_up_the_end_for_ever(run):
    run(
        """
        engine = SlowEngine()
        det = detector(engine, sessions=1)
        engine.go.clear()
        threading.Thread(target=det, args=(image,), daemon=True).start()
        engine.inside.acquire()
        """
    )
