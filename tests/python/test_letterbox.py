"""swiftdet.ops.letterbox equals cv2.resize + cv2.copyMakeBorder + channel order + transpose + division."""

from __future__ import annotations

import hashlib
import itertools
import os
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swiftdet import _core, errors, ops

MODES = ["letterbox", "letterbox-topleft", "stretch"]
CV2_INTERPOLATION = {"linear": cv2.INTER_LINEAR, "area": cv2.INTER_AREA}


def make_image(height, width, channels, seed=0):
    shape = (height, width) if channels is None else (height, width, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def official_letterbox(image, size, mode, *, interpolation="linear", pad_value=114, color="bgr"):
    """The official pipelines' steps on uint8; returns RGB planes and (scale_x, scale_y, left, top)."""
    image = np.ascontiguousarray(image)
    if image.ndim == 2 or image.shape[2] == 1:
        image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
    elif image.shape[2] == 4:
        image = np.ascontiguousarray(image[:, :, :3])
    (height, width), (net_height, net_width) = image.shape[:2], size
    scale_x, scale_y = net_width / width, net_height / height
    new_width, new_height = net_width, net_height
    if mode != "stretch":
        scale_x = scale_y = min(scale_x, scale_y)
        new_width, new_height = max(1, round(width * scale_x)), max(1, round(height * scale_y))
    spare_x, spare_y = net_width - new_width, net_height - new_height
    left = top = 0
    if mode == "letterbox":
        left, top = round(spare_x / 2 - 0.1), round(spare_y / 2 - 0.1)
        assert spare_x - left == round(spare_x / 2 + 0.1)
        assert spare_y - top == round(spare_y / 2 + 0.1)
    if (new_height, new_width) != (height, width):
        image = cv2.resize(image, (new_width, new_height), interpolation=CV2_INTERPOLATION[interpolation])
    image = cv2.copyMakeBorder(
        image, top, spare_y - top, left, spare_x - left, cv2.BORDER_CONSTANT, value=(pad_value,) * 3
    )
    if color == "bgr":
        image = image[:, :, ::-1]
    return image.transpose(2, 0, 1), (scale_x, scale_y, left, top)


def assert_equals_official(image, size, **options):
    scaling = {key: options.pop(key) for key in ("divisor", "mean", "std") if key in options}
    planes, meta = official_letterbox(image, size, **options)
    divisor = np.float32(scaling.get("divisor", 255.0))
    expected = planes.astype(np.float32) / divisor
    if "mean" in scaling or "std" in scaling:
        expected -= np.float32(scaling.get("mean", (0, 0, 0))).reshape(3, 1, 1)
        expected /= np.float32(scaling.get("std", (1, 1, 1))).reshape(3, 1, 1)

    tensor, our_meta = ops.letterbox(image, size, **options, **scaling)
    assert tensor.dtype == np.float32
    assert tensor.flags.c_contiguous
    assert tuple(our_meta) == meta
    assert np.array_equal(tensor, expected), f"{np.count_nonzero(tensor != expected)} values differ"

    before_scaling, uint8_meta = ops.letterbox(image, size, **options, dtype="uint8")
    assert before_scaling.dtype == np.uint8
    assert uint8_meta == our_meta
    assert np.array_equal(before_scaling, planes)


sides = st.one_of(st.integers(1, 12), st.integers(1, 300))


@given(data=st.data())
@settings(derandomize=True, deadline=None, max_examples=500)
def test_any_size_equals_the_official_chain(data):
    image = make_image(data.draw(sides), data.draw(sides), data.draw(st.sampled_from([None, 1, 3, 4])))
    assert_equals_official(
        image,
        (data.draw(sides), data.draw(sides)),
        mode=data.draw(st.sampled_from(MODES)),
        interpolation=data.draw(st.sampled_from(["linear", "area"])),
        pad_value=data.draw(st.integers(0, 255)),
        color=data.draw(st.sampled_from(["bgr", "rgb"])),
        divisor=data.draw(st.sampled_from([255.0, 1.0, 127.5, 0.1])),
    )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("interpolation", ["linear", "area"])
@pytest.mark.parametrize(
    "shape",
    [
        (1, 1, 3),
        (1, 10000, 3),
        (10000, 1, 3),
        (7, 640, 3),
        (640, 640, 3),  # nothing to resample, nothing to pad
        (480, 640, 3),  # nothing to resample
        (480, 640, 4),
        (480, 640),
        (427, 640, 3),  # odd border
        (720, 1280, 3),
        (1080, 1920, 3),
        (1079, 1921, 3),
        (1080, 810, 3),
    ],
)
def test_common_sizes_equal_the_official_chain(shape, mode, interpolation):
    assert_equals_official(
        make_image(*shape[:2], shape[2] if len(shape) == 3 else None),
        (640, 640),
        mode=mode,
        interpolation=interpolation,
    )


@pytest.mark.parametrize("interpolation", ["linear", "area"])
def test_8k_equals_the_official_chain(interpolation):
    assert_equals_official(make_image(4320, 7680, 3), (640, 640), mode="letterbox", interpolation=interpolation)


@pytest.mark.parametrize("size", [(384, 640), (640, 384), (416, 416), (33, 31)])
@pytest.mark.parametrize("mode", MODES)
def test_rectangular_inputs_equal_the_official_chain(size, mode):
    assert_equals_official(make_image(200, 333, 3), size, mode=mode)


STRIDED = {
    "columns reversed": lambda a: a[:, ::-1],
    "rows reversed": lambda a: a[::-1],
    "channels reversed": lambda a: a[:, :, ::-1],
    "channels and rows reversed": lambda a: a[::-1, :, ::-1],
    "every second column": lambda a: a[:, ::2],
    "cropped": lambda a: a[5:-7, 3:-9],
    "transposed": lambda a: a.transpose(1, 0, 2),
    "planes": lambda a: np.ascontiguousarray(a.transpose(2, 0, 1)).transpose(1, 2, 0),
    "one pixel repeated": lambda a: np.broadcast_to(a[:1, :1], a.shape),
    "read-only": lambda a: np.frombuffer(a.tobytes(), np.uint8).reshape(a.shape),
}


@pytest.mark.parametrize("strided", STRIDED.values(), ids=STRIDED.keys())
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("color", ["bgr", "rgb"])
@pytest.mark.parametrize("size", [(64, 64), (120, 180), (45, 62)])
def test_strides_are_honoured(strided, channels, color, size):
    assert_equals_official(strided(make_image(90, 124, channels)), size, mode="letterbox", color=color)


def test_values_are_correctly_rounded_quotients():
    """A multiplication by 1/255 would differ for 126 of them."""
    ramp = np.arange(256, dtype=np.uint8).reshape(1, 256)
    tensor, _ = ops.letterbox(ramp, (1, 256))
    exact = np.arange(256, dtype=np.float64) / 255.0  # float64 then float32: no double rounding for these 256
    assert np.array_equal(tensor[:, 0], np.broadcast_to(exact.astype(np.float32), (3, 256)))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_mean_and_std_apply_per_channel_in_rgb_order(channels):
    for color in ("bgr", "rgb"):
        assert_equals_official(
            make_image(50, 77, channels),
            (64, 64),
            mode="letterbox",
            color=color,
            divisor=255.0,
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
        )


def test_out_is_filled_and_returned():
    image = make_image(50, 77, 3)
    expected, meta = ops.letterbox(image, (64, 96))
    out = np.full((3, 64, 96), np.nan, np.float32)
    tensor, same_meta = ops.letterbox(image, (64, 96), out=out)
    assert tensor is out
    assert same_meta == meta
    assert np.array_equal(out, expected)


def read_only(array):
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    ("out", "error"),
    [
        (np.zeros((3, 64, 64), np.float64), errors.InvalidType),
        (np.zeros((3, 64, 64), np.uint8), errors.InvalidType),
        (np.zeros((64, 64, 3), np.float32).transpose(2, 0, 1), errors.InvalidType),
        (np.zeros((3, 64, 128), np.float32)[:, :, ::2], errors.InvalidType),
        ([0.0], errors.InvalidType),
        (np.zeros((3, 64, 65), np.float32), errors.InvalidArgument),
        (np.zeros((64, 64, 3), np.float32), errors.InvalidArgument),
        (np.zeros((1, 3, 64, 64), np.float32), errors.InvalidArgument),
        (read_only(np.zeros((3, 64, 64), np.float32)), errors.InvalidArgument),
    ],
)
def test_unfit_out_is_refused(out, error):
    with pytest.raises(error, match="out: expected a writable C-contiguous float32 array \\[3, 64, 64\\]"):
        ops.letterbox(make_image(8, 8, 3), (64, 64), out=out)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "crop"}, "mode: expected one of 'letterbox', 'letterbox-topleft', 'stretch', got 'crop'"),
        ({"interpolation": "cubic"}, "interpolation: expected one of 'linear', 'area'"),
        ({"color": "gbr"}, "color: expected one of 'bgr', 'rgb'"),
        ({"dtype": "float16"}, "dtype: expected one of 'float32', 'uint8'"),
        ({"pad_value": 256}, "pad_value: expected 0 to 255, got 256"),
        ({"pad_value": -1}, "pad_value: expected 0 to 255"),
        ({"divisor": 0.0}, "divisor"),
        ({"divisor": float("nan")}, "divisor"),
        ({"divisor": 1e300}, "divisor"),
        ({"mean": (0.0, float("inf"), 0.0)}, "mean"),
        ({"std": (1.0, 0.0, 1.0)}, "std"),
        ({"device": "tpu"}, "device"),
        ({"size": (0, 64)}, "size: height: expected 1 to 65535"),
        ({"size": (64, 65536)}, "size: width: expected 1 to 65535"),
    ],
)
def test_bad_options_are_refused(options, message):
    arguments = {"size": (64, 64), **options}
    with pytest.raises(errors.InvalidArgument, match=message):
        ops.letterbox(make_image(8, 8, 3), **arguments)


