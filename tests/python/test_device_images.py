"""Descriptions of arrays in GPU memory: only their interface is read, so no GPU is needed to tell right from wrong."""

from __future__ import annotations

import numpy as np
import pytest

from swiftdet import device_images
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
        ({"strides": (14, 3, 1)}, InvalidArgument, "ascending order"),
        ({"data": (0, False)}, InvalidArgument, "null"),
        ({"stream": 0}, InvalidArgument, "ambiguous"),
    ],
)
def test_what_is_refused(changes, error, words):
    with pytest.raises(error, match=words):
        device_images.describe(on_gpu(**changes), "bgr")
