"""swiftdet.ops.resize equals cv2.resize in every value."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swiftdet import errors, ops

CV2_INTERPOLATION = {"linear": cv2.INTER_LINEAR, "area": cv2.INTER_AREA}
INTERPOLATIONS = sorted(CV2_INTERPOLATION)


def make_image(height, width, channels, seed=0):
    shape = (height, width) if channels is None else (height, width, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def cv2_resize(image, size, interpolation):
    height, width = size
    result = cv2.resize(image, (width, height), interpolation=CV2_INTERPOLATION[interpolation])
    return result.reshape(height, width, *image.shape[2:])  # cv2 drops a last axis of 1


def assert_equals_cv2(image, size, interpolation):
    ours = ops.resize(image, size, interpolation=interpolation)
    expected = cv2_resize(np.ascontiguousarray(image), size, interpolation)
    assert ours.dtype == np.uint8
    assert ours.shape == expected.shape
    differing = np.count_nonzero(ours != expected)
    assert differing == 0, f"{image.shape} -> {size} {interpolation}: {differing} values differ"


sides = st.one_of(st.integers(1, 12), st.integers(1, 400))
channel_counts = st.sampled_from([None, 1, 3, 4])


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@given(data=st.data())
@settings(derandomize=True, deadline=None, max_examples=500)
def test_any_size_equals_cv2(interpolation, data):
    height, width, to_height, to_width = (data.draw(sides) for _ in range(4))
    image = make_image(height, width, data.draw(channel_counts), seed=data.draw(st.integers(0, 3)))
    assert_equals_cv2(image, (to_height, to_width), interpolation)


@given(data=st.data())
@settings(derandomize=True, deadline=None, max_examples=500)
def test_shrinking_area_equals_cv2(data):
    """Half of the axes shrink by a whole number, which OpenCV computes in another way."""

    def axis():
        to = data.draw(st.integers(1, 40))
        if data.draw(st.booleans()):
            return to * data.draw(st.integers(1, 9)), to
        return to + data.draw(st.integers(0, 300)), to

    (height, to_height), (width, to_width) = axis(), axis()
    image = make_image(height, width, data.draw(channel_counts), seed=data.draw(st.integers(0, 3)))
    assert_equals_cv2(image, (to_height, to_width), "area")


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("channels", [None, 1, 3, 4])
@pytest.mark.parametrize(
    ("size", "to"),
    [
        ((1, 1), (1, 1)),
        ((1, 1), (17, 33)),
        ((1, 10000), (1, 640)),
        ((10000, 1), (640, 1)),
        ((1, 10000), (640, 640)),
        ((1, 7), (3, 1)),
        ((2, 2), (1, 1)),
        ((2, 2), (640, 640)),
        ((720, 1280), (360, 640)),  # 2 x 2
        ((1080, 1920), (360, 640)),  # 3 x 3
        ((1080, 640), (360, 640)),  # one axis alone
        ((768, 1366), (360, 640)),
        ((639, 641), (641, 639)),  # one axis shrinks, one enlarges
        ((49, 98), (1, 2)),  # 1 / (1 / 49) is not 49 in floating point
        ((300, 400), (300, 400)),
        ((65535, 3), (100, 3)),
        ((3, 65535), (3, 100)),
    ],
)
def test_special_sizes_equal_cv2(interpolation, channels, size, to):
    assert_equals_cv2(make_image(*size, channels), to, interpolation)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("to", [(640, 640), (2160, 3840), (1, 2), (1, 1)])
def test_8k_equals_cv2(interpolation, to):
    """One pixel of 33 million overflows OpenCV's int32 sums; equal means equal there too."""
    assert_equals_cv2(make_image(4320, 7680, None), to, interpolation)


@pytest.mark.parametrize("value", [0, 1, 127, 254, 255])
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_flat_image_equals_cv2(interpolation, value):
    """Extremes of the value range, where rounding and clipping show."""
    image = np.full((97, 131, 3), value, np.uint8)
    for to in [(31, 40), (200, 300), (50, 262)]:
        assert_equals_cv2(image, to, interpolation)


