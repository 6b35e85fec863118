"""Images that are on the GPU already: read where they are, after the work that makes them."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

import swiftdet
from conftest import assert_same, picture
from swiftdet.errors import BackendUnavailable, InvalidArgument

TO_DEVICE = 1


class DeviceArray:
    """A uint8 array in the stand-in's device memory, filled by work that waits on a stream of its own."""

    def __init__(self, cuda, pixels, *, pitch=None, device=0):
        self._runtime = runtime = cuda.library
        height, width = pixels.shape[:2]
        channels = pixels.shape[2] if pixels.ndim == 3 else 1
        pitch = pitch or width * channels
        staged = np.full((height, pitch), 0x55, np.uint8)
        staged[:, : width * channels] = pixels.reshape(height, -1)
        self._pointer, self._stream, self._host = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
        runtime.cudaSetDevice(device)
        assert runtime.cudaMalloc(ctypes.byref(self._pointer), ctypes.c_size_t(staged.size)) == 0
        assert runtime.cudaMallocHost(ctypes.byref(self._host), ctypes.c_size_t(staged.size)) == 0
        assert runtime.cudaStreamCreateWithFlags(ctypes.byref(self._stream), 1) == 0
        ctypes.memmove(self._host.value, staged.ctypes.data, staged.size)
        copy = runtime.cudaMemcpyAsync
        copy.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p]
        assert copy(self._pointer.value, self._host.value, staged.size, TO_DEVICE, self._stream.value) == 0
        runtime.cudaSetDevice(0)
        self.__cuda_array_interface__ = {
            "shape": pixels.shape,
            "typestr": "|u1",
            "data": (self._pointer.value, False),
            "strides": (pitch, channels, 1)[: pixels.ndim],
            "stream": self._stream.value,
            "version": 3,
        }

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for release, handle in (
            ("cudaStreamDestroy", self._stream),
            ("cudaFreeHost", self._host),
            ("cudaFree", self._pointer),
        ):
            assert self._runtime[release](handle) == 0


@pytest.mark.parametrize(
    ("shape", "pitch"),
    [((70, 90, 3), None), ((70, 90, 3), 512), ((33, 41, 4), None), ((20, 31), 64), ((1, 1, 3), None)],
)
def test_equal_to_the_same_pixels_on_the_host(cuda, columns_plan, shape, pitch):
    pixels = picture(*shape[:2], 3, channels=shape[2] if len(shape) == 3 else 1).reshape(shape)
    with swiftdet.Detector(columns_plan, device="cuda", conf=0.05) as gpu:
        expected = gpu(pixels)
        for color in ("bgr", "rgb"):
            with DeviceArray(cuda, pixels, pitch=pitch) as array:
                assert_same(gpu(array, color=color), gpu(pixels, color=color))
        with DeviceArray(cuda, pixels) as array:
            mixed = gpu([pixels, array, pixels])
            for result in mixed:
                assert_same(result, expected)
    assert len(expected) > 0


def test_pixels_are_not_copied(cuda, columns_plan):
    pixels = picture(600, 800)
    with swiftdet.Detector(columns_plan, device="cuda") as gpu, DeviceArray(cuda, pixels) as array:
        gpu(array)
        gpu(array)
        cuda.clear_log()
        gpu(array)
        (copied,) = [line for line in cuda.log() if line.startswith("cudaMemcpyAsync HostToDevice")]
        assert int(copied.split()[-1]) < 4096  # descriptions and thresholds alone
        assert "cudaStreamWaitEvent" in cuda.log()


def test_an_array_elsewhere_is_refused(cuda, columns_plan):
    class Nowhere:
        __cuda_array_interface__ = {"shape": (4, 5, 3), "typestr": "|u1", "data": (0x7000, False), "version": 3}  # noqa: RUF012

    pixels = picture(20, 20)
    with swiftdet.Detector(columns_plan, device="cuda:0") as gpu:
        with DeviceArray(cuda, pixels, device=1) as array:
            with pytest.raises(InvalidArgument, match=r"memory of cuda:1, the detector runs on cuda:0"):
                gpu(array)
            cuda.library.cudaSetDevice(1)  # where its stream and memory are released
        cuda.library.cudaSetDevice(0)
        with pytest.raises(InvalidArgument, match="no GPU"):
            gpu(Nowhere())


def test_drawing_needs_the_host(cuda, columns_plan):
    with swiftdet.Detector(columns_plan, device="cuda") as gpu, DeviceArray(cuda, picture(20, 20)) as array:
        result = gpu(array)
        assert result.orig_shape == (20, 20)
        with pytest.raises(BackendUnavailable, match="GPU memory"):
            result.plot()
