import contextlib
import io
import os
import struct
import threading
import warnings
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PilImage
from PIL import ImageFile

from swiftdet import image_files, images
from swiftdet.errors import BackendUnavailable, ImageError, InvalidArgument, InvalidType

RNG = np.random.default_rng(7)
PIXELS = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)
# Smooth, so that lossy formats stay close to it.
SMOOTH = np.dstack([np.add.outer(np.arange(20) * 5, np.arange(30) * 3 + k * 20) for k in range(3)]).astype(np.uint8)


def encode(pixels, kind, **options):
    stream = io.BytesIO()
    picture = pixels if isinstance(pixels, PilImage.Image) else PilImage.fromarray(pixels)
    picture.save(stream, kind, **options)
    return stream.getvalue()


def by_opencv(content):
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)


class TestArrays:
    @pytest.mark.parametrize("shape", [(4, 5), (4, 5, 1), (4, 5, 3), (4, 5, 4), (1, 1, 3), (1, 10000, 3)])
    def test_borrowed_as_they_are(self, shape):
        array = np.zeros(shape, np.uint8)
        image = images.load(array)
        assert image.pixels is array
        assert (image.order, image.path, image.note, image.size) == ("bgr", None, None, shape[:2])
        assert images.load(array, color="rgb").order == "rgb"
        assert image.bgr().shape == (*shape[:2], 3)

    def test_any_strides_and_read_only(self):
        array = PIXELS[::-1, ::2, ::-1]
        array.flags.writeable = False
        assert images.load(array).pixels is array
        np.testing.assert_array_equal(images.load(array).bgr(), array)

    def test_bgr_of_each_kind(self):
        rgba = np.dstack([PIXELS, PIXELS[..., :1]])
        np.testing.assert_array_equal(images.load(rgba, color="rgb").bgr(), PIXELS[..., ::-1])
        np.testing.assert_array_equal(images.load(rgba).bgr(), PIXELS)
        np.testing.assert_array_equal(
            images.load(PIXELS[..., 0]).bgr(), cv2.cvtColor(PIXELS[..., 0].copy(), cv2.COLOR_GRAY2BGR)
        )
        assert np.shares_memory(images.load(rgba).bgr(), rgba)

    @pytest.mark.parametrize(
        ("dtype", "advice"),
        [(np.float32, r"image \* 255"), (np.float64, "255"), (np.uint16, "astype"), (bool, "astype")],
    )
    def test_wrong_dtype(self, dtype, advice):
        with pytest.raises(InvalidType, match=f"expected uint8 pixels, got .*{advice}"):
            images.load(np.zeros((4, 5, 3), dtype))

    @pytest.mark.parametrize(
        ("shape", "words"),
        [
            ((2, 4, 5, 3), "got a batch"),
            ((3, 40, 50), r"transpose\(1, 2, 0\)"),
            ((4, 5, 2), r"got \[4, 5, 2\]"),
            ((5,), "expected"),
            ((), "expected"),
            ((0, 5, 3), "at least 1x1"),
            ((5, 0), "at least 1x1"),
        ],
    )
    def test_wrong_shape(self, shape, words):
        with pytest.raises(InvalidArgument, match=words):
            images.load(np.zeros(shape, np.uint8))

    def test_objects_that_convert(self):
        class Tensor:
            def __array__(self, dtype=None, copy=None):
                return PIXELS

        class Stubborn:
            def __array__(self, dtype=None, copy=None):
                raise RuntimeError("call detach() first")

        np.testing.assert_array_equal(images.load(Tensor()).pixels, PIXELS)
        with pytest.raises(InvalidType, match=r"Stubborn does not convert to an array: call detach\(\) first"):
            images.load(Stubborn())

    def test_gpu_memory(self):
        class OnGpu:
            __cuda_array_interface__ = {"shape": (4, 5, 3), "typestr": "|u1", "data": (0, False), "version": 3}  # noqa: RUF012

        with pytest.raises(BackendUnavailable, match="needs a detector on that GPU"):
            images.load(OnGpu())

    @pytest.mark.parametrize(
        ("source", "words"),
        [(None, "NoneType"), (7, "int"), ([PIXELS], r"det\(\[\.\.\.\]\)"), (io.BytesIO(b""), r"file\.read\(\)")],
    )
    def test_no_image_at_all(self, source, words):
        with pytest.raises(InvalidType, match=words):
            images.load(source)

    def test_unknown_colour_order(self):
        with pytest.raises(InvalidArgument, match="expected 'bgr' or 'rgb', got 'hsv'"):
            images.load(PIXELS, color="hsv")


