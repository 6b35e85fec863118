"""Two GPUs: everything happens on the one that was asked for, whatever the calling thread had chosen."""

from __future__ import annotations

import ctypes
import threading

import pytest

import swiftdet
from conftest import assert_same, picture
from swiftdet.errors import BackendUnavailable


def current(cuda):
    device = ctypes.c_int(-1)
    assert cuda.library.cudaGetDevice(ctypes.byref(device)) == 0
    return device.value


def test_each_detector_stays_on_its_device(cuda, columns_plan):
    image = picture(60, 90)
    assert current(cuda) == 0
    with (
        swiftdet.Detector(columns_plan, device="cuda:1") as second,
        swiftdet.Detector(columns_plan, device="cuda:0") as first,
    ):
        assert (first.device, second.device) == ("cuda:0", "cuda:1")
        cuda.clear_log()
        result = second(image, conf=0.05)
        assert current(cuda) == 0  # restored
        made = [line for line in cuda.live() if "device 1" in line]
        assert made
        assert not any("device 0" in line for line in cuda.live())
        assert_same(first(image, conf=0.05), result)
        assert_same(second(image, conf=0.05), result)


@pytest.mark.parametrize("chosen", [0, 1])
def test_a_thread_that_chose_another_device(cuda, columns_plan, chosen):
    image = picture(60, 90)
    with swiftdet.Detector(columns_plan, device="cuda:0") as gpu:
        expected = gpu(image, conf=0.05)
        found = []

        def work():
            cuda.library.cudaSetDevice(chosen)
            found.append(gpu(image, conf=0.05))
            found.append(current(cuda))

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert_same(found[0], expected)
        assert found[1] == chosen


def test_a_detector_dies_on_its_own_device(cuda, columns_plan):
    """Closed by a thread whose current device is another one; the fixture sees that nothing is left."""
    gpu = swiftdet.Detector(columns_plan, device="cuda:1")
    gpu(picture(20, 20))
    cuda.clear_log()
    gpu.close()
    del gpu
    assert any(line == "cudaSetDevice 1" for line in cuda.log())
    assert current(cuda) == 0


def test_a_device_that_is_not_there(cuda, columns_plan):
    with pytest.raises(BackendUnavailable, match=r"cuda:2"):
        swiftdet.Detector(columns_plan, device="cuda:2")
