"""Which device runs a network, and why: the chain of everything that a GPU needs, link by link."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from swiftdet import cuda_devices
from swiftdet.engines.tensorrt import library as tensorrt
from swiftdet.engines.tensorrt import running
from swiftdet.errors import BackendUnavailable, InvalidArgument

_DRIVER = "install NVIDIA's driver, and start a container with access to the GPU"
_CUDA_BUILD = "build swiftdet on this machine with a CUDA toolkit: SWIFTDET_WITH_CUDA=ON (docs/gpu.md)"


@dataclass(frozen=True)
class Link:
    """One thing that a GPU needs.

    Attributes:
        name: "driver", "device", "CUDA part", "TensorRT" or "builder".
        ok: it is there and fits.
        detail: what was found, or what is wrong.
        fix: what to do about it; empty when there is nothing to do.
        missing: not ok because it is not there at all, as on a machine that is not meant for GPUs.
    """

    name: str
    ok: bool
    detail: str
    fix: str = ""
    missing: bool = False


@dataclass(frozen=True)
class Choice:
    """Where a network runs.

    Attributes:
        kind: "cpu" or "cuda".
        index: of the GPU; 0 on the CPU.
        reason: why, in one sentence.
    """

    kind: Literal["cpu", "cuda"]
    index: int
    reason: str

    @property
    def name(self) -> str:
        """As the option `device` has it: "cpu" or "cuda:0"."""
        return "cpu" if self.kind == "cpu" else f"cuda:{self.index}"


_DEVICE = re.compile(r"auto|cpu|cuda(?::(\d{1,4}))?")
_GPU_ENGINES = ("auto", "tensorrt")


def parse(device: object) -> int:
    """Checks the option `device`; the index of the GPU that it names, 0 where it names none.

    Raises:
        InvalidArgument: it is none of "auto", "cpu", "cuda" and "cuda:N".
    """
    match = _DEVICE.fullmatch(device) if isinstance(device, str) else None
    if match is None:
        raise InvalidArgument(f"device: expected 'auto', 'cpu', 'cuda' or 'cuda:N', got {device!r:.60}")
    return int(match[1] or 0)


def choose(device: str, engine: str = "auto", *, builds: bool = True) -> Choice:
    """Settles `device` for an engine. Looks at files and asks the driver; loads no engine.

    Args:
        device: "cpu"; "cuda" or "cuda:N", which never falls back; "auto", a GPU if everything that it needs is there.
        engine: "auto", "tensorrt", or one that runs on the CPU alone.
        builds: the engine is still to be built; False where a plan is there already.

    Raises:
        BackendUnavailable: a GPU was asked for, by device or engine, and something is missing; says what, and how to
            mend it.
        InvalidArgument: no device, or device and engine exclude each other.
    """
    index = parse(device)
    if device == "cpu" and engine == "tensorrt":
        raise InvalidArgument("engine 'tensorrt' runs on CUDA devices; use device='cuda', or another engine")
    if device.startswith("cuda") and engine not in _GPU_ENGINES:
        raise InvalidArgument(f"engine {engine!r} runs on the CPU; device {device!r} needs engine='tensorrt'")
    if device == "cpu" or engine not in _GPU_ENGINES:
        return Choice("cpu", 0, f"device {device!r} with engine {engine!r}")
    needed = (link for link in chain(index) if builds or link.name != "builder")
    broken = next((link for link in needed if not link.ok), None)
    if broken is None:
        return Choice("cuda", index, "everything that a GPU needs is there")
    if device == "auto" and engine == "auto":
        return Choice("cpu", 0, f"no usable GPU: {broken.detail}")
    asked = f"device {device!r}" if device != "auto" else f"engine {engine!r}"
    fix = f"; {broken.fix}" if broken.fix else ""
    raise BackendUnavailable(
        f"{asked}: {broken.detail}{fix}. Nothing falls back by itself: device='cpu' is another choice"
    )


@functools.cache  # keeps what it found; after a refusal it looks again
def kernels(index: int) -> Any:
    """The compiled part, with whose kernels GPU `index` can work; no engine is needed for that.

    Raises:
        BackendUnavailable: driver, GPU or CUDA part is missing; says which, and how to mend it.
    """
    broken = next((link for link in (check(index) for check in _KERNELS) if not link.ok), None)
    if broken is not None:
        fix = f"; {broken.fix}" if broken.fix else ""
        raise BackendUnavailable(f"device 'cuda:{index}': {broken.detail}{fix}. device='cpu' gives the same values")
    return running.cuda_part()


def chain(index: int = 0) -> list[Link]:
    """Every link, in the order in which one needs the one before; GPU `index` is the one that is looked at."""
    return [link(index) for link in (*_KERNELS, _tensorrt, _builder)]


def _visible() -> cuda_devices.CudaDriver:
    """The driver as the part that will use it sees it; as its own library says where that part is missing."""
    return running.visible_gpus() if tensorrt.has_cuda_part() else cuda_devices.driver()


def _driver(_: int) -> Link:
    try:
        driver = _visible()
    except BackendUnavailable as e:
        return Link("driver", False, str(e), _DRIVER, missing=True)
    release = f"{driver.release}, " if driver.release else ""
    return Link("driver", True, f"{release}CUDA {driver.cuda_version[0]}.{driver.cuda_version[1]}")


def _device(index: int) -> Link:
    try:
        driver = _visible()
    except BackendUnavailable:
        return Link("device", False, "no NVIDIA driver that could show one", missing=True)
    try:
        device = driver.device(index)
    except BackendUnavailable as e:
        return Link("device", False, str(e), "check nvidia-smi and CUDA_VISIBLE_DEVICES")
    memory = f"{device.memory_bytes / 2**30:.1f} GiB"
    more = f" (of {len(driver.devices)} GPUs)" if len(driver.devices) > 1 else ""
    return Link("device", True, f"cuda:{index} {device.name}, {device.sm}, {memory}{more}")


def _cuda_part(_: int) -> Link:
    if not tensorrt.has_cuda_part():
        return Link("CUDA part", False, "this installation was built without CUDA", _CUDA_BUILD, missing=True)
    return Link("CUDA part", True, "built with this installation")


_KERNELS: tuple[Callable[[int], Link], ...] = (_driver, _device, _cuda_part)
"""What the package's own kernels need, without an engine."""


def _tensorrt(_: int) -> Link:
    try:
        library = tensorrt.runtime_library()
    except BackendUnavailable as e:
        return Link("TensorRT", False, str(e), missing=not tensorrt.runtime_libraries())
    compiled = " and ".join(map(str, tensorrt.runtime_majors()))
    return Link("TensorRT", True, f"{library.major}, {library.path}; compiled for {compiled}")


def _builder(_: int) -> Link:
    package = tensorrt.installed_version()
    fix = f"install it with: {tensorrt.INSTALL}"
    if package is None:
        return Link("builder", False, "the package tensorrt, which builds engines, is not installed", fix, missing=True)
    major, runs = (*tensorrt.release(package), 0)[0], tensorrt.runtime_majors()
    if major not in tensorrt.BUILD_MAJORS:
        known = " and ".join(map(str, tensorrt.BUILD_MAJORS))
        return Link("builder", False, f"package tensorrt {package}; engines are built with {known}", fix)
    if runs and major not in runs:
        compiled = " and ".join(map(str, runs))
        return Link(
            "builder", False, f"package tensorrt {package}; its engines do not run, {compiled} is compiled", fix
        )
    return Link("builder", True, f"package tensorrt {package}")
