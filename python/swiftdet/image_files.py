"""Decodes image files: which formats, how large, which way up, how many bits."""

from __future__ import annotations

import contextlib
import io
import os
import stat
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, TypeAlias, cast

import numpy as np
import numpy.typing as npt
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    ImageFile,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)
from PIL import Image as PilImage

from swiftdet import tiff_files
from swiftdet.errors import ImageError

try:
    from PIL import AvifImagePlugin
except ImportError:  # part of Pillow since 11.3
    AvifImagePlugin = None  # type: ignore[assignment,unused-ignore]

ByteArray: TypeAlias = npt.NDArray[np.uint8]

SUFFIXES = frozenset(
    (
        *(".avif", ".bmp", ".dib", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".mpo"),
        *(".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"),
    )
)
"""Suffixes, in lower case, under which `sources` looks for images; reading goes by content instead."""

FORMATS = "JPEG, PNG, WebP, BMP, GIF, TIFF, PPM, JPEG 2000" + (", AVIF" if AvifImagePlugin else "")
"""What is read, in words."""


def read(name: str) -> bytes:
    """The content of an image file.

    Raises:
        ImageError: missing, empty, unreadable, or no image by its first bytes, in which case the rest is not read.
    """
    if name.lower().startswith(("http://", "https://", "rtsp://", "ftp://", "s3://", "gs://")):
        raise ImageError(f"{name}: swiftdet reads local files only; download it first")
    try:
        with Path(name).open("rb") as file:
            _check_kind(os.fstat(file.fileno()).st_mode, name)
            head = file.read(_SIGNATURE_BYTES)
            _opener(head, name)
            return head + file.read()
    except ImageError:  # which is a ValueError too
        raise
    except FileNotFoundError as e:
        raise ImageError(f"{name}: no such file") from e
    except IsADirectoryError as e:
        raise ImageError(f"{name}: is a directory; det.predict({name!r}) reads all images in it") from e
    except (OSError, ValueError) as e:
        raise ImageError(f"{name}: cannot read the file: {reason(e)}") from e


def _check_kind(mode: int, name: str) -> None:
    if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
        raise ImageError(f"{name}: expected an image file, got a device or socket")


_Opener: TypeAlias = Callable[[BinaryIO, str], ImageFile.ImageFile]

# Opened by the plugin itself rather than by PIL.Image.open, which warns about large images through the process's
# warning filters (changing those is not thread-safe), maps files into memory (a file cut short meanwhile would
# kill the process), and tries formats that run other programs (EPS).
_SIGNATURES: tuple[tuple[int, bytes, _Opener], ...] = (
    (0, b"\xff\xd8\xff", JpegImagePlugin.JpegImageFile),
    (0, b"\x89PNG\r\n\x1a\n", PngImagePlugin.PngImageFile),
    (8, b"WEBP", WebPImagePlugin.WebPImageFile),
    (0, b"BM", BmpImagePlugin.BmpImageFile),
    (0, b"GIF87a", GifImagePlugin.GifImageFile),
    (0, b"GIF89a", GifImagePlugin.GifImageFile),
    (0, b"II*\0", TiffImagePlugin.TiffImageFile),
    (0, b"MM\0*", TiffImagePlugin.TiffImageFile),
    (0, b"II+\0", TiffImagePlugin.TiffImageFile),
    (0, b"MM\0+", TiffImagePlugin.TiffImageFile),
    *((0, b"P%d" % kind, PpmImagePlugin.PpmImageFile) for kind in range(1, 7)),
    (0, b"\xff\x4f\xff\x51", Jpeg2KImagePlugin.Jpeg2KImageFile),
    (0, b"\0\0\0\x0cjP  \r\n\x87\n", Jpeg2KImagePlugin.Jpeg2KImageFile),
    *(
        ((4, b"ftyp" + brand, AvifImagePlugin.AvifImageFile) for brand in (b"avif", b"avis", b"mif1"))
        if AvifImagePlugin
        else ()
    ),
)
_SIGNATURE_BYTES = 16

# What Pillow's plugins raise on broken content; Warning where the process turns warnings into errors.
DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    IndexError,
    KeyError,
    OverflowError,
    EOFError,
    AttributeError,
    struct.error,
    MemoryError,
    RuntimeError,
    AssertionError,
    PilImage.DecompressionBombError,
    Warning,
)


def _opener(head: bytes, name: str) -> _Opener:
    if not head:
        raise ImageError(f"{name}: the file is empty (0 bytes)")
    for offset, signature, opener in _SIGNATURES:
        if head.startswith(signature, offset):
            return opener
    raise ImageError(f"{name}: not an image that this version reads ({FORMATS})")


