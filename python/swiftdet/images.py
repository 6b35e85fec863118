"""Reads images of every kind into uint8 pixels: arrays, PIL images, files and encoded bytes."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image as PilImage

from swiftdet import device_images, image_files
from swiftdet.errors import BackendUnavailable, ImageError, InvalidArgument, InvalidType, SwiftdetError
from swiftdet.frames import FrameInfo

Color = Literal["bgr", "rgb"]
ByteArray: TypeAlias = npt.NDArray[np.uint8]

_UINT8 = np.dtype(np.uint8)
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
        frame: which frame of which video; None for stills.
    """

    pixels: ByteArray
    order: Color = "bgr"
    path: str | None = None
    note: str | None = None
    frame: FrameInfo | None = None

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
        source: uint8 array [H, W] or [H, W, 1 | 3 | 4] of any strides, or an object with `__array__` or
            `__dlpack__` (a torch CPU tensor) that gives one; `PIL.Image`; path; encoded file content as bytes,
            bytearray or memoryview.
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
        path = os.fsdecode(source)
        pixels, note = image_files.decode(image_files.read(path), path, max_pixels)
        return Image(pixels, "rgb", path, note)
    if isinstance(source, bytes | bytearray | memoryview):
        content = bytes(source)
        if not content:
            raise ImageError("encoded image: expected the content of an image file, got 0 bytes")
        pixels, note = image_files.decode(content, "encoded image", max_pixels)
        return Image(pixels, "rgb", None, note)
    if isinstance(source, PilImage.Image):
        return _from_pil(source, max_pixels)
    if device_images.is_on_device(source):
        raise BackendUnavailable(
            f"image in GPU memory ({type(source).__name__}): this needs a detector on that GPU (device='cuda'); "
            "pass a host array, for instance image.cpu().numpy()"
        )
    if hasattr(source, "__array__"):
        return _from_array(_as_array(source, np.asarray), color)
    if hasattr(source, "__dlpack__"):
        return _from_array(_as_array(source, np.from_dlpack), color)
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
        raise ImageError(f"{file}: cannot write the picture: {image_files.reason(e)}") from e
    return file


def _hint(source: object) -> str:
    name = type(source).__name__
    if isinstance(source, list | tuple):
        return f"a {name}; a list of images goes to the detector as det([...])"
    if hasattr(source, "read"):
        return f"{name}; pass the content: file.read()"
    return name


def _as_array(source: Any, convert: Callable[[Any], npt.NDArray[Any]]) -> npt.NDArray[Any]:
    try:
        return convert(source)
    except SwiftdetError:  # an object of ours that reads when it is asked says itself what is wrong
        raise
    except (AttributeError, BufferError, TypeError, ValueError, RuntimeError) as e:
        raise InvalidType(
            f"image: {type(source).__name__} does not convert to an array: {image_files.reason(e)}"
        ) from e


def _from_array(array: npt.NDArray[Any], color: Color) -> Image:
    shape = array.shape
    known = len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3, 4))
    if known and array.dtype == _UINT8 and 0 not in shape:
        return Image(array, color)
    raise _array_error(array.dtype, list(shape))


def _array_error(dtype: np.dtype[Any], shape: list[int]) -> InvalidType | InvalidArgument:
    """What is wrong with an array of that type and shape, and what to do about it."""
    if dtype != _UINT8:
        advice = (
            "scale it to 0..255 first: (image * 255).round().astype(np.uint8)"
            if np.issubdtype(dtype, np.floating)
            else "convert it with image.astype(np.uint8) if its values are 0..255"
        )
        return InvalidType(f"image: expected uint8 pixels, got {dtype} {shape}; {advice}")
    if len(shape) == 4:
        return InvalidArgument(f"image: expected [H, W, 3], got a batch {shape}; pass list(images) instead")
    if len(shape) in (2, 3) and 0 in shape:
        return InvalidArgument(f"image: expected at least 1x1 px, got {shape}")
    chw = len(shape) == 3 and shape[0] in (1, 3, 4)
    advice = "; it looks like [C, H, W]: pass image.transpose(1, 2, 0)" if chw else ""
    return InvalidArgument(f"image: expected [H, W] or [H, W, 1 | 3 | 4], got {shape}{advice}")


def _from_pil(image: PilImage.Image, max_pixels: int | None) -> Image:
    image_files.check_pixels(image.size, max_pixels, "PIL image")
    try:
        pixels, note = image_files.pixels_of(image, "PIL image")
    except ImageError:
        raise
    except image_files.DECODER_ERRORS as e:
        raise ImageError(f"PIL image: cannot decode: {image_files.reason(e)}") from e
    return Image(pixels, "rgb", None, note)
