"""Which calls of CUDA a detection makes."""

from __future__ import annotations

import logging

import pytest

import swiftdet
from conftest import assert_same, picture

WARM_CALL = ["cudaMemcpyAsync HostToDevice", "cudaGraphLaunch", "cudaMemcpyAsync DeviceToHost", "cudaStreamSynchronize"]


def work(log):
    """The log without the questions which device is current, and without sizes."""
    return [line.rstrip("0123456789 ") for line in log if not line.startswith("cudaGetDevice")]


def test_a_warm_call_is_copy_graph_copy_wait(cuda, columns_plan):
    with swiftdet.Detector(columns_plan, device="cuda") as gpu:
        gpu(picture(80, 80))
        for seed in range(3):
            cuda.clear_log()
            gpu(picture(80, 80, seed), conf=0.1 * (seed + 1))
            assert work(cuda.log()) == WARM_CALL
        cuda.clear_log()
        gpu([picture(20 + i, 30, i) for i in range(4)])
        cuda.clear_log()
        gpu([picture(40, 30 + i, i) for i in range(4)])  # a batch is one run too
        assert work(cuda.log()) == WARM_CALL


def test_the_network_runs_once_before_it_is_captured(cuda, tensorrt, columns_plan):
    with swiftdet.Detector(columns_plan, device="cuda") as gpu:
        before = tensorrt.enqueues()
        gpu(picture(80, 80))
        assert tensorrt.enqueues() - before == 2  # once to set itself up, once into the graph
        log = cuda.log()
        assert log.index("enqueue network") < log.index("cudaStreamBeginCapture")
        for seed in range(3):
            gpu(picture(80, 80, seed))
        assert tensorrt.enqueues() - before == 2


def test_buffers_grow_once_and_stay(cuda, columns_plan):
    with swiftdet.Detector(columns_plan, device="cuda") as gpu:
        gpu(picture(50, 50))
        cuda.clear_log()
        gpu(picture(900, 1200))  # over the first step of a MiB
        grown = cuda.log()
        assert any(line.startswith("cudaMalloc ") for line in grown)
        assert sum(line == "cudaStreamBeginCapture" for line in grown) == 1
        cuda.clear_log()
        gpu(picture(50, 50))
        gpu(picture(900, 1200, 1))
        assert work(cuda.log()) == 2 * WARM_CALL
        gpu(picture(50, 50), max_det=2000)
        cuda.clear_log()
        gpu(picture(50, 50), max_det=17)
        assert work(cuda.log()) == WARM_CALL


TIMED_CALL = [
    "cudaEventRecord",
    "cudaMemcpyAsync HostToDevice",
    "cudaEventRecord",
    "cudaGraphLaunch",
    "cudaMemcpyAsync DeviceToHost",
    "cudaEventRecord",
    "cudaStreamSynchronize",
    *5 * ["cudaEventElapsedTime"],
]
STAGES = ["pack", "copy_in", "preprocess", "inference", "postprocess", "copy_out", "unpack"]


def test_stages_are_timed_on_request(cuda, columns_plan):
    """Three marks around the copies, three in the graph; a call that is not timed knows nothing of them."""
    with swiftdet.Detector(columns_plan, device="cuda", conf=0.05) as gpu:
        plain = gpu(picture(80, 80))
        assert not any(line.startswith("cudaEvent") for line in cuda.log())
        first = gpu(picture(80, 80), timed=True)
        for _ in range(2):  # each form has a graph of its own, which stays
            cuda.clear_log()
            timed = gpu(picture(80, 80), timed=True)
            assert [line for line in work(cuda.log()) if line != "cudaStreamIsCapturing"] == TIMED_CALL
            assert list(timed.speed) == STAGES
            assert all(time > 0 for time in timed.speed.values())
            cuda.clear_log()
            again = gpu(picture(80, 80), timed=False)
            assert work(cuda.log()) == WARM_CALL
            assert list(again.speed) == ["preprocess", "inference", "postprocess"]
            for other in (first, timed, again):
                assert_same(other, plain)


def test_marks_stay_in_order_through_batches_and_growing_buffers(cuda, columns_plan):
    with swiftdet.Detector(columns_plan, device="cuda", max_batch=2) as gpu:
        for side in (40, 900):  # the second is over the first step of a MiB: both graphs are captured anew
            images = [picture(side, side + i, i) for i in range(3)]
            plain, timed = gpu(images), gpu(images, timed=True)
            for a, b in zip(plain, timed, strict=True):
                assert_same(a, b)
            assert all(list(result.speed) == STAGES and min(result.speed.values()) > 0 for result in timed)
            assert timed[0].speed["copy_in"] == timed[1].speed["copy_in"]  # shares of one run
            assert timed[0].speed["copy_in"] != timed[2].speed["copy_in"]