class TestFormats:
    @pytest.mark.parametrize(
        ("kind", "options"),
        [
            ("PNG", {}),
            ("BMP", {}),
            ("TIFF", {}),
            ("TIFF", {"compression": "tiff_lzw"}),
            ("PPM", {}),
            ("WEBP", {"lossless": True}),
            ("JPEG2000", {"irreversible": False}),
        ],
    )
    def test_lossless(self, kind, options):
        image = images.load(encode(PIXELS, kind, **options))
        assert image.order == "rgb"
        np.testing.assert_array_equal(image.pixels, PIXELS)
        np.testing.assert_array_equal(image.bgr(), PIXELS[..., ::-1])

    @pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
    def test_jpeg_agrees_with_opencv(self, options):
        content = encode(SMOOTH, "JPEG", quality=90, **options)
        assert np.abs(images.load(content).bgr().astype(int) - by_opencv(content)).max() <= 3

    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
    def test_kinds_of_bytes(self, kind):
        np.testing.assert_array_equal(images.load(kind(encode(PIXELS, "PNG"))).pixels, PIXELS)

    @pytest.mark.parametrize("kind", [str, lambda path: path])
    def test_paths(self, tmp_path, kind):
        path = tmp_path / "füße 1.png"
        path.write_bytes(encode(PIXELS, "PNG"))
        image = images.load(kind(path))
        np.testing.assert_array_equal(image.pixels, PIXELS)
        assert image.path == str(path)
        assert not image.pixels.flags.writeable

    def test_content_counts_not_the_suffix(self, tmp_path):
        (tmp_path / "a.jpg").write_bytes(encode(PIXELS, "PNG"))
        np.testing.assert_array_equal(images.load(tmp_path / "a.jpg").pixels, PIXELS)

    def test_a_pipe(self, tmp_path):
        path = tmp_path / "pipe"
        os.mkfifo(path)
        writer = threading.Thread(target=lambda: path.write_bytes(encode(PIXELS, "PNG")))
        writer.start()
        np.testing.assert_array_equal(images.load(path).pixels, PIXELS)
        writer.join()

    @pytest.mark.parametrize("size", [(1, 1), (10000, 1), (1, 10000)])
    def test_extreme_sizes(self, size):
        assert images.load(encode(PilImage.new("RGB", size), "PNG")).size == size[::-1]

    @pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP", "PNG"])
    def test_first_picture_of_many(self, kind):
        frames = [PilImage.new("RGB", (8, 6), color) for color in ("red", "blue")]
        options = {"lossless": True} if kind == "WEBP" else {}
        image = images.load(encode(frames[0], kind, save_all=True, append_images=frames[1:], **options))
        assert image.size == (6, 8)
        assert image.pixels[0, 0].tolist() == [255, 0, 0]


