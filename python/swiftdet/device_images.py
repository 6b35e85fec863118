"""Images that are in the memory of a GPU already: described by their owner, read there, never copied to the host."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from swiftdet.errors import BackendUnavailable, InvalidArgument, InvalidType

Color = Literal["bgr", "rgb"]

_CUDA = frozenset((2, 13))
"""DLPack's device types of memory that a GPU reads: its own, and memory that CUDA moves between it and the host."""
_DLPACK_VERSION = (1, 0)
_UINT8 = (1, 8, 1)
_TYPE_NAMES = {0: "int", 1: "uint", 2: "float", 4: "bfloat", 5: "complex", 6: "bool"}


class Loan(Protocol):
    """Something borrowed."""

    def release(self) -> None:
        """Gives it back; later calls do nothing."""


class StreamLoan(Loan, Protocol):
    """A CUDA stream on loan."""

    @property
    def handle(self) -> int:
        """Its address."""


class Tensor(Loan, Protocol):
    """What a DLPack capsule holds, owned: `_cuda.DlpackTensor`."""

    @property
    def device(self) -> tuple[int, int]:
        """Type and index."""

    @property
    def dtype(self) -> tuple[int, int, int]:
        """Code, bits, lanes."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Sides."""

    @property
    def strides(self) -> tuple[int, ...] | None:
        """In elements; None: packed."""

    @property
    def pointer(self) -> int:
        """Address of the first element."""


@dataclass(slots=True, eq=False)
class DeviceImage:
    """An image on a GPU, with what `swiftdet.images.Image` has, as far as that can be.

    Attributes:
        owner: the object that keeps the pixels alive, until `release`.
        pointer: address of the first pixel in device memory.
        size: (height, width) in px.
        channels: 1, 3 or 4.
        row_stride: bytes from row to row.
        stream: CUDA stream whose work makes the pixels, by the numbers of `__cuda_array_interface__`; None: they are
            there.
        order: of the first three channels.
        loans: what `release` gives back.
    """

    owner: Any
    pointer: int
    size: tuple[int, int]
    channels: int
    row_stride: int
    stream: int | None
    order: Color = "bgr"
    loans: tuple[Loan, ...] = ()

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

    def release(self) -> None:
        """Gives the memory back to its owner: nothing reads it any more. A result does not keep it."""
        loans, self.loans, self.owner = self.loans, (), None
        for loan in loans:
            loan.release()


def is_on_device(source: object) -> bool:
    """Whether an object says that its memory is a GPU's.

    Raises:
        InvalidArgument: it does not say by DLPack where its memory is, though it has the method for it.
    """
    if isinstance(source, np.ndarray):
        return False
    return hasattr(source, "__cuda_array_interface__") or _dlpack_device(source) is not None


def borrow(
    source: Any,
    color: Color,
    *,
    device: int,
    lend_stream: Callable[[int | None], StreamLoan],
    take: Callable[[Any], Tensor],
    for_later: bool = False,
) -> DeviceImage:
    """An image in the memory of a GPU, to be released when it has been read.

    By DLPack where the object has it: the object is given a stream of ours and makes it wait for the work that makes
    the pixels, which the thread that queued this work must ask for. Otherwise by `__cuda_array_interface__`, as
    `describe`; PyTorch's names no stream.

    Args:
        source: an object of which `is_on_device` is true: uint8 [H, W] or [H, W, 1 | 3 | 4], its pixels back to back
            within a row, rows in ascending order.
        color: order of its channels.
        device: index of the GPU that is to read it.
        lend_stream: gives a stream of that GPU, which nobody else uses until its release, and lets it wait for what
            another holds now, if one is given.
        take: takes a DLPack capsule over.
        for_later: it is read after this call's thread went on: the stream that `__cuda_array_interface__` names may be
            gone then, hold other work too, or be another one in another thread, so one of ours waits for it now.

    Raises:
        InvalidType: not uint8, or no capsule.
        InvalidArgument: another shape, layout or device, no memory, a DLPack of the future, or the object refuses.
        CudaError: no stream can be made.
    """
    place = _dlpack_device(source)
    if place is None:
        image = describe(source, color)
        if for_later and image.stream is not None:
            stream = lend_stream(image.stream)
            image.stream, image.loans = stream.handle, (stream,)
        return image
    if place[1] != device:
        raise InvalidArgument(
            f"image: it is in the memory of cuda:{place[1]}, the detector runs on cuda:{device}; copy it there, or "
            "make a detector for its device"
        )
    stream = lend_stream(None)
    try:
        tensor = take(_capsule(source, stream.handle))
        try:
            return _of_tensor(tensor, stream, color)
        except BaseException:
            tensor.release()
            raise
    except BaseException:
        stream.release()
        raise


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
    if str(interface["typestr"])[1:] != "u1":
        raise _not_uint8(repr(interface["typestr"]))
    size, channels, row_stride = _layout(interface["shape"], interface.get("strides"))
    pointer = _address(int(interface["data"][0]))
    stream = interface.get("stream")
    if stream == 0:
        raise InvalidArgument(
            "image in GPU memory: stream 0 is ambiguous; its owner must say 1 (legacy) or 2 (per thread)"
        )
    return DeviceImage(source, pointer, size, channels, row_stride, stream, color)