def test_a_network_that_refuses_capture_is_timed_too(cuda, read_model, write_plan):
    loaded = read_model("ultralytics-columns")
    with swiftdet.Detector(write_plan(loaded, captures=False), device="cuda") as gpu:
        for _ in range(2):
            timed = gpu(picture(70, 90), timed=True)
        assert list(timed.speed) == STAGES
        assert all(time > 0 for time in timed.speed.values())
        assert list(gpu(picture(70, 90)).speed) == ["preprocess", "inference", "postprocess"]


def test_a_network_that_refuses_capture_runs_uncaptured_and_says_so(cuda, read_model, write_plan, caplog):
    loaded = read_model("ultralytics-columns")
    with (
        caplog.at_level(logging.WARNING, "swiftdet"),
        swiftdet.Detector(loaded.path, device="cpu") as cpu,
        swiftdet.Detector(write_plan(loaded, captures=False), device="cuda") as gpu,
    ):
        for seed in range(3):
            image = picture(70, 90, seed)
            assert_same(gpu(image, conf=0.05), cpu(image, conf=0.05))
        cuda.clear_log()
        gpu(picture(70, 90))
        calls = work(cuda.log())
        assert "cudaGraphLaunch" not in calls
        assert "enqueue network" in calls
        assert not any(line.startswith(("cudaMalloc", "cudaStreamBeginCapture")) for line in calls)
    said = [record.getMessage() for record in caplog.records if "graph" in record.getMessage()]
    assert len(said) == 1, caplog.text
    assert "enqueueV3" in said[0]


def test_memory_is_read_only_by_its_device(cuda, in_new_process, columns_plan):
    """The stand-in itself: a host that follows a device pointer must fault, or the other tests prove little."""
    status, _, _ = in_new_process(
        "import ctypes\n"
        "runtime = ctypes.CDLL(None)\n"
        "pointer = ctypes.c_void_p()\n"
        "assert runtime.cudaMalloc(ctypes.byref(pointer), ctypes.c_size_t(64)) == 0\n"
        "ctypes.string_at(pointer.value, 1)\n"
    )
    assert status == -11


def test_copies_outside_an_allocation_are_refused(cuda):
    import ctypes

    runtime, pointer, stream = cuda.library, ctypes.c_void_p(), ctypes.c_void_p()
    assert runtime.cudaMalloc(ctypes.byref(pointer), ctypes.c_size_t(64)) == 0
    assert runtime.cudaStreamCreateWithFlags(ctypes.byref(stream), 1) == 0
    source = (ctypes.c_char * 128)()
    copy = runtime.cudaMemcpyAsync
    copy.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p]
    assert copy(pointer.value, ctypes.addressof(source), 64, 1, stream.value) == 0
    assert copy(pointer.value, ctypes.addressof(source), 65, 1, stream.value) == 1
    assert copy(ctypes.addressof(source), pointer.value + 1, 64, 2, stream.value) == 1
    assert copy(ctypes.addressof(source), ctypes.addressof(source), 64, 1, stream.value) == 1
    assert copy(pointer.value, ctypes.addressof(source), 64, 1, None) == 400  # the default stream is nobody's
    assert runtime.cudaStreamDestroy(stream) == 0
    assert runtime.cudaFree(pointer) == 0


@pytest.mark.parametrize("eager", [0, 1])
def test_fresh_memory_is_not_zero_and_lazy_streams_wait(cuda, eager):
    import ctypes

    runtime, pointer, stream, host = cuda.library, ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
    runtime.gpusim_set_eager(eager)
    try:
        assert runtime.cudaMalloc(ctypes.byref(pointer), ctypes.c_size_t(4)) == 0
        assert runtime.cudaMallocHost(ctypes.byref(host), ctypes.c_size_t(4)) == 0
        assert runtime.cudaStreamCreateWithFlags(ctypes.byref(stream), 1) == 0
        runtime.cudaMemsetAsync.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t, ctypes.c_void_p]
        copy = runtime.cudaMemcpyAsync
        copy.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p]
        assert copy(host.value, pointer.value, 4, 2, stream.value) == 0
        assert runtime.cudaStreamSynchronize(stream) == 0
        assert ctypes.string_at(host.value, 4) == b"\xcd" * 4
        assert runtime.cudaMemsetAsync(pointer.value, 7, 4, stream.value) == 0
        assert copy(host.value, pointer.value, 4, 2, stream.value) == 0
        assert ctypes.string_at(host.value, 4) == (b"\x07" if eager else b"\xcd") * 4
        assert runtime.cudaStreamSynchronize(stream) == 0
        assert ctypes.string_at(host.value, 4) == b"\x07" * 4
    finally:
        runtime.gpusim_set_eager(0)
        runtime.cudaStreamDestroy(stream)
        runtime.cudaFreeHost(host)
        runtime.cudaFree(pointer)