def decode(content: bytes, name: str, max_pixels: int | None) -> tuple[ByteArray, str | None]:
    """The first picture of a file's content.

    Args:
        content: of the file.
        name: for messages.
        max_pixels: the limit; None: Pillow's.

    Returns:
        Read-only uint8 pixels, grey [H, W] or RGB [H, W, 3], the right way up; and what reading changed, in words.

    Raises:
        ImageError: not an image, too large, damaged or truncated.
    """
    is_tiff = _opener(content[:_SIGNATURE_BYTES], name) is TiffImagePlugin.TiffImageFile
    with _decoder_errors(name), tiff_files.quiet() if is_tiff else contextlib.nullcontext():
        image, orientation = _opened(content, name, max_pixels)
        pixels, note = pixels_of(image, name)
    notes = [note] if note else []
    if orientation in _ORIENTATIONS:
        turn, words = _ORIENTATIONS[orientation]
        # Pillow turns TIFF images itself while it loads them.
        pixels = pixels if is_tiff else turn(pixels)
        notes.insert(0, f"EXIF orientation {orientation} applied ({words})")
    pixels.flags.writeable = False
    return pixels, "; ".join(notes) or None


def upright_size(content: bytes, name: str) -> tuple[int, int]:
    """(height, width) px of what `decode` gives; of JPEG and PNG read from the file's head alone.

    Raises:
        ImageError: not an image, too large, or damaged where it was looked at.
    """
    opener = _opener(content[:_SIGNATURE_BYTES], name)
    if opener not in (JpegImagePlugin.JpegImageFile, PngImagePlugin.PngImageFile):
        height, width = decode(content, name, None)[0].shape[:2]
        return height, width
    with _decoder_errors(name):
        image, orientation = _opened(content, name, None)
    width, height = image.size
    return (width, height) if orientation in _SIDEWAYS else (height, width)


def _opened(content: bytes, name: str, max_pixels: int | None) -> tuple[ImageFile.ImageFile, int]:
    """The picture before its pixels are decoded, and its EXIF orientation."""
    opener = _opener(content[:_SIGNATURE_BYTES], name)
    exif = b""
    is_tiff = opener is TiffImagePlugin.TiffImageFile
    if opener is JpegImagePlugin.JpegImageFile:
        content, exif = _split_jpeg_exif(content)
    elif opener is PngImagePlugin.PngImageFile:
        content = _without_animation(content)
    elif opener is GifImagePlugin.GifImageFile:
        check_pixels(_gif_extent(content), max_pixels, name)
    elif is_tiff:
        content = tiff_files.prepared(content, name)
    image = opener(io.BytesIO(content), "")
    check_pixels(image.size, max_pixels, name)
    orientation = (
        image.tag_v2.get(_ORIENTATION_TAG, 1)  # type: ignore[attr-defined]
        if is_tiff
        else _exif_orientation(exif or image.info.get("exif", b""))
    )
    return image, orientation


@contextlib.contextmanager
def _decoder_errors(name: str) -> Iterator[None]:
    """Turns what Pillow raises about broken content into an ImageError."""
    try:
        yield
    except ImageError:
        raise
    except DECODER_ERRORS as e:
        raise ImageError(f"{name}: damaged, truncated or of an unknown kind: {reason(e)}") from e


def check_pixels(size: tuple[int, int], max_pixels: int | None, name: str) -> None:
    """Raises ImageError for a (width, height) above the limit; None: Pillow's `MAX_IMAGE_PIXELS`."""
    limit = PilImage.MAX_IMAGE_PIXELS if max_pixels is None else max_pixels
    width, height = size
    if width < 1 or height < 1:
        raise ImageError(f"{name}: the image is {width}x{height} px")
    if limit is not None and width * height > limit:
        raise ImageError(
            f"{name}: {width}x{height} px is more than the limit of {limit:,} px against decompression bombs; "
            "raise max_pixels if you trust the file"
        )