@pytest.mark.parametrize(
    "options", [{"pad_value": 114.0}, {"mean": (0.0, 0.0)}, {"std": 1.0}, {"mean": "abc"}, {"size": 64}]
)
def test_options_of_another_kind_are_refused(options):
    arguments = {"size": (64, 64), **options}
    with pytest.raises(errors.InvalidType):
        ops.letterbox(make_image(8, 8, 3), **arguments)


@pytest.mark.parametrize("image", [np.zeros((8, 8, 3), np.float32), None, np.zeros((8, 8, 3), np.int64)])
def test_other_images_are_refused(image):
    with pytest.raises(errors.InvalidType, match="expected a uint8 array"):
        ops.letterbox(image, (64, 64))


@pytest.mark.parametrize("shape", [(3, 8, 8), (8, 8, 2), (0, 8, 3), (8,)])
def test_bad_shapes_are_refused(shape):
    with pytest.raises(errors.InvalidArgument, match="image: expected"):
        ops.letterbox(np.zeros(shape, np.uint8), (64, 64))


@given(data=st.data())
@settings(derandomize=True, deadline=None, max_examples=200)
def test_the_meta_maps_corners_back(data):
    """Mapping the input's image area back gives the source within half a px of the input."""
    height, width, net_height, net_width = (data.draw(st.integers(1, 2000)) for _ in range(4))
    mode = data.draw(st.sampled_from(MODES))
    image = np.broadcast_to(np.uint8(0), (height, width))
    tensor, meta = ops.letterbox(image, (net_height, net_width), mode=mode, pad_value=255, dtype="uint8")
    rows, columns = np.nonzero(tensor[0] == 0)
    assert (rows.min(), columns.min()) == (meta.pad_top, meta.pad_left)
    assert (rows.max() + 1 - meta.pad_top) == pytest.approx(max(1, height * meta.scale_y), abs=0.5)
    assert (columns.max() + 1 - meta.pad_left) == pytest.approx(max(1, width * meta.scale_x), abs=0.5)


