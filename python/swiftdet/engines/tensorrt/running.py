"""From a plan to an engine on a GPU, through the compiled half of the package that is there on GPU hosts only."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swiftdet import device_images
from swiftdet.cuda_devices import CudaDevice, CudaDriver, driver_release
from swiftdet.device_images import DeviceImage
from swiftdet.engines.signature import Port, Signature
from swiftdet.engines.tensorrt import library as tensorrt
from swiftdet.errors import BackendUnavailable, InvalidArgument, ModelError

if TYPE_CHECKING:
    from swiftdet import _core, _cuda
    from swiftdet.device_images import Color
    from swiftdet.engines.tensorrt.plan_files import Plan

_LOG = logging.getLogger("swiftdet.tensorrt")
_LOG.addHandler(logging.NullHandler())  # TensorRT talks a lot; who wants to hear it sets logging up
_LEVELS = {"error": logging.ERROR, "warning": logging.WARNING, "info": logging.INFO}


def cuda_part() -> Any:
    """The compiled module with the kernels and the pipeline.

    Raises:
        BackendUnavailable: this installation was built without CUDA, or the module does not load.
    """
    try:
        return importlib.import_module("swiftdet._cuda")
    except ImportError as e:
        raise BackendUnavailable(f"this installation of swiftdet has no CUDA part ({e})") from e


def visible_gpus() -> CudaDriver:
    """The driver and its GPUs, as the compiled module sees them.

    Raises:
        BackendUnavailable: no CUDA part, no driver, or no GPU.
    """
    cuda = cuda_part()
    count, (version, _) = cuda.device_count(), cuda.versions()
    found = [cuda.device(index) for index in range(count)]
    return CudaDriver(
        cuda_version=(version // 1000, version % 1000 // 10),
        release=driver_release(),
        devices=tuple(CudaDevice(d.index, d.name, d.compute_capability, d.memory_bytes) for d in found),
    )


def open_engine(plan: Plan, device: int) -> _cuda.Engine:
    """Deserialises a plan that was read and verified; the engine may be shared by any number of pipelines.

    Raises:
        BackendUnavailable: TensorRT or the CUDA part is missing.
        ModelError: the plan is of another GPU or TensorRT, or TensorRT refuses it.
    """
    library = tensorrt.runtime_library()
    cuda = cuda_part()
    runtime: _cuda.TensorRTRuntime = cuda.TensorRTRuntime.load(library.path, Path(cuda.__file__).parent)
    if plan.manifest is not None:
        plan.manifest.check_runs_on(visible_gpus().devices[device], runtime.version)
    try:
        return runtime.deserialize(plan.data, device)
    except ModelError as e:
        raise ModelError(f"engine {plan.path}: {e}") from e
    finally:
        forward_log()


def signature(engine: _cuda.Engine, size: tuple[int, int]) -> Signature:
    """Names and shapes of an engine's input and outputs; -1 is an open dimension.

    Args:
        engine: of `open_engine`.
        size: (height, width) px: where the input leaves them open, outputs have the shapes that they have for it.

    Raises:
        InvalidArgument: the engine was not built for that size.
    """
    name, shape, _ = engine.input
    shapes = [shape for _, shape, _ in engine.outputs]
    if len(shape) == 4 and min(shape[2:]) < 0:
        height, width = shape[2:]
        at = (height if height > 0 else size[0], width if width > 0 else size[1])
        shapes = engine.output_shapes(max(engine.batch_range(at)[0], 1), at)
    names = [name for name, _, _ in engine.outputs]
    return Signature(
        (Port(name, tuple(shape)),), tuple(Port(name, tuple(shape)) for name, shape in zip(names, shapes, strict=True))
    )


class Pipeline:
    """The compiled pipeline of a detector on a GPU. Safe from any number of threads.

    What TensorRT and the pipeline have to say reaches Python's logging after the call: their threads must not do it.
    """

    def __init__(
        self,
        engine: _cuda.Engine,
        preprocess: _core.Preprocess,
        head: _core.HeadSpec,
        imgsz: tuple[int, int],
        *,
        sessions: int,
        max_batch: int,
    ) -> None:
        """A pipeline around an engine of `open_engine`.

        Args:
            engine: may be shared by other pipelines.
            preprocess: from source pixels to the network's input.
            head: what the engine's outputs mean.
            imgsz: (height, width) px of the network's input.
            sessions: most sessions; 0: the pipeline's own choice.
            max_batch: most images in one run.

        Raises:
            ModelError: the head does not fit the engine's outputs.
            InvalidArgument: the engine was not built for `imgsz`.
        """
        cuda = cuda_part()
        self._has_log: Callable[[], bool] = cuda.has_log
        self._image: type[_cuda.CudaImage] = cuda.CudaImage
        self._core: _cuda.Detector = cuda.Detector(
            engine, preprocess, head, imgsz, max_sessions=sessions, max_batch=max_batch
        )
        self._tensor: type[_cuda.DlpackTensor] = cuda.DlpackTensor
        self._device: int = engine.device
        self._engine = engine

    def check_size(self, size: tuple[int, int]) -> None:
        """Whether the engine was built for inputs of (height, width) px.

        Raises:
            InvalidArgument: it was not; says for which it was.
        """
        if self._engine.batch_range(size)[1] > 0:
            return
        ranges = {f"{least[2]}x{least[3]} to {most[2]}x{most[3]}" for least, most in self._engine.profiles}
        raise InvalidArgument(
            f"imgsz: the engine was built for {' and '.join(sorted(ranges))}, got {size[0]}x{size[1]}; build one whose "
            "profile holds it (swiftdet build --min-imgsz, --max-imgsz)"
        )

    def borrow(self, source: Any, color: Color, *, for_later: bool) -> DeviceImage:
        """An image in this GPU's memory, as `device_images.borrow`: for `detect`, then to be released."""
        return device_images.borrow(
            source,
            color,
            device=self._device,
            lend_stream=self._core.lend_stream,
            take=self._tensor,
            for_later=for_later,
        )

    def detect(self, images: list[tuple[Any, bool]], **options: Any) -> Any:
        """As `_core.Detector.detect`; an image may also be a `DeviceImage`."""
        try:
            given = [(self._as_core(image) if isinstance(image, DeviceImage) else image, rgb) for image, rgb in images]
            return self._core.detect(given, **options)
        finally:
            if self._has_log():
                forward_log()

    def close(self) -> None:
        """As `_core.Detector.close`."""
        self._core.close()

    @property
    def sessions(self) -> tuple[int, int, int, int]:
        """As `_core.Detector.sessions`."""
        return self._core.sessions

    def _as_core(self, image: DeviceImage) -> _cuda.CudaImage:
        return self._image(image.pointer, image.size, image.channels, image.row_stride, image.stream)


def forward_log() -> None:
    """Hands what TensorRT and the pipeline said to Python's logging, from a thread that may."""
    cuda = cuda_part()
    if cuda.has_log():
        for severity, text in cuda.take_log():
            _LOG.log(_LEVELS.get(severity, logging.INFO), "%s", text)