class TestModes:
    def test_grey(self):
        image = images.load(encode(PIXELS[..., 0], "PNG"))
        assert image.pixels.shape == (20, 30)
        np.testing.assert_array_equal(image.pixels, PIXELS[..., 0])
        assert image.note is None

    def test_one_bit(self):
        mask = PIXELS[..., 0] > 127
        np.testing.assert_array_equal(images.load(encode(mask, "PNG")).pixels, mask * np.uint8(255))

    @pytest.mark.parametrize("mode", ["RGBA", "LA"])
    def test_alpha_is_dropped_as_opencv_does(self, mode):
        picture = PilImage.merge("RGBA", [PilImage.fromarray(PIXELS[..., k]) for k in (0, 1, 2, 0)])
        if mode == "LA":
            picture = PilImage.merge("LA", [PilImage.fromarray(PIXELS[..., k]) for k in (0, 1)])
        content = encode(picture, "PNG")
        image = images.load(content)
        assert image.note == "alpha channel dropped"
        np.testing.assert_array_equal(image.bgr(), by_opencv(content))

    def test_palette(self):
        picture = PilImage.fromarray(SMOOTH).quantize(40)
        content = encode(picture, "PNG")
        np.testing.assert_array_equal(images.load(content).bgr(), by_opencv(content))

    @pytest.mark.parametrize("transparency", [3, bytes(range(40))])
    def test_palette_with_transparency(self, transparency):
        picture = PilImage.fromarray(SMOOTH).quantize(40)
        content = encode(picture, "PNG", transparency=transparency)
        image = images.load(content)
        assert image.note == "alpha channel dropped"
        np.testing.assert_array_equal(image.bgr(), by_opencv(content))

    @pytest.mark.parametrize("kind", ["PNG", "TIFF"])
    def test_sixteen_bit_grey_keeps_the_high_byte(self, kind):
        deep = RNG.integers(0, 65536, (6, 7), dtype=np.uint16)
        content = encode(deep, kind)
        image = images.load(content)
        assert image.note == "16-bit grey reduced to its high byte"
        np.testing.assert_array_equal(image.pixels, deep >> 8)
        np.testing.assert_array_equal(image.bgr(), by_opencv(content))

    def test_sixteen_bit_colour_keeps_the_high_byte(self):
        deep = RNG.integers(0, 65536, (6, 7, 3), dtype=np.uint16)
        content = cv2.imencode(".png", deep)[1].tobytes()
        np.testing.assert_array_equal(images.load(content).bgr(), deep >> 8)

    def test_cmyk_jpeg(self):
        content = encode(PilImage.fromarray(SMOOTH).convert("CMYK"), "JPEG", quality=95)
        image = images.load(content)
        assert image.note == "CMYK converted without a colour profile"
        assert np.abs(image.pixels.astype(int) - SMOOTH).max() <= 12
        assert np.abs(image.bgr().astype(int) - by_opencv(content)).max() <= 12

    @pytest.mark.parametrize(("mode", "words"), [("F", "floats"), ("I", "32-bit integers")])
    def test_unknown_range_is_refused(self, mode, words):
        with pytest.raises(ImageError, match=f"pixels are {words} of unknown range"):
            images.load(encode(PilImage.new(mode, (4, 4)), "TIFF"))

    def test_lab_is_refused(self):
        with pytest.raises(ImageError, match="mode 'LAB'"):
            images.load(encode(PilImage.new("LAB", (4, 4)), "TIFF"))


class TestPilImages:
    @pytest.mark.parametrize(
        "mode", ["RGB", "L", "1", "P", "RGBA", "LA", "PA", "La", "RGBa", "CMYK", "YCbCr", "HSV", "RGBX"]
    )
    def test_modes(self, mode):
        base = PilImage.fromarray(SMOOTH)
        if mode == "La":
            picture = base.convert("LA").convert("La")
        elif mode == "RGBa":
            picture = base.convert("RGBA").convert("RGBa")
        elif mode == "PA":
            picture = base.convert("P").convert("PA")
        else:
            picture = base.convert(mode)
        assert picture.mode == mode
        expected = np.asarray(base.convert("L" if mode in ("L", "LA", "La", "1") else "RGB"))
        image = images.load(picture)
        assert image.order == "rgb"
        assert image.pixels.shape == expected.shape
        if mode not in ("1", "P", "PA"):
            assert np.abs(image.pixels.astype(int) - expected).max() <= 12

    def test_orientation_tag_is_left_alone(self):
        picture = PilImage.fromarray(PIXELS)
        picture.getexif()[0x0112] = 6
        assert images.load(picture).size == (20, 30)

    def test_broken_lazy_image(self, tmp_path):
        path = tmp_path / "a.jpg"
        path.write_bytes(encode(PIXELS, "JPEG")[:-100])
        with PilImage.open(path) as picture, pytest.raises(ImageError, match="PIL image: cannot decode"):
            images.load(picture)

    def test_too_large(self):
        with pytest.raises(ImageError, match="PIL image: 30x20 px is more than the limit"):
            images.load(PilImage.fromarray(PIXELS), max_pixels=599)


