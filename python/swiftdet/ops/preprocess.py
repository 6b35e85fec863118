"""From source pixels to the network's input: resizing and letterboxing, equal to OpenCV in every value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args, overload

import numpy as np
import numpy.typing as npt

from swiftdet import _core, checks
from swiftdet.errors import InvalidArgument, InvalidType
from swiftdet.ops.device import chosen
from swiftdet.spec import Interpolation, ResizeMode

ColorOrder = Literal["bgr", "rgb"]

_MAX_SIDE = 65535
_MODES = get_args(ResizeMode)
_INTERPOLATIONS = get_args(Interpolation)


class LetterboxMeta(NamedTuple):
    """Where the source image lies in the network's input: `x_input = x_source * scale_x + pad_left`.

    Attributes:
        scale_x: input px per source px, horizontally. In the letterbox modes both scales are `min(W / w, H / h)`,
            not the ratio of the rounded sizes.
        scale_y: the same, vertically.
        pad_left: border to the left of the image, in px of the input.
        pad_top: border above the image, in px of the input.
    """

    scale_x: float
    scale_y: float
    pad_left: int
    pad_top: int


def resize(
    image: npt.NDArray[np.uint8],
    size: tuple[int, int],
    *,
    interpolation: Interpolation = "linear",
    device: str = "cpu",
) -> npt.NDArray[np.uint8]:
    """Resizes an image as `cv2.resize` does, equal in every value.

    Args:
        image: uint8 [H, W], [H, W, 1], [H, W, 3] or [H, W, 4], any strides, sides of 1 to 65535 px. Not modified.
        size: (height, width) of the result in px. Mind the order: OpenCV's is (width, height).
        interpolation: "linear" (INTER_LINEAR) or "area" (INTER_AREA).
        device: "cpu", or "cuda" or "cuda:N" for the same result from a GPU: a tool for comparison and convenience, as
            each call brings its arrays there and back and keeps nothing.

    Returns:
        A new uint8 array of the image's rank and channels. Equal sizes give a copy.

    Raises:
        InvalidType: `image` is not a uint8 array, or `size` is not two integers.
        InvalidArgument: rank, channels, a side or an option is outside the above.
        BackendUnavailable: a GPU was asked for, and driver, GPU or CUDA part is missing.
        CudaError, OutOfMemory: the GPU failed, or has no memory left.

    Computes with the GIL released, on the CPU on the calling thread; safe from several threads.

    Example:
        >>> import numpy as np
        >>> resize(np.zeros((1080, 1920, 3), np.uint8), (360, 640)).shape
        (360, 640, 3)
    """
    core, where = chosen(device)
    resized: npt.NDArray[np.uint8] = core.resize(
        _as_array(image),
        _as_size(size),
        interpolation=checks.choice("interpolation", interpolation, _INTERPOLATIONS),
        **where,
    )
    return resized


@overload
def letterbox(
    image: npt.NDArray[np.uint8],
    size: tuple[int, int],
    *,
    mode: ResizeMode = ...,
    interpolation: Interpolation = ...,
    pad_value: int = ...,
    color: ColorOrder = ...,
    dtype: Literal["float32"] = ...,
    divisor: float = ...,
    mean: Sequence[float] = ...,
    std: Sequence[float] = ...,
    device: str = ...,
    out: npt.NDArray[np.float32] | None = ...,
) -> tuple[npt.NDArray[np.float32], LetterboxMeta]: ...
@overload
def letterbox(
    image: npt.NDArray[np.uint8],
    size: tuple[int, int],
    *,
    mode: ResizeMode = ...,
    interpolation: Interpolation = ...,
    pad_value: int = ...,
    color: ColorOrder = ...,
    dtype: Literal["uint8"],
    device: str = ...,
    out: npt.NDArray[np.uint8] | None = ...,
) -> tuple[npt.NDArray[np.uint8], LetterboxMeta]: ...
def letterbox(
    image: npt.NDArray[np.uint8],
    size: tuple[int, int],
    *,
    mode: ResizeMode = "letterbox",
    interpolation: Interpolation = "linear",
    pad_value: int = 114,
    color: ColorOrder = "bgr",
    dtype: Literal["float32", "uint8"] = "float32",
    divisor: float = 255.0,
    mean: Sequence[float] = (0.0, 0.0, 0.0),
    std: Sequence[float] = (1.0, 1.0, 1.0),
    device: str = "cpu",
    out: npt.NDArray[Any] | None = None,
) -> tuple[npt.NDArray[Any], LetterboxMeta]:
    """Makes a network's input of an image in one pass: resize, border, RGB planes, scaling.

    The pixels equal `cv2.resize` followed by `cv2.copyMakeBorder`; the values are `(u8 / divisor - mean) / std` in
    float32, each step correctly rounded. Where the resized size is the image's own, nothing is resampled.

    Args:
        image: uint8 [H, W], [H, W, 1], [H, W, 3] or [H, W, 4], any strides, sides of 1 to 65535 px. Not modified.
            Grey is repeated, alpha ignored.
        size: (height, width) of the network's input in px.
        mode: "letterbox" keeps the aspect and centres the image (an odd px of border goes below or to the right),
            "letterbox-topleft" keeps the aspect and starts at the top left corner, "stretch" fills the input.
        interpolation: "linear" (INTER_LINEAR) or "area" (INTER_AREA).
        pad_value: grey level of the border, 0 to 255, scaled like a pixel.
        color: channel order of the image, "bgr" or "rgb".
        dtype: "float32", or "uint8" for the values before scaling.
        divisor: see above; finite, not 0.
        mean: see above; R, G, B.
        std: see above; R, G, B, none 0.
        device: "cpu", or "cuda" or "cuda:N" for the same result from a GPU: a tool for comparison and convenience, as
            each call brings its arrays there and back and keeps nothing.
        out: array to fill instead of a new one: C-contiguous, writable, of `dtype`, [3, height, width], not
            overlapping `image`.

    Returns:
        The input [3, height, width], RGB planes, C-contiguous (`out` itself if given), and where the image lies in it.

    Raises:
        InvalidType: `image` is not a uint8 array, `size` is not two integers, `out` is of another dtype or layout.
        InvalidArgument: rank, channels, a side, an option or the shape of `out` is outside the above.
        BackendUnavailable: a GPU was asked for, and driver, GPU or CUDA part is missing.
        CudaError, OutOfMemory: the GPU failed, or has no memory left.

    Computes with the GIL released, on the CPU on the calling thread; safe from several threads.

    Source of the geometry: letterbox() of the official YOLOv7 pipeline.

    Example:
        >>> import numpy as np
        >>> tensor, meta = letterbox(np.zeros((1080, 1920, 3), np.uint8), (640, 640))
        >>> tensor.shape, meta.pad_left, meta.pad_top
        ((3, 640, 640), 0, 140)
    """
    core, where = chosen(device)
    preprocess = _core.Preprocess(
        mode=checks.choice("mode", mode, _MODES),
        interpolation=checks.choice("interpolation", interpolation, _INTERPOLATIONS),
        pad_value=checks.whole("pad_value", pad_value, lowest=0, highest=255),
        divisor=_number("divisor", divisor),
        mean=_three(mean, "mean"),
        std=_three(std, "std"),
    )
    tensor, meta = core.letterbox(
        _as_array(image),
        _as_size(size),
        preprocess,
        color=checks.choice("color", color, ("bgr", "rgb")),
        dtype=checks.choice("dtype", dtype, ("float32", "uint8")),
        out=out,
        **where,
    )
    return tensor, LetterboxMeta(*meta)


def _as_array(image: object) -> npt.NDArray[Any]:
    if isinstance(image, np.ndarray):
        return image
    if hasattr(image, "__array__"):  # a torch tensor on the CPU, a PIL image
        return np.asarray(image)
    raise InvalidType(f"image: expected a uint8 array [H, W, 3], got {type(image).__name__}")


def _as_size(size: tuple[int, int]) -> tuple[int, int]:
    try:
        height, width = size
    except (TypeError, ValueError) as e:
        raise InvalidType(f"size: expected two integers (height, width), got {checks.shown(size)}") from e
    return (
        checks.whole("size: height", height, highest=_MAX_SIDE),
        checks.whole("size: width", width, highest=_MAX_SIDE),
    )


def _number(name: str, value: float) -> float:
    try:
        return float(value)
    except (TypeError, ValueError) as e:
        raise InvalidType(f"{name}: expected a number, got {checks.shown(value)}") from e
    except OverflowError as e:
        raise InvalidArgument(f"{name}: expected a finite number, got {checks.shown(value)}") from e


def _three(values: Sequence[float], what: str) -> tuple[float, float, float]:
    try:
        red, green, blue = (float(value) for value in values)
    except (TypeError, ValueError) as e:
        raise InvalidType(f"{what}: expected three numbers (R, G, B), got {checks.shown(values)}") from e
    except OverflowError as e:
        raise InvalidArgument(f"{what}: expected finite numbers, got {checks.shown(values)}") from e
    return red, green, blue