def pixels_of(image: PilImage.Image, name: str) -> tuple[ByteArray, str | None]:
    """8-bit grey [H, W] or RGB [H, W, 3], and what was lost on the way."""
    image.load()  # a PNG may tell behind its pixels that a colour of them is transparent
    mode = image.mode
    note = None
    if mode.startswith("I;16") or (mode == "I" and getattr(image, "format", None) in ("PNG", "PPM")):
        # Older Pillow hands out 16-bit grey files as 32-bit "I".
        return (np.asarray(image) >> 8).astype(np.uint8), "16-bit grey reduced to its high byte"
    if mode in ("I", "F"):
        raise ImageError(
            f"{name}: pixels are {'32-bit integers' if mode == 'I' else 'floats'} of unknown range; "
            "scale them to uint8 0..255 first"
        )
    if mode in ("LA", "La", "PA", "RGBA", "RGBa") or (mode in ("P", "L", "RGB") and "transparency" in image.info):
        note = "alpha channel dropped"
    if mode in ("L", "RGB"):
        converted = image
    elif mode in ("1", "LA"):
        converted = image.convert("L")
    elif mode == "La":
        converted = image.convert("LA").convert("L")
    elif mode == "RGBa" or note:
        # By way of RGBA: Pillow warns when it drops a palette's transparency directly.
        converted = (image if mode == "RGBA" else image.convert("RGBA")).convert("RGB")
    elif mode in ("P", "CMYK", "YCbCr", "HSV", "RGBX"):
        converted = image.convert("RGB")
        note = "CMYK converted without a colour profile" if mode == "CMYK" else None
    else:
        raise ImageError(f"{name}: pixels of mode {mode!r} are not supported; convert them to RGB first")
    return cast("ByteArray", np.asarray(converted)), note


_ORIENTATION_TAG = 0x0112
_Turn: TypeAlias = Callable[[ByteArray], ByteArray]
_ORIENTATIONS: dict[int, tuple[_Turn, str]] = {
    2: (lambda a: a[:, ::-1], "mirrored"),
    3: (lambda a: a[::-1, ::-1], "rotated by 180 degrees"),
    4: (lambda a: a[::-1], "flipped"),
    5: (lambda a: a.swapaxes(0, 1), "transposed"),
    6: (lambda a: a.swapaxes(0, 1)[:, ::-1], "rotated by 90 degrees clockwise"),
    7: (lambda a: a.swapaxes(0, 1)[::-1, ::-1], "transposed and rotated by 180 degrees"),
    8: (lambda a: a.swapaxes(0, 1)[::-1], "rotated by 90 degrees anticlockwise"),
}
_SIDEWAYS = frozenset({5, 6, 7, 8})


def _split_jpeg_exif(content: bytes) -> tuple[bytes, bytes]:
    """The file with its Exif segments hidden from Pillow, and the first one's content.

    Pillow looks into Exif data already while it opens a JPEG, and warns where they are damaged.
    """
    exif = b""
    at = content.find(b"Exif\0\0")
    while at >= 4:
        if content[at - 4 : at - 2] == b"\xff\xe1":  # no pixels: among those 0xFF is followed by 0 or a restart
            exif = exif or content[at : at - 2 + int.from_bytes(content[at - 2 : at], "big")]
            content = content[: at - 3] + b"\xef" + content[at - 2 :]  # APP15, which nothing reads
        at = content.find(b"Exif\0\0", at + 1)
    return content, exif


def _gif_extent(content: bytes) -> tuple[int, int]:
    """(width, height) up to which the first picture of a GIF reaches, which may be more than the file says first."""
    try:
        width, height, flags = struct.unpack_from("<HHB", content, 6)
        at = 13 + ((6 << (flags & 7)) if flags & 0x80 else 0)
        while content[at] != 0x2C:  # an image; or an extension, in blocks, or what is passed over
            if content[at] == 0x21:
                at += 2
                while content[at]:
                    at += content[at] + 1
            at += 1
        left, top, wide, high = struct.unpack_from("<HHHH", content, at + 1)
    except (struct.error, IndexError):
        return 1, 1  # cut short, which the decoder will say
    return max(width, left + wide, 1), max(height, top + high, 1)


def _without_animation(content: bytes) -> bytes:
    """A PNG without its animation's control chunk: the picture is the same, and Pillow warns where that is damaged."""
    at = 8 if b"acTL" in content else len(content)
    while at + 12 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, at)
        if kind == b"acTL":
            content = content[:at] + content[at + 12 + length :]
        else:
            at += 12 + length
    return content


def _exif_orientation(exif: bytes) -> int:
    """The orientation, 1..8, in EXIF data; 1 where it is absent or the data are damaged."""
    data = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        return 1
    try:
        (directory,) = struct.unpack_from(order + "I", data, 4)
        (count,) = struct.unpack_from(order + "H", data, directory)
        for entry in range(count):
            tag, kind, _, value = struct.unpack_from(order + "HHIH", data, directory + 2 + 12 * entry)
            if tag == _ORIENTATION_TAG and kind == 3:
                return int(value)
    except struct.error:
        pass  # cut short: as good as absent
    return 1


def reason(error: BaseException) -> str:
    """One line that says what went wrong, without Python's own decoration."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__