class TestOrientation:
    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
    def test_every_value(self, kind, orientation):
        exif = PilImage.Exif()
        exif[0x0112] = orientation
        options = {"JPEG": {"quality": 95}, "WEBP": {"lossless": True}}.get(kind, {})
        content = encode(SMOOTH, kind, exif=exif, **options)
        image = images.load(content)
        transposed = PilImage.open(io.BytesIO(content))
        if kind != "TIFF":  # which Pillow turns by itself
            from PIL import ImageOps

            transposed = ImageOps.exif_transpose(transposed)
        np.testing.assert_array_equal(image.pixels, np.asarray(transposed.convert("RGB")))
        if kind == "JPEG":
            assert np.abs(image.bgr().astype(int) - by_opencv(content)).max() <= 3
        assert image_files.upright_size(content, "picture") == image.size
        if orientation == 1:
            assert image.note is None
        else:
            assert image.note.startswith(f"EXIF orientation {orientation} applied (")

    def test_big_endian_and_other_entries(self):
        entries = struct.pack(">HHII", 0x010F, 2, 4, 0x41000000) + struct.pack(">HHIHH", 0x0112, 3, 1, 6, 0)
        exif = b"Exif\0\0MM\0*" + struct.pack(">IH", 8, 2) + entries + b"\0\0\0\0"
        assert images.load(encode(SMOOTH, "JPEG", exif=exif)).size == (30, 20)

    @pytest.mark.parametrize(
        "exif",
        [
            b"Exif\0\0",
            b"Exif\0\0II*\0",
            b"Exif\0\0II*\0\xff\xff\xff\xff",
            b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01",
            b"Exif\0\0rubbish" * 5,
            b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x63\0\0",
        ],
    )
    def test_damaged_exif_is_as_good_as_none(self, exif):
        image = images.load(encode(SMOOTH, "JPEG", exif=exif))
        assert image.size == (20, 30)
        assert image.note is None

    @given(st.binary(max_size=120))
    @settings(derandomize=True, deadline=None, max_examples=200)
    def test_any_exif(self, junk):
        assert images.load(encode(SMOOTH, "JPEG", exif=b"Exif\0\0" + junk)).pixels.size == SMOOTH.size


def png_header(width, height):
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


