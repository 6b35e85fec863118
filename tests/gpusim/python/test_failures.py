"""Every call of CUDA and of TensorRT may fail: the error has a type, nothing is left behind, the process goes on."""

from __future__ import annotations

import gc
import itertools
import os
import statistics
from pathlib import Path

import numpy as np
import pytest

import swiftdet
from conftest import assert_same, picture
from stand_ins import ILLEGAL_ADDRESS, INVALID_VALUE, LAUNCH_FAILURE, OUT_OF_MEMORY
from swiftdet.errors import BackendError, BackendUnavailable, CudaError, ModelError, OutOfMemory

TYPED = (BackendError, BackendUnavailable, CudaError, ModelError, OutOfMemory)
IMAGE = picture(60, 90)


@pytest.fixture(scope="module")
def expected(columns_plan):
    with swiftdet.Detector(columns_plan, device="cuda") as gpu:
        return gpu(IMAGE, conf=0.05)


def life(plan, errors, **options):
    """Opens a detector, calls it twice, closes it; collects what is raised. The result of the last call, or None."""
    result = None
    try:
        with swiftdet.Detector(plan, device="cuda") as gpu:
            for _ in range(2):
                try:
                    result = gpu(IMAGE, conf=0.05, **options)
                except swiftdet.SwiftdetError as e:
                    errors.append(e.with_traceback(None))  # whose frames would keep the pipeline
                    result = None
    except swiftdet.SwiftdetError as e:
        errors.append(e.with_traceback(None))  # whose frames would keep the pipeline
    return result


@pytest.mark.parametrize(("error", "timed"), [(INVALID_VALUE, False), (OUT_OF_MEMORY, False), (INVALID_VALUE, True)])
def test_every_call_of_cuda_fails_once(cuda, columns_plan, expected, error, timed):
    cuda.clear_log()
    life(columns_plan, [], timed=timed)
    total = cuda.calls()
    assert total > 50
    before = sorted(cuda.live())
    raised = 0
    for nth in range(1, total + 1):
        cuda.heal()
        cuda.clear_log()
        cuda.fail(nth, error)
        errors = []
        result = life(columns_plan, errors, timed=timed)
        assert cuda.failed(), nth
        assert all(type(e) in TYPED for e in errors), (nth, errors)
        assert len(errors) <= 1, (nth, errors)  # one failure, one error: the call after it works
        raised += len(errors)
        if result is not None:
            assert_same(result, expected)
        assert sorted(cuda.live()) == before, nth
    assert raised > total // 4  # the others were in destructors, or only asked something


@pytest.mark.skipif("asan" in os.environ["LD_PRELOAD"], reason="AddressSanitizer keeps what is freed, on purpose")
@pytest.mark.parametrize("leak", [0, 65536], ids=["", "and a leak is seen"])
def test_failures_leave_no_memory(cuda, columns_plan, leak):
    """Resident memory and Python's objects after round upon round of failures: the median of the slopes, per life.

    What a failing cudaFree was to free stays, here as on a GPU: those calls are left out.
    """
    cuda.clear_log()
    life(columns_plan, [])
    names = {line.split()[0] for line in cuda.log() if line.startswith("cuda") and not line.startswith("cudaFree")}
    assert len(names) > 10
    kept, memory, objects = [], [], []
    for turn in range(12):
        for name in names:
            cuda.heal()
            cuda.clear_log()
            cuda.fail(1 + turn % 2, OUT_OF_MEMORY, name=name)
            life(columns_plan, [])
            kept.append(np.ones(leak, np.uint8))
        cuda.heal()
        if turn >= 4:  # caches are full by then
            gc.collect()
            cuda.library.malloc_trim(0)
            memory.append(int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
            objects.append(len(gc.get_objects()))
    growth = slope(memory) / len(names)
    assert (growth > 8192) == (leak > 0), memory
    assert slope(objects) < len(names) / 2, objects  # pytest keeps what is logged


def slope(readings):
    """Median over all pairs of readings, per round."""
    pairs = itertools.combinations(enumerate(readings), 2)
    return statistics.median((b - a) / (j - i) for (i, a), (j, b) in pairs)


def test_memory_errors_say_how_much_was_asked_for(cuda, columns_plan):
    cuda.fail(1, OUT_OF_MEMORY, name="cudaMalloc")
    with swiftdet.Detector(columns_plan, device="cuda") as gpu:
        with pytest.raises((OutOfMemory, BackendError)):
            gpu(IMAGE)
        cuda.fail(2, OUT_OF_MEMORY, name="cudaMallocHost")
        with pytest.raises(MemoryError, match=r"cudaMallocHost.*asked for \d+ bytes"):
            gpu(IMAGE)
        gpu(IMAGE)


def test_every_call_of_tensorrt_fails_once(cuda, tensorrt, columns_plan, expected):
    tensorrt.fail(0)
    life(columns_plan, [])
    total = tensorrt.calls()
    live = tensorrt.live()
    assert total >= 5
    for nth in range(1, total + 1):
        tensorrt.fail(nth)
        errors = []
        result = life(columns_plan, errors)
        assert tensorrt.failed(), nth
        assert all(type(e) in TYPED for e in errors), (nth, errors)
        assert all("injected failure" in str(e) for e in errors), errors  # TensorRT's own words
        if result is not None:
            assert_same(result, expected)
        assert tensorrt.live() == live
    tensorrt.fail(0)


@pytest.mark.parametrize("error", [ILLEGAL_ADDRESS, LAUNCH_FAILURE])
def test_a_lost_device_marks_the_detector_dead(cuda, columns_plan, expected, error):
    with swiftdet.Detector(columns_plan, device="cuda") as gpu:
        gpu(IMAGE)
        cuda.fail_work(2, error, sticky=True)
        with pytest.raises(CudaError, match="restart"):
            gpu(IMAGE)
        assert cuda.failed()
        cuda.clear_log()
        for _ in range(2):
            with pytest.raises(CudaError, match=r"dead.*: cuda[A-Z]"):
                gpu(IMAGE)
        assert cuda.log() == []  # the device is not asked again
        cuda.heal()  # as a new process would find it; this detector stays dead
        with pytest.raises(CudaError, match="dead"):
            gpu(IMAGE)
    with swiftdet.Detector(columns_plan, device="cuda") as gpu:
        assert_same(gpu(IMAGE, conf=0.05), expected)


def test_every_call_meets_a_lost_device(cuda, columns_plan, expected):
    cuda.clear_log()
    life(columns_plan, [])
    before = sorted(cuda.live())
    total = cuda.calls()
    for nth in range(1, total + 1):
        cuda.heal()
        cuda.clear_log()
        cuda.fail(nth, ILLEGAL_ADDRESS, sticky=True)
        errors = []
        life(columns_plan, errors)
        assert all(type(e) in TYPED for e in errors), (nth, errors)
        assert sorted(cuda.live()) == before, nth
    cuda.heal()
    errors = []
    assert_same(life(columns_plan, errors), expected)
    assert errors == []


def test_work_that_fails_is_an_error_of_its_call_alone(cuda, columns_plan, expected):
    with swiftdet.Detector(columns_plan, device="cuda") as gpu:
        gpu(IMAGE)
        for nth in range(1, 5):
            cuda.fail_work(nth, INVALID_VALUE)
            with pytest.raises(CudaError, match="cudaStreamSynchronize"):
                gpu(IMAGE, conf=0.05)
            assert_same(gpu(IMAGE, conf=0.05), expected)
