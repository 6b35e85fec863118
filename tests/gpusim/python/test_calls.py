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


def test_stages_are_timed_on_request(cuda, columns_plan):
    from swiftdet import _core
    from swiftdet.engines.tensorrt import running
    from swiftdet.engines.tensorrt.plan_files import read_plan

    plan = read_plan(columns_plan)
    spec = plan.manifest.spec
    preprocess = {name: value for name, value in vars(spec.preprocess).items() if name != "channel_order"}
    timed = running.cuda_part().Detector(
        running.open_engine(plan, 0),
        _core.Preprocess(**preprocess),
        _core.HeadSpec(**vars(spec.head)),
        spec.imgsz,
        stage_times=True,
    )
    options = {"conf": 0.05, "iou": 0.7, "max_det": 300, "class_agnostic": False, "multi_label": False, "classes": None}
    for _ in range(2):
        cuda.clear_log()
        ((_, conf, _, _, times),) = timed.detect([(picture(80, 80), False)], **options)
    assert len(conf) > 0
    assert all(time > 0 for time in times)
    assert sum(line == "cudaEventElapsedTime" for line in cuda.log()) == 3
    assert work(cuda.log())[-4:] == ["cudaStreamSynchronize", *3 * ["cudaEventElapsedTime"]]


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