STRIDED = {
    "columns reversed": lambda a: a[:, ::-1],
    "rows reversed": lambda a: a[::-1],
    "channels reversed": lambda a: a[:, :, ::-1],
    "everything reversed": lambda a: a[::-1, ::-1, ::-1],
    "every second column": lambda a: a[:, ::2],
    "every third row": lambda a: a[::3],
    "cropped": lambda a: a[5:-7, 3:-9],
    "transposed": lambda a: a.transpose(1, 0, 2),
    "planes": lambda a: np.ascontiguousarray(a.transpose(2, 0, 1)).transpose(1, 2, 0),
    "Fortran order": np.asfortranarray,
    "one pixel repeated": lambda a: np.broadcast_to(a[:1, :1], a.shape),
    "read-only": lambda a: np.frombuffer(a.tobytes(), np.uint8).reshape(a.shape),
}


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("strided", STRIDED.values(), ids=STRIDED.keys())
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_strides_are_honoured(interpolation, strided, channels):
    image = strided(make_image(90, 121, channels))
    before = image.copy()
    for to in [(40, 50), (30, 121), (image.shape[0], image.shape[1]), (133, 150)]:
        assert_equals_cv2(image, to, interpolation)
    assert np.array_equal(image, before)


def test_colour_channels_of_four_are_honoured():
    assert_equals_cv2(make_image(90, 121, 4)[:, :, :3], (40, 50), "linear")


def test_equal_sizes_give_a_copy():
    image = make_image(20, 30, 3)
    copy = ops.resize(image, (20, 30))
    assert np.array_equal(copy, image)
    assert not np.shares_memory(copy, image)


@pytest.mark.parametrize("shape", [(8, 9), (8, 9, 1), (8, 9, 3), (8, 9, 4)])
def test_rank_is_kept(shape):
    assert ops.resize(np.zeros(shape, np.uint8), (5, 4)).shape == (5, 4, *shape[2:])


@pytest.mark.parametrize("dtype", [np.float32, np.int8, np.uint16, bool])
def test_other_dtypes_are_refused(dtype):
    with pytest.raises(errors.InvalidType, match="expected a uint8 array"):
        ops.resize(np.zeros((8, 8, 3), dtype), (4, 4))


@pytest.mark.parametrize("image", [None, "image.jpg", [[1, 2], [3, 4]]])
def test_other_objects_are_refused(image):
    with pytest.raises(errors.InvalidType, match="expected a uint8 array"):
        ops.resize(image, (4, 4))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((8,), "expected \\[H, W\\]"),
        ((1, 8, 8, 3), "expected \\[H, W\\]"),
        ((3, 8, 8), "1, 3 or 4 channels"),
        ((8, 8, 2), "1, 3 or 4 channels"),
        ((0, 8, 3), "sides of 1 to 65535"),
        ((8, 0, 3), "sides of 1 to 65535"),
        ((65536, 1, 3), "sides of 1 to 65535"),
    ],
)
def test_bad_shapes_are_refused(shape, message):
    with pytest.raises(errors.InvalidArgument, match=message):
        ops.resize(np.zeros(shape, np.uint8), (4, 4))


@pytest.mark.parametrize("size", [(0, 4), (4, -1), (65536, 4), (4, 10**30)])
def test_target_sides_out_of_range_are_refused(size):
    with pytest.raises(errors.InvalidArgument, match="expected 1 to 65535"):
        ops.resize(np.zeros((8, 8, 3), np.uint8), size)


@pytest.mark.parametrize("size", [4, (4,), (4, 4, 3), (4.5, 4), ("4", "4"), None])
def test_target_sizes_of_another_kind_are_refused(size):
    with pytest.raises(errors.InvalidType, match="integer"):
        ops.resize(np.zeros((8, 8, 3), np.uint8), size)


def test_unknown_interpolation_is_refused():
    with pytest.raises(errors.InvalidArgument, match="interpolation: expected one of 'linear', 'area', got 'cubic'"):
        ops.resize(np.zeros((8, 8, 3), np.uint8), (4, 4), interpolation="cubic")


def test_unknown_device_is_refused():
    with pytest.raises(errors.InvalidArgument, match="device: expected 'cpu', 'cuda' or 'cuda:N'"):
        ops.resize(np.zeros((8, 8, 3), np.uint8), (4, 4), device="tpu")