def _dlpack_device(source: object) -> tuple[int, int] | None:
    """DLPack's type and index of the GPU that holds an object's memory; None if no GPU does, or it does not say."""
    ask = getattr(source, "__dlpack_device__", None)
    if ask is None or not hasattr(source, "__dlpack__") or isinstance(source, type):
        return None
    try:
        kind, index = ask()
        place = int(kind), int(index)
    except (BufferError, TypeError, ValueError, RuntimeError) as e:
        raise InvalidArgument(f"image: {type(source).__name__} does not say on which device it is: {e}") from e
    return place if place[0] in _CUDA else None


def _capsule(source: Any, stream: int) -> Any:
    """What `__dlpack__` gives to a consumer on `stream`; libraries from before DLPack 1.0 know no `max_version`."""
    try:
        try:
            return source.__dlpack__(stream=stream, max_version=_DLPACK_VERSION)
        except TypeError:
            return source.__dlpack__(stream=stream)
    except (BufferError, TypeError, ValueError, RuntimeError) as e:
        raise InvalidArgument(
            f"image in GPU memory: {type(source).__name__} does not hand it over by DLPack: {e}"
        ) from e


def _of_tensor(tensor: Tensor, stream: StreamLoan, color: Color) -> DeviceImage:
    kind, _ = tensor.device
    if kind not in _CUDA:
        raise InvalidArgument(f"image in GPU memory: its DLPack tensor is on a device of type {kind}, not on a GPU")
    code, bits, lanes = tensor.dtype
    if (code, bits, lanes) != _UINT8:
        raise _not_uint8(f"{_TYPE_NAMES.get(code, f'type {code} of ')}{bits}" + (f"x{lanes}" if lanes != 1 else ""))
    size, channels, row_stride = _layout(tensor.shape, tensor.strides)
    pointer = _address(tensor.pointer)
    return DeviceImage(tensor, pointer, size, channels, row_stride, stream.handle, color, (tensor, stream))


def _layout(given_shape: Sequence[int], given_strides: Sequence[int] | None) -> tuple[tuple[int, int], int, int]:
    """(height, width), channels and bytes from row to row of uint8 pixels."""
    shape = tuple(int(side) for side in given_shape)
    if not (len(shape) == 2 or (len(shape) == 3 and shape[2] in {1, 3, 4})) or not all(1 <= s <= 65535 for s in shape):
        raise InvalidArgument(
            f"image in GPU memory: expected [H, W], [H, W, 3] or [H, W, 4] of 1 to 65535 px a side, got {list(shape)}"
            + ("; permute [3, H, W] to [H, W, 3] and make it contiguous" if len(shape) == 3 and shape[0] == 3 else "")
        )
    channels = shape[2] if len(shape) == 3 else 1
    packed = (shape[1] * channels, channels, 1)[: len(shape)]
    # Nothing is one step away along an axis of length 1, so its stride may be anything; PyTorch makes it 1.
    steps = packed if given_strides is None else tuple(int(step) for step in given_strides)
    strides = tuple(own if side == 1 else step for side, step, own in zip(shape, steps, packed, strict=True))
    if strides[1:] != packed[1:] or strides[0] < packed[0]:
        raise InvalidArgument(
            f"image in GPU memory: expected pixels back to back and rows in ascending order, got strides "
            f"{list(steps)} for {list(shape)}; make a contiguous copy"
        )
    return (shape[0], shape[1]), channels, strides[0]


def _address(pointer: int) -> int:
    if pointer == 0:
        raise InvalidArgument("image in GPU memory: its address is null")
    return pointer


def _not_uint8(got: str) -> InvalidType:
    return InvalidType(f"image in GPU memory: expected uint8, got {got}; scale it to 0..255 and convert it")
