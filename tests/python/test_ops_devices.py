"""Where swiftdet.ops runs; what its kernels compute is proven in tests/gpusim/python/test_operations.py."""

from __future__ import annotations

import types

import numpy as np
import pytest

from swiftdet import cuda_devices, device_policy, ops
from swiftdet.cuda_devices import CudaDevice, CudaDriver
from swiftdet.engines.tensorrt import library, running
from swiftdet.errors import BackendUnavailable, InvalidArgument
from swiftdet.spec import Head

IMAGE = np.zeros((8, 8, 3), np.uint8)
BOXES = np.array([[0, 0, 10, 10], [1, 1, 10, 10]], np.float32)
SCORES = np.array([0.5, 0.75], np.float32)
HEAD = Head(layout="rows", num_classes=1, outputs=("o",))
OPERATIONS = {
    "resize": lambda device: ops.resize(IMAGE, (4, 4), device=device),
    "letterbox": lambda device: ops.letterbox(IMAGE, (4, 4), device=device),
    "nms": lambda device: ops.nms(BOXES, SCORES, np.zeros(2, np.int32), 0.5, device=device),
    "decode": lambda device: ops.decode([np.zeros((1, 2, 5), np.float32)], HEAD, 0.5, device=device),
}
T4 = CudaDevice(0, "NVIDIA T4", (7, 5), 16 << 30)


@pytest.fixture(params=OPERATIONS)
def operation(request):
    return OPERATIONS[request.param]


@pytest.fixture
def host(monkeypatch):
    """What there is of a GPU; `host.asked` counts the questions to the driver."""
    state = types.SimpleNamespace(driver=CudaDriver((13, 0), "580.65.06", (T4,)), cuda=True, asked=0)

    def ask():
        state.asked += 1
        if state.driver is None:
            raise BackendUnavailable("no NVIDIA driver: libcuda.so.1 is not there")
        return state.driver

    monkeypatch.setattr(cuda_devices, "driver", ask)
    monkeypatch.setattr(running, "visible_gpus", ask)
    monkeypatch.setattr(library, "has_cuda_part", lambda: state.cuda)
    device_policy.kernels.cache_clear()
    yield state
    device_policy.kernels.cache_clear()


@pytest.mark.parametrize(
    ("device", "missing", "words"),
    [
        ("cuda", {"driver": None}, r"device 'cuda:0': no NVIDIA driver.*; install NVIDIA"),
        ("cuda", {"driver": None, "cuda": False}, r"device 'cuda:0': no NVIDIA driver"),
        ("cuda:0", {"cuda": False}, r"device 'cuda:0': this installation was built without CUDA; "),
        ("cuda:1", {}, r"device 'cuda:1': .*no GPU cuda:1.*nvidia-smi"),
        ("cuda", {"driver": CudaDriver((13, 0), "", ())}, r"device 'cuda:0': .*no GPU cuda:0"),
    ],
)
def test_what_is_missing_is_told_and_nothing_falls_back(host, operation, device, missing, words):
    for name, value in missing.items():
        setattr(host, name, value)
    for _ in range(2):  # a refusal is not remembered as an answer
        asked = host.asked
        with pytest.raises(BackendUnavailable, match=words + r".*device='cpu' gives the same values"):
            operation(device)
        assert host.asked > asked


@pytest.mark.parametrize("device", ["tpu", "gpu", "auto", "cuda:", "cuda:x", "cuda:-1", "CPU", "", 0, None])
def test_what_is_no_device(host, operation, device):
    with pytest.raises(InvalidArgument, match="device: expected 'cpu', 'cuda' or 'cuda:N'"):
        operation(device)
    assert host.asked == 0


def test_the_cpu_asks_nobody(host, operation):
    operation("cpu")
    assert host.asked == 0


def test_the_compiled_half_gets_the_index_and_is_looked_for_once(host, monkeypatch):
    host.driver = CudaDriver((13, 0), "", (T4, CudaDevice(1, "NVIDIA A10", (8, 6), 24 << 30)))
    calls = []

    def nms(*_, gpu, **options):
        calls.append((gpu, options))
        return np.array([1])

    monkeypatch.setattr(running, "cuda_part", lambda: types.SimpleNamespace(nms=nms))
    for device in ("cuda", "cuda:0", "cuda:1"):
        assert OPERATIONS["nms"](device).tolist() == [1]
    options = {"iou_threshold": 0.5, "class_agnostic": False, "max_det": -1}
    assert calls == [(0, options), (0, options), (1, options)]
    asked = host.asked
    OPERATIONS["nms"]("cuda:1")
    assert host.asked == asked