def test_threads_do_not_disturb_one_another():
    images = [make_image(100 + 37 * i, 500 - 41 * i, 3, seed=i) for i in range(8)]
    expected = [ops.letterbox(image, (320, 320))[0] for image in images]
    with ThreadPoolExecutor(8) as pool:
        for index, (tensor, _) in enumerate(pool.map(lambda i: ops.letterbox(i, (320, 320)), images * 8)):
            assert np.array_equal(tensor, expected[index % 8])


def digest_of_all_paths():
    """One hash over every way that an image can take through the bodies."""
    digest = hashlib.sha256()
    shapes = [(1, 1), (5, 3), (97, 131), (128, 192), (64, 64), (192, 192), (300, 411)]
    for (height, width), channels, mode, interpolation in itertools.product(
        shapes, (1, 3, 4), MODES, CV2_INTERPOLATION
    ):
        image = make_image(height, width, channels)
        digest.update(ops.resize(image, (64, 64), interpolation=interpolation).tobytes())
        for scaling in ({}, {"divisor": 1.0}, {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.4)}):
            tensor, _ = ops.letterbox(image, (64, 64), mode=mode, interpolation=interpolation, **scaling)
            digest.update(tensor.tobytes())
    return digest.hexdigest()


@pytest.mark.parametrize("isa", _core.build_config()["isas"])
def test_every_instruction_set_gives_the_same_bits(isa):
    """In a process of its own: the instruction set is chosen once."""
    program = textwrap.dedent(
        """
        import sys
        from swiftdet import _core
        import test_letterbox
        assert _core.build_config()["active_isa"] == sys.argv[1]
        print(test_letterbox.digest_of_all_paths())
        """
    )
    environment = {**os.environ, "SWIFTDET_FORCE_ISA": isa, "PYTHONPATH": os.path.dirname(__file__)}  # noqa: PTH120
    forced = subprocess.run(
        [sys.executable, "-c", program, isa], env=environment, capture_output=True, text=True, check=True
    )
    assert forced.stdout.strip() == digest_of_all_paths()


def test_the_core_description_keeps_what_it_is_given():
    description = _core.Preprocess(
        mode="stretch", interpolation="area", pad_value=0, divisor=1.0, mean=(1.0, 2.0, 3.0), std=(4.0, 5.0, 6.0)
    )
    assert (description.mode, description.interpolation, description.pad_value) == ("stretch", "area", 0)
    assert (description.divisor, tuple(description.mean), tuple(description.std)) == (1.0, (1, 2, 3), (4, 5, 6))
    with pytest.raises(errors.InvalidArgument, match="pad_value"):
        _core.Preprocess(pad_value=300)
