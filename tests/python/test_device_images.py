"""Descriptions of arrays in GPU memory: only their interface is read, so no GPU is needed to tell right from wrong."""

from __future__ import annotations

import numpy as np
import pytest

from dlpack_producer import OldProducer, Producer
from swiftdet import device_images, images
from swiftdet.errors import BackendUnavailable, InvalidArgument, InvalidType


def on_gpu(**changes):
    class Array:
        __cuda_array_interface__ = {  # noqa: RUF012
            "shape": (4, 5, 3),
            "typestr": "|u1",
            "data": (0x7000, False),
            "strides": None,
            "version": 3,
            **changes,
        }

    return Array()


def test_a_packed_array():
    source = on_gpu(stream=7)
    image = device_images.describe(source, "rgb")
    assert device_images.is_on_device(source)
    assert not device_images.is_on_device(np.zeros(1))
    assert image.owner is source
    assert (image.pointer, image.size, image.channels, image.row_stride) == (0x7000, (4, 5), 3, 15)
    assert (image.stream, image.order, image.path, image.note) == (7, "rgb", None, None)
    with pytest.raises(BackendUnavailable, match="GPU memory"):
        image.bgr()


@pytest.mark.parametrize(
    ("changes", "channels", "row_stride"),
    [
        ({"shape": (4, 5)}, 1, 5),
        ({"shape": (4, 5, 1)}, 1, 5),
        ({"shape": (4, 5, 4)}, 4, 20),
        ({"strides": (32, 3, 1)}, 3, 32),
        ({"shape": (4, 5), "strides": (8, 1)}, 1, 8),
        ({"stream": None}, 3, 15),
        ({"shape": (1, 5, 3), "strides": (1, 3, 1)}, 3, 15),  # PyTorch's stride of an axis of length 1
        ({"shape": (4, 1, 3), "strides": (3, 1, 1)}, 3, 3),
        ({"shape": (4, 5, 1), "strides": (8, 1, 7)}, 1, 8),
    ],
)
def test_what_is_accepted(changes, channels, row_stride):
    image = device_images.describe(on_gpu(**changes), "bgr")
    assert (image.channels, image.row_stride, image.stream) == (channels, row_stride, None)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"typestr": "<f4"}, InvalidType, "expected uint8"),
        ({"shape": (3, 4, 5)}, InvalidArgument, "permute"),
        ({"shape": (4, 5, 2)}, InvalidArgument, r"got \[4, 5, 2\]"),
        ({"shape": (5,)}, InvalidArgument, r"got \[5\]"),
        ({"shape": (0, 5, 3)}, InvalidArgument, "1 to 65535"),
        ({"strides": (-15, 3, 1)}, InvalidArgument, "ascending order"),
        ({"strides": (15, -3, 1)}, InvalidArgument, "back to back"),
        ({"strides": (30, 6, 1)}, InvalidArgument, "back to back"),
        ({"shape": (4, 5, 1), "strides": (15, 3, 1)}, InvalidArgument, "back to back"),
        ({"strides": (14, 3, 1)}, InvalidArgument, "ascending order"),
        ({"data": (0, False)}, InvalidArgument, "null"),
        ({"stream": 0}, InvalidArgument, "ambiguous"),
    ],
)
def test_what_is_refused(changes, error, words):
    with pytest.raises(error, match=words):
        device_images.describe(on_gpu(**changes), "bgr")


class Loan:
    """A stream, or a tensor as the compiled half describes it; tells how often it was released."""

    def __init__(self, **values):
        self.released = 0
        vars(self).update({"handle": 0x51, **values})

    def release(self):
        self.released += 1


def tensor(**changes):
    values = {"device": (2, 0), "dtype": (1, 8, 1), "shape": (4, 5, 3), "strides": None, "pointer": 0x7000, **changes}
    return Loan(**values)


def borrow(source, taken, stream, device=0):
    return device_images.borrow(source, "rgb", device=device, lend_stream=lambda _: stream, take=lambda _: taken)


