"""Images that are in the memory of a GPU already: described by their owner, read there, never copied to the host."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from swiftdet.errors import BackendUnavailable, InvalidArgument, InvalidType

Color = Literal["bgr", "rgb"]


@dataclass(frozen=True, slots=True, eq=False)
class DeviceImage:
    """An image on a GPU, with what `swiftdet.images.Image` has, as far as that can be.

    Attributes:
        owner: the object that keeps the pixels alive.
        pointer: address of the first pixel in device memory.
        size: (height, width) in px.
        channels: 1, 3 or 4.
        row_stride: bytes from row to row.
        stream: CUDA stream whose work makes the pixels, by the numbers of `__cuda_array_interface__`; None: they are
            there.
        order: of the first three channels.
    """

    owner: Any
    pointer: int
    size: tuple[int, int]
    channels: int
    row_stride: int
    stream: int | None
    order: Color = "bgr"

    @property
    def path(self) -> None:
        """No file."""
        return

    @property
    def note(self) -> None:
        """Nothing was changed."""
        return

    @property
    def frame(self) -> None:
        """No frame of a video."""
        return

    def bgr(self) -> npt.NDArray[np.uint8]:
        """Never returns.

        Raises:
            BackendUnavailable: the pixels are on the GPU; drawing needs them on the host.
        """
        raise BackendUnavailable(
            "the picture of this result is in GPU memory; to draw on it, detect in a host copy, or draw on one yourself"
        )


def is_on_device(source: object) -> bool:
    """Whether an object says that its memory is a GPU's."""
    return hasattr(source, "__cuda_array_interface__")


def describe(source: Any, color: Color) -> DeviceImage:
    """Reads `__cuda_array_interface__`: CuPy, PyTorch, Numba and others have it. Copies nothing and asks no GPU.

    Args:
        source: uint8 [H, W] or [H, W, 1 | 3 | 4], its pixels back to back within a row, rows in ascending order.
        color: order of its channels.

    Raises:
        InvalidType: not uint8.
        InvalidArgument: another shape, strides as above are not met, or no memory.
    """
    interface = source.__cuda_array_interface__
    shape = tuple(int(side) for side in interface["shape"])
    if str(interface["typestr"])[1:] != "u1":
        raise InvalidType(
            f"image in GPU memory: expected uint8, got {interface['typestr']!r}; scale it to 0..255 and convert it"
        )
    if not (len(shape) == 2 or (len(shape) == 3 and shape[2] in {1, 3, 4})) or not all(1 <= s <= 65535 for s in shape):
        raise InvalidArgument(
            f"image in GPU memory: expected [H, W], [H, W, 3] or [H, W, 4] of 1 to 65535 px a side, got {list(shape)}"
            + ("; permute [3, H, W] to [H, W, 3] and make it contiguous" if len(shape) == 3 and shape[0] == 3 else "")
        )
    channels = shape[2] if len(shape) == 3 else 1
    packed = (shape[1] * channels, channels, 1)[: len(shape)]
    strides = tuple(int(step) for step in interface.get("strides") or packed)
    if strides[1:] != packed[1:] or strides[0] < packed[0]:
        raise InvalidArgument(
            f"image in GPU memory: expected pixels back to back and rows in ascending order, got strides "
            f"{list(strides)} for {list(shape)}; make a contiguous copy"
        )
    pointer = int(interface["data"][0])
    if pointer == 0:
        raise InvalidArgument("image in GPU memory: its address is null")
    stream = interface.get("stream")
    if stream == 0:
        raise InvalidArgument(
            "image in GPU memory: stream 0 is ambiguous; its owner must say 1 (legacy) or 2 (per thread)"
        )
    return DeviceImage(source, pointer, (shape[0], shape[1]), channels, strides[0], stream, color)
