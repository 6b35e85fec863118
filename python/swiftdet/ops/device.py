"""Which compiled half runs an operation."""

from __future__ import annotations

from typing import Any

from swiftdet import _core, device_policy
from swiftdet.errors import InvalidArgument


def chosen(device: object) -> tuple[Any, dict[str, int]]:
    """The compiled module with the operations of a device, and what its functions take besides those of `_core`.

    Raises:
        BackendUnavailable: "cuda" or "cuda:N", and the CUDA part, the driver or the GPU is missing; names which, and
            what to do.
        InvalidArgument: no device. "auto" is none here: an operation runs where it is told to.
    """
    if device == "cpu":
        return _core, {}
    try:
        index = device_policy.parse(None if device == "auto" else device)
    except InvalidArgument:
        raise InvalidArgument(f"device: expected 'cpu', 'cuda' or 'cuda:N', got {device!r:.60}") from None
    return device_policy.kernels(index), {"gpu": index}