class TestBadFiles:
    def test_missing(self, tmp_path):
        with pytest.raises(ImageError, match=r"gone\.jpg: no such file"):
            images.load(tmp_path / "gone.jpg")

    def test_empty(self, tmp_path):
        (tmp_path / "a.jpg").write_bytes(b"")
        with pytest.raises(ImageError, match=rf"^{tmp_path}/a.jpg: the file is empty \(0 bytes\)$"):
            images.load(tmp_path / "a.jpg")
        with pytest.raises(ImageError, match="got 0 bytes"):
            images.load(b"")

    @pytest.mark.parametrize("content", [b"x", b"hello, this is no image", b"%!PS-Adobe-3.0 EPSF-3.0", bytes(5000)])
    def test_not_an_image(self, content, tmp_path):
        (tmp_path / "a.jpg").write_bytes(content)
        for source in (tmp_path / "a.jpg", content):
            with pytest.raises(ImageError, match=r"^(\S+/a.jpg|encoded image): not an image that this version reads"):
                images.load(source)

    def test_folder(self, tmp_path):
        with pytest.raises(ImageError, match="is a directory"):
            images.load(tmp_path)

    def test_device(self):
        with pytest.raises(ImageError, match=r"^/dev/zero: expected an image file, got a device or socket$"):
            images.load("/dev/zero")

    def test_address(self):
        with pytest.raises(ImageError, match="local files only"):
            images.load("https://example.org/a.jpg")

    def test_impossible_name(self):
        with pytest.raises(ImageError, match="cannot read the file"):
            images.load("a\0b.jpg")

    @pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
    def test_unreadable(self, tmp_path):
        (tmp_path / "a.png").write_bytes(encode(PIXELS, "PNG"))
        (tmp_path / "a.png").chmod(0)
        with pytest.raises(ImageError, match="Permission denied"):
            images.load(tmp_path / "a.png")

    @pytest.mark.parametrize(
        ("kind", "options"),
        [
            ("JPEG", {}),
            ("JPEG", {"progressive": True}),
            ("PNG", {}),
            ("BMP", {}),
            ("TIFF", {}),
            ("TIFF", {"compression": "tiff_lzw"}),
            ("TIFF", {"compression": "jpeg"}),
            ("WEBP", {}),
            ("WEBP", {"lossless": True}),
            ("PPM", {}),
            ("GIF", {}),
            ("JPEG2000", {}),
        ],
    )
    @pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9])
    def test_truncated_is_an_error_not_a_grey_half(self, kind, options, share, tmp_path):
        noise = np.random.default_rng(3).integers(0, 256, (200, 300, 3), dtype=np.uint8)
        content = encode(noise, kind, **options)
        path = tmp_path / "cut"
        path.write_bytes(content[: max(int(len(content) * share), 20)])
        with pytest.raises(ImageError, match=r"cut: (damaged, truncated or of an unknown kind|not an image)") as caught:
            images.load(path)
        assert "\n" not in str(caught.value)

    @given(st.sampled_from(["JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM"]), st.data())
    @settings(derandomize=True, deadline=None, max_examples=300)
    def test_any_damage_is_an_image_or_an_image_error(self, kind, data):
        content = bytearray(encode(SMOOTH, kind))
        for _ in range(data.draw(st.integers(1, 6))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                image = images.load(bytes(content), max_pixels=10**6)
            except ImageError as error:
                assert "\n" not in str(error)  # noqa: PT017 - either outcome is right
            else:
                assert image.pixels.dtype == np.uint8

    @pytest.mark.parametrize("size", [(9500, 9500), (60000, 60000)], ids=["Pillow warns", "Pillow refuses"])
    def test_decompression_bomb(self, size):
        with pytest.raises(ImageError, match=rf"{size[0]}x{size[1]} px is more than the limit of 89,478,485 px"):
            images.load(png_header(*size))

    def test_limit_is_the_callers(self):
        content = encode(PIXELS, "PNG")
        with pytest.raises(ImageError, match=r"30x20 px is more than the limit of 599 px .* raise max_pixels"):
            images.load(content, max_pixels=599)
        assert images.load(content, max_pixels=600).size == (20, 30)


def test_changes_no_global_state():
    before = (PilImage.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters))
    for content in (encode(PIXELS, "PNG"), png_header(9500, 9500), b"junk"):
        with contextlib.suppress(ImageError):
            images.load(content)
    assert before == (PilImage.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters))


def test_threads_see_their_own_images():
    contents = [encode(np.full((9, 9, 3), k, np.uint8), kind) for k in range(8) for kind in ("PNG", "BMP", "TIFF")]
    expected = [images.load(content).pixels[0, 0, 0] for content in contents]
    barrier = threading.Barrier(6)
    agreed = []

    def read():
        barrier.wait()
        agreed.extend([images.load(content).pixels[0, 0, 0] for content in contents] == expected for _ in range(5))

    threads = [threading.Thread(target=read) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert agreed == [True] * 30


def test_save_round_trip(tmp_path):
    images.save(PIXELS[..., ::-1], tmp_path / "a.png")
    np.testing.assert_array_equal(images.load(tmp_path / "a.png").pixels, PIXELS)
