"""Which devices the operations run on."""

from __future__ import annotations

from typing import Any

from swiftdet.errors import BackendUnavailable, InvalidArgument


def check_device(device: Any) -> None:
    """Lets "cpu" pass.

    Raises:
        BackendUnavailable: "cuda" or "cuda:N": this build has no CUDA.
        InvalidArgument: anything else.
    """
    if device == "cpu":
        return
    if isinstance(device, str) and (device == "cuda" or device.startswith("cuda:")):
        raise BackendUnavailable(f"device={device!r}: this build of swiftdet has no CUDA operations; use device='cpu'")
    raise InvalidArgument(f"device: expected 'cpu' or 'cuda', got {device!r:.60}")
