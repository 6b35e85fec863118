"""Reads images of every kind into uint8 pixels: arrays, PIL images, files and encoded bytes."""

from __future__ import annotations

import io
import os
import stat
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeAlias, cast

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

from swiftdet.errors import BackendUnavailable, ImageError, InvalidArgument, InvalidType

try:
    from PIL import AvifImagePlugin
except ImportError:  # part of Pillow since 11.3
    AvifImagePlugin = None  # type: ignore[assignment,unused-ignore]

Color = Literal["bgr", "rgb"]
ByteArray: TypeAlias = npt.NDArray[np.uint8]

SUFFIXES = frozenset(
    (
        *(".avif", ".bmp", ".dib", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".mpo"),
        *(".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"),
    )
)
"""Suffixes, in lower case, under which `sources` looks for images; `load` goes by content instead."""

FORMATS = "JPEG, PNG, WebP, BMP, GIF, TIFF, PPM, JPEG 2000" + (", AVIF" if AvifImagePlugin else "")
"""What `load` reads, in words."""

_WRITABLE = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP", ".bmp": "BMP"}


@dataclass(frozen=True, slots=True, eq=False)
class Image:
    """Decoded pixels and where they came from.

    Attributes:
        pixels: uint8 [H, W] or [H, W, C], C = 1 (grey), 3 or 4 (the fourth is ignored); any strides. Borrowed
            where the source was an array, read-only where it was decoded.
        order: of the first three channels.
        path: the file, or None.
        note: what reading changed: an EXIF rotation, a dropped alpha channel, 16 bits reduced to 8; or None.
    """

    pixels: ByteArray
    order: Color = "bgr"
    path: str | None = None
    note: str | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in px."""
        return (self.pixels.shape[0], self.pixels.shape[1])

    def bgr(self) -> ByteArray:
        """Uint8 [H, W, 3] BGR: the pixels themselves or a view of them; a copy for grey images only."""
        pixels = self.pixels if self.pixels.ndim == 3 else self.pixels[:, :, None]
        if pixels.shape[2] == 1:
            return np.repeat(pixels, 3, axis=2)
        return pixels[:, :, :3] if self.order == "bgr" else pixels[:, :, 2::-1]


def load(source: Any, *, color: Color = "bgr", max_pixels: int | None = None) -> Image:
    """Reads one image.

    Files and bytes are recognised by content. Their EXIF orientation is applied and noted; an alpha channel is
    dropped, not composited (the colours under it show, as with OpenCV); palettes are resolved; CMYK is converted
    without a colour profile; 16-bit images keep the high byte of each sample; of an animation or a multi-page
    file the first picture is read. 32-bit and float images are refused. A truncated file is an error (unless the
    process set Pillow's `LOAD_TRUNCATED_IMAGES`). `PIL.Image` objects are taken as they show, orientation tag or not.

    Arrays are borrowed, everything else is decoded into new memory. Safe from several threads; changes no global
    state of Pillow or Python.

    Args:
        source: uint8 array [H, W] or [H, W, 1 | 3 | 4] of any strides, or an object with `__array__` (a torch CPU
            tensor) that gives one; `PIL.Image`; path; encoded file content as bytes, bytearray or memoryview.
        color: channel order of arrays; files know theirs.
        max_pixels: larger images are refused before they are decoded; None: Pillow's `Image.MAX_IMAGE_PIXELS`
            (89,478,485 unless the process changed it).

    Raises:
        ImageError: missing, empty, truncated, too large, or not an image.
        InvalidArgument: an array of the wrong shape, an unknown `color`.
        InvalidType: an array of the wrong dtype, an object that is no image.
        BackendUnavailable: an array in GPU memory.
    """
    if color not in ("bgr", "rgb"):
        raise InvalidArgument(f"color: expected 'bgr' or 'rgb', got {color!r}")
    if isinstance(source, np.ndarray):
        return _from_array(source, color)
    if isinstance(source, str | os.PathLike):
        return _from_path(os.fspath(source), max_pixels)
    if isinstance(source, bytes | bytearray | memoryview):
        content = bytes(source)
        if not content:
            raise ImageError("encoded image: expected the content of an image file, got 0 bytes")
        return _decode(content, None, max_pixels)
    if isinstance(source, PilImage.Image):
        return _from_pil(source, max_pixels)
    if hasattr(source, "__cuda_array_interface__"):
        raise BackendUnavailable(
            f"image in GPU memory ({type(source).__name__}): this build reads host memory only; "
            "pass a host array, for instance image.cpu().numpy()"
        )
    if hasattr(source, "__array__"):
        return _from_array(_as_array(source), color)
    raise InvalidType(f"image: expected an array, PIL.Image, path or encoded bytes, got {_hint(source)}")


def save(bgr: ByteArray, path: str | Path) -> Path:
    """Writes a picture, uint8 [H, W, 3] BGR, in the format of its suffix; JPEG and WebP at quality 95.

    Raises:
        ImageError: the suffix is none of .jpg .jpeg .png .webp .bmp, or the file cannot be written.
    """
    file = Path(path)
    kind = _WRITABLE.get(file.suffix.lower())
    if kind is None:
        raise ImageError(f"{file}: expected a picture suffix ({' '.join(_WRITABLE)}), got {file.suffix!r}")
    try:
        PilImage.fromarray(np.ascontiguousarray(bgr[:, :, ::-1])).save(file, format=kind, quality=95)
    except (OSError, ValueError) as e:
        raise ImageError(f"{file}: cannot write the picture: {_reason(e)}") from e
    return file


def _hint(source: object) -> str:
    name = type(source).__name__
    if isinstance(source, list | tuple):
        return f"a {name}; a list of images goes to the detector as det([...])"
    if hasattr(source, "read"):
        return f"{name}; pass the content: file.read()"
    return name


def _as_array(source: Any) -> npt.NDArray[Any]:
    try:
        return np.asarray(source)
    except (TypeError, ValueError, RuntimeError) as e:
        raise InvalidType(f"image: {type(source).__name__} does not convert to an array: {_reason(e)}") from e


def _from_array(array: npt.NDArray[Any], color: Color) -> Image:
    shape = list(array.shape)
    if array.dtype != np.uint8:
        advice = (
            "scale it to 0..255 first: (image * 255).round().astype(np.uint8)"
            if np.issubdtype(array.dtype, np.floating)
            else "convert it with image.astype(np.uint8) if its values are 0..255"
        )
        raise InvalidType(f"image: expected uint8 pixels, got {array.dtype} {shape}; {advice}")
    if array.ndim == 4:
        raise InvalidArgument(f"image: expected [H, W, 3], got a batch {shape}; pass list(images) instead")
    if array.ndim not in (2, 3) or (array.ndim == 3 and shape[2] not in (1, 3, 4)):
        chw = array.ndim == 3 and shape[0] in (1, 3, 4)
        advice = "; it looks like [C, H, W]: pass image.transpose(1, 2, 0)" if chw else ""
        raise InvalidArgument(f"image: expected [H, W] or [H, W, 1 | 3 | 4], got {shape}{advice}")
    if 0 in shape:
        raise InvalidArgument(f"image: expected at least 1x1 px, got {shape}")
    return Image(array, color)


def _from_path(path: str | bytes, max_pixels: int | None) -> Image:
    name = os.fsdecode(path)
    if name.lower().startswith(("http://", "https://", "rtsp://", "ftp://", "s3://", "gs://")):
        raise ImageError(f"{name}: swiftdet reads local files only; download it first")
    try:
        with Path(name).open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
                raise ImageError(f"{name}: expected an image file, got a device or socket")
            head = file.read(_SIGNATURE_BYTES)
            # Decided on the first bytes, so that a huge file of another kind is not read.
            _opener(head, name)
            content = head + file.read()
    except FileNotFoundError as e:
        raise ImageError(f"{name}: no such file") from e
    except IsADirectoryError as e:
        raise ImageError(f"{name}: is a directory; det.predict({name!r}) reads all images in it") from e
    except (OSError, ValueError) as e:
        raise ImageError(f"{name}: cannot read the file: {_reason(e)}") from e
    return _decode(content, name, max_pixels)


def _from_pil(image: PilImage.Image, max_pixels: int | None) -> Image:
    _check_pixels(image.size, max_pixels, "PIL image")
    try:
        pixels, note = _pixels(image, "PIL image")
    except ImageError:
        raise
    except _DECODER_ERRORS as e:
        raise ImageError(f"PIL image: cannot decode: {_reason(e)}") from e
    return Image(pixels, "rgb", None, note)


# --- files -----------------------------------------------------------------------------------------------------

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
_DECODER_ERRORS = (
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


def _decode(content: bytes, path: str | None, max_pixels: int | None) -> Image:
    name = path or "encoded image"
    opener = _opener(content[:_SIGNATURE_BYTES], name)
    exif = b""
    if opener is JpegImagePlugin.JpegImageFile:
        content, exif = _split_jpeg_exif(content)
    try:
        image = opener(io.BytesIO(content), "")
        _check_pixels(image.size, max_pixels, name)
        is_tiff = image.format == "TIFF"
        orientation = (
            image.tag_v2.get(_ORIENTATION_TAG, 1)  # type: ignore[attr-defined]
            if is_tiff
            else _exif_orientation(exif or image.info.get("exif", b""))
        )
        pixels, note = _pixels(image, name)
    except ImageError:
        raise
    except _DECODER_ERRORS as e:
        raise ImageError(f"{name}: damaged or truncated image: {_reason(e)}") from e
    notes = [note] if note else []
    if orientation in _ORIENTATIONS:
        turn, words = _ORIENTATIONS[orientation]
        # Pillow turns TIFF images itself while it loads them.
        pixels = pixels if is_tiff else turn(pixels)
        notes.insert(0, f"EXIF orientation {orientation} applied ({words})")
    pixels.flags.writeable = False
    return Image(pixels, "rgb", path, "; ".join(notes) or None)


def _check_pixels(size: tuple[int, int], max_pixels: int | None, name: str) -> None:
    limit = PilImage.MAX_IMAGE_PIXELS if max_pixels is None else max_pixels
    width, height = size
    if width < 1 or height < 1:
        raise ImageError(f"{name}: the image is {width}x{height} px")
    if limit is not None and width * height > limit:
        raise ImageError(
            f"{name}: {width}x{height} px is more than the limit of {limit:,} px against decompression bombs; "
            "raise max_pixels if you trust the file"
        )


def _pixels(image: PilImage.Image, name: str) -> tuple[ByteArray, str | None]:
    """8-bit grey [H, W] or RGB [H, W, 3], and what was lost on the way."""
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


# --- EXIF orientation ------------------------------------------------------------------------------------------

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


def _split_jpeg_exif(content: bytes) -> tuple[bytes, bytes]:
    """The file with its Exif segment hidden from Pillow, and that segment's content.

    Pillow looks into Exif data already while it opens a JPEG, and warns where they are damaged.
    """
    at = 2
    while at + 10 <= len(content) and content[at] == 0xFF:
        marker = content[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if marker in (0xD9, 0xDA):  # end of image, start of scan
            break
        length = int.from_bytes(content[at + 2 : at + 4], "big")
        if marker == 0xE1 and content[at + 4 : at + 10] == b"Exif\0\0":
            hidden = bytearray(content)
            hidden[at + 1] = 0xEF  # APP15, which nothing reads
            return bytes(hidden), content[at + 4 : at + 2 + length]
        at += 2 + length
    return content, b""


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


def _reason(error: BaseException) -> str:
    """One line that says what went wrong, without Python's own decoration."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__