@pytest.mark.parametrize("kind", [Producer, OldProducer])
def test_a_tensor_is_asked_for_with_our_stream_and_given_back_once(kind):
    source, taken, stream = kind(0x7000, (4, 5, 3)), tensor(strides=(32, 3, 1)), Loan()
    assert device_images.is_on_device(source)
    image = borrow(source, taken, stream)
    assert (image.pointer, image.size, image.channels, image.row_stride) == (0x7000, (4, 5), 3, 32)
    assert (image.stream, image.order, image.owner) == (0x51, "rgb", taken)
    assert source.streams == [0x51]
    assert source.versions_asked == [(1, 0) if kind is Producer else None]
    assert (taken.released, stream.released) == (0, 0)
    image.release()
    image.release()
    assert (taken.released, stream.released) == (1, 1)
    assert image.owner is None


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"dtype": (2, 16, 1)}, InvalidType, "got float16"),
        ({"dtype": (1, 8, 4)}, InvalidType, "got uint8x4"),
        ({"shape": (3, 4, 5)}, InvalidArgument, "permute"),
        ({"shape": ()}, InvalidArgument, r"got \[\]"),
        ({"strides": (30, 6, 2)}, InvalidArgument, "back to back"),
        ({"pointer": 0}, InvalidArgument, "null"),
        ({"device": (10, 0)}, InvalidArgument, "type 10"),
    ],
)
def test_a_tensor_that_is_refused_is_given_back(changes, error, words):
    taken, stream = tensor(**changes), Loan()
    with pytest.raises(error, match=words):
        borrow(Producer(0x7000, (4, 5, 3)), taken, stream)
    assert (taken.released, stream.released) == (1, 1)


def test_a_tensor_of_another_gpu_is_not_asked_for():
    source, stream = Producer(0x7000, (4, 5, 3), device=(2, 1)), Loan()
    with pytest.raises(InvalidArgument, match="memory of cuda:1, the detector runs on cuda:0"):
        borrow(source, tensor(), stream)
    assert (source.streams, stream.released) == ([], 0)


def test_an_owner_that_does_not_say_where_it_is():
    class Unsure(Producer):
        def __dlpack_device__(self):
            raise BufferError("spread over two devices")

    with pytest.raises(InvalidArgument, match="Unsure does not say on which device it is: spread over two"):
        device_images.is_on_device(Unsure(0x7000, (4, 5, 3)))


def test_the_cuda_array_interface_alone_needs_no_stream_of_ours():
    source = on_gpu(stream=7)
    image = borrow(source, None, None)
    assert (image.owner, image.stream) == (source, 7)
    image.release()
    assert image.owner is None


@pytest.mark.parametrize("kind", [Producer, OldProducer])
@pytest.mark.parametrize("device", [(1, 0), (3, 0)])
def test_memory_of_the_host_by_dlpack(kind, device):
    """Also page-locked memory (device type 3)."""
    pixels = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    source = kind(pixels.ctypes.data, (4, 4, 3), strides=(15, 3, 1), device=device, byte_offset=3)
    assert not device_images.is_on_device(source)
    image = images.load(source, color="rgb")
    np.testing.assert_array_equal(image.pixels, pixels[:, 1:])
    assert np.shares_memory(image.pixels, pixels)
    assert image.order == "rgb"
    assert source.deleted == 0
    del image
    assert (source.exported, source.deleted) == (1, 1)


def test_memory_elsewhere_by_dlpack():
    with pytest.raises(BackendUnavailable, match=r"GPU memory \(Producer\)"):
        images.load(Producer(0x7000, (4, 5, 3)))
    with pytest.raises(InvalidType, match="Producer does not convert"):
        images.load(Producer(0x7000, (4, 5, 3), device=(8, 0)))  # Metal
    with pytest.raises(InvalidType, match="expected uint8"):
        images.load(Producer(np.zeros((2, 2, 3), np.float32).ctypes.data, (2, 2, 3), dtype=(2, 32, 1), device=(1, 0)))
    with pytest.raises(InvalidType, match="does not convert"):
        images.load(type("Half", (), {"__dlpack__": lambda *_, **__: None})())
