"""One detector on a GPU, many threads; how many sessions it allows; close, Ctrl-C and fork."""

from __future__ import annotations

import threading

import pytest

import sharing
import swiftdet
from conftest import picture
from stand_ins import INVALID_VALUE, OUT_OF_MEMORY
from swiftdet.errors import BackendError, CudaError, OutOfMemory

CLASSES = 3


def pipeline_of(detector):
    return detector._pipelines["fixed"]


@pytest.fixture(scope="module")
def twins(columns_plan):
    pictures, kinds = sharing.images(), sharing.options(CLASSES)
    with swiftdet.Detector(columns_plan, device="cuda", sessions=1) as detector:
        return sharing.serial_twins(detector, pictures, kinds)


@pytest.mark.parametrize("sessions", [None, 3])
def test_sixteen_threads_with_mixed_calls(cuda, columns_plan, twins, capsys, sessions):
    with swiftdet.Detector(columns_plan, device="cuda", sessions=sessions) as detector:
        calls = sharing.wanted_calls(1000)
        outcome = sharing.hammer(detector, sharing.images(), sharing.options(CLASSES), twins, calls)
        with capsys.disabled():
            print(f"\n{sharing.THREADS} threads: {outcome}")  # noqa: T201 - a proof shows its figures
        assert (outcome.calls, outcome.crossings) == (calls, 0)
        limit, made, idle, waiting = pipeline_of(detector).sessions
        assert (idle, waiting) == (made, 0)
        assert made <= limit


def test_failures_among_sixteen_threads_cross_nothing(cuda, columns_plan, twins):
    """Some calls fail, with errors of their own; the others get what is theirs, and no session is lost."""
    with swiftdet.Detector(columns_plan, device="cuda", sessions=3) as detector:
        stop = threading.Event()

        def disturb():
            nth = 0
            while not stop.wait(0.01):
                nth += 1
                cuda.fail(1 + nth % 7, [INVALID_VALUE, OUT_OF_MEMORY][nth % 2])

        thread = threading.Thread(target=disturb)
        thread.start()
        try:
            outcome = sharing.hammer(
                detector,
                sharing.images(),
                sharing.options(CLASSES),
                twins,
                sharing.wanted_calls(1000),
                tolerated=(BackendError, CudaError, OutOfMemory),
            )
        finally:
            stop.set()
            thread.join()
            cuda.heal()
            cuda.fail(0, 0)
        assert outcome.failures > 0
        assert outcome.crossings == 0
        _, made, idle, waiting = pipeline_of(detector).sessions
        assert (idle, waiting) == (made, 0)


@pytest.mark.parametrize(("context_bytes", "limit"), [(0, 8), (2 << 30, 3), (7 << 30, 1), (40 << 30, 1)])
def test_as_many_sessions_as_fit_in_half_of_the_free_memory(cuda, tensorrt, columns_plan, context_bytes, limit):
    """The stand-in device has 16 GiB: contexts of 2 GiB and their buffers fit three times in half of it."""
    tensorrt.set_context_bytes(context_bytes)
    try:
        with swiftdet.Detector(columns_plan, device="cuda") as detector:
            assert pipeline_of(detector).sessions[:2] == (limit, 0)
            detector(picture(40, 50))
            assert pipeline_of(detector).sessions[1:] == (1, 1, 0)
        with swiftdet.Detector(columns_plan, device="cuda", sessions=5) as detector:
            assert pipeline_of(detector).sessions[0] == 5
    finally:
        tensorrt.set_context_bytes(0)


def test_closing_while_threads_detect(cuda, columns_plan, twins):
    """A call either gives what it gives alone, or says that the detector is closed."""
    detector = swiftdet.Detector(columns_plan, device="cuda", sessions=1)
    pictures, kinds = sharing.images(), sharing.options(CLASSES)
    detector(pictures[0])
    closer = threading.Timer(0.1, detector.close)
    closer.start()
    outcome = sharing.hammer(detector, pictures, kinds, twins, 20000, tolerated=(swiftdet.DetectorClosed,))
    closer.join()
    assert outcome.crossings == 0
    assert 0 < outcome.failures < outcome.calls


FORKED = """
import os, signal, sys, threading
import numpy as np
signal.alarm(60)
os.register_at_fork(after_in_child=lambda: signal.alarm(20))
image = np.full((50, 70, 3), 90, np.uint8)
det = swiftdet.Detector({plan!r}, device="cuda", sessions=1)
expected = det(image).xyxy
stop = threading.Event()
def work():
    while not stop.is_set():
        det([image] * 3)
threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads:
    thread.start()
for _ in range(3):
    child = os.fork()
    if child == 0:
        for call in (lambda: det(image), lambda: det([image] * 20), lambda: swiftdet.Detector({plan!r}, device="cuda")):
            try:
                call()
            except swiftdet.UsedAfterFork as e:
                print("refused", "spawn" in str(e), flush=True)
        det.close()
        del det
        sys.exit(3)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
stop.set()
for thread in threads:
    thread.join()
print(np.array_equal(det(image).xyxy, expected))
"""


def test_a_forked_child_is_refused_and_ends_well(in_new_process, columns_plan):
    status, out, err = in_new_process(FORKED.format(plan=str(columns_plan)))
    assert (status, err) == (0, ""), out + err
    assert out.splitlines() == ["refused True"] * 3 + ["3"] + (["refused True"] * 3 + ["3"]) * 2 + ["True"]


AT_WORK = """
import os, signal, threading, time
import numpy as np
signal.alarm(60)
image = np.full((50, 70, 3), 90, np.uint8)
det = swiftdet.Detector({plan!r}, device="cuda", sessions=1)
det(image)
def forever():
    while True:
        det([image] * 11)
for _ in range(4):
    threading.Thread(target=forever, daemon=True).start()
while det._pipelines["fixed"].sessions[3] == 0:
    time.sleep(0.002)
"""


def test_the_interpreter_ends_well_while_daemon_threads_detect_and_wait(in_new_process, columns_plan):
    for _ in range(3):
        assert in_new_process(AT_WORK.format(plan=str(columns_plan))) == (0, "", "")


def test_ctrl_c_ends_a_call_that_waits(in_new_process, columns_plan):
    code = AT_WORK + (
        "def interrupt():\n"
        "    time.sleep(0.2)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "threading.Thread(target=interrupt).start()\n"
        "try:\n"
        "    while True: det([image] * 50)\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted', len(det(image).xyxy) >= 0)\n"
    )
    assert in_new_process(code.format(plan=str(columns_plan)))[:2] == (0, "interrupted True\n")
