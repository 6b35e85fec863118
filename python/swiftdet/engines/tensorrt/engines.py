"""From a model that was read to the plan of its engine: built for a GPU, or found in the cache."""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from swiftdet import _core, checks, cuda_devices
from swiftdet.engines.tensorrt import library as tensorrt
from swiftdet.engines.tensorrt import precision as precisions
from swiftdet.engines.tensorrt.building import build_plan
from swiftdet.engines.tensorrt.cache import EngineCache, EngineKey
from swiftdet.engines.tensorrt.options import Batches, BuildOptions
from swiftdet.engines.tensorrt.plan_files import Manifest, Plan
from swiftdet.engines.tensorrt.progress import BuildProgress
from swiftdet.errors import InvalidArgument, ModelError
from swiftdet.model_files.names import printable

if TYPE_CHECKING:
    from pathlib import Path

    from swiftdet.spec import ModelSpec


class Model(Protocol):
    """What an engine is built from: `swiftdet.model.LoadedModel`, or anything with these members."""

    @property
    def spec(self) -> ModelSpec:
        """The model's description."""

    @property
    def model(self) -> bytes:
        """ONNX with its weights inside."""

    @property
    def weights(self) -> bytes:
        """Empty for ONNX."""

    @property
    def path(self) -> Path:
        """Where it was read, or the variant's name."""

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """(N, 3, H, W); N counts where the batch is fixed."""

    @property
    def dynamic_batch(self) -> bool:
        """Whether N is free."""

    @property
    def dynamic_size(self) -> bool:
        """Whether H or W is free."""


CheckHalf = Callable[[Model, bytes], None]
"""Is given a foreign model and the float16 graph that it was converted to, and raises if that is not to be built."""


@dataclasses.dataclass(frozen=True)
class Target:
    """The GPU that an engine is for, and what builds it.

    Attributes:
        device: the GPU.
        driver: its driver's branch.
        library: the module `tensorrt`.
    """

    device: cuda_devices.CudaDevice
    driver: str
    library: Any

    @property
    def tensorrt(self) -> str:
        """TensorRT's version."""
        return str(self.library.__version__)


def target(index: int = 0) -> Target:
    """GPU `index` of this machine with the TensorRT that is installed.

    Raises:
        BackendUnavailable: no driver, no such GPU, one that is too old, or no TensorRT; says what to do.
    """
    driver = cuda_devices.driver()  # before TensorRT, which does not survive a machine without one
    return Target(driver.device(index), driver.major, tensorrt.load())


def options_for(
    model: Model,
    *,
    precision: str = "auto",
    batches: Batches | None = None,
    smallest: tuple[int, int] | None = None,
    largest: tuple[int, int] | None = None,
    workspace_bytes: int = 0,
    timing_cache: Path | None = None,
) -> BuildOptions:
    """What to build for a model.

    Args:
        model: as read.
        precision: "auto" is fp16.
        batches: None is one image at a time up to eight, or what the file fixes.
        smallest: (height, width) px; None: the model's own size, which is also the one that it is fastest at.
        largest: the same.
        workspace_bytes: as in `BuildOptions`.
        timing_cache: as in `BuildOptions`.

    Raises:
        InvalidArgument: a batch or size that the file does not take, or an option outside its range.
    """
    smallest, largest = checks.network_size(smallest), checks.network_size(largest)
    for size in (smallest, largest):
        _check_size(model, size)
    fixed = model.input_shape[0]
    if batches is None:
        batches = Batches(1, 1, 8) if model.dynamic_batch else Batches(fixed, fixed, fixed)
    elif not model.dynamic_batch and batches != Batches(fixed, fixed, fixed):
        raise InvalidArgument(
            f"batch: the model takes {fixed} images at a time and no other number; export it with a dynamic batch"
        )
    return BuildOptions(
        precision="fp16" if precision == "auto" else precision,  # type: ignore[arg-type] # checked there
        batches=batches,
        size=model.spec.imgsz,
        smallest=smallest,
        largest=largest,
        workspace_bytes=workspace_bytes,
        timing_cache=timing_cache,
    )


def graph_for(model: Model, options: BuildOptions) -> bytes:
    """The ONNX that the builder gets: in the precision and, where it is one, with the size asked for.

    Raises:
        ModelError: no ONNX, or it cannot be converted.
        BackendUnavailable: no converter for a foreign float32 graph is installed.
        InvalidArgument: float32 was asked for and the graph is float16.
    """
    import onnx  # noqa: PLC0415 - slow to import

    if model.weights:
        raise ModelError(f"model {model.path}: engines are built from ONNX, this is an OpenVINO IR; use its source")
    proto = onnx.load_model_from_string(model.model)
    half = precisions.is_half(proto)
    if options.precision == "fp32" and half:
        raise InvalidArgument(f"precision: {model.path} is float16; fp32 needs a float32 export")
    graph = model.model if half or options.precision == "fp32" else precisions.to_half(model.model)
    smallest, _, largest = options.sizes()
    return _with_size(graph, options.size) if smallest == largest else graph


def build(
    model: Model,
    options: BuildOptions,
    where: Target,
    *,
    progress: BuildProgress | None = None,
    check_half: CheckHalf | None = None,
) -> tuple[bytes, Manifest]:
    """Builds the engine of a model: the plan and its manifest. Takes seconds to minutes.

    Raises:
        Exception: what `check_half` raises.
        ModelError, InvalidArgument, BackendUnavailable: see `graph_for`.
        BackendError: TensorRT refused, in its own words.
    """
    graph = graph_for(model, options)
    _check_half(model, graph, options, check_half)
    return _build(model, graph, options, where, progress)


def cached(
    model: Model,
    options: BuildOptions,
    where: Target,
    cache: EngineCache,
    *,
    progress: BuildProgress | None = None,
    check_half: CheckHalf | None = None,
) -> Plan:
    """The engine of a model out of the cache, built and kept there at the first call. Raises as `build` does."""
    graph = graph_for(model, options)
    if options.timing_cache is None:
        options = dataclasses.replace(options, timing_cache=cache.timing_cache(where.tensorrt, where.device.sm))
    key = EngineKey(
        graph_sha256=hashlib.sha256(graph).hexdigest(),
        precision=options.precision,
        shapes=options.shapes(),
        workspace_bytes=options.workspace_bytes,
        tensorrt=where.tensorrt,
        gpu=where.device.name,
        sm=where.device.sm,
        driver=where.driver,
    )

    def build_it() -> tuple[bytes, Manifest]:
        _check_half(model, graph, options, check_half)
        return _build(model, graph, options, where, progress)

    return cache.get_or_build(key, build_it)


def plan_for(
    model: Model,
    index: int,
    *,
    precision: str,
    max_batch: int,
    performance: str,
    cache_dir: Path,
    progress: BuildProgress | None = None,
    check_half: CheckHalf | None = None,
) -> Plan:
    """The plan of a model's engine for GPU `index`: built, or out of the cache.

    Args:
        model: as read.
        index: of the GPU.
        precision: "auto" (fp16), "fp16" or "fp32".
        max_batch: most images in one run, where the model leaves that open.
        performance: "latency" is fastest for one image, "throughput" for `max_batch`.
        cache_dir: where engines are kept.
        progress: hears of a build.
        check_half: asked before a foreign float32 graph is built in float16.

    Raises:
        BackendUnavailable, ModelError, InvalidArgument, BackendError: see `target` and `cached`.
    """
    if precision not in {"auto", "fp16", "fp32"}:
        raise InvalidArgument(f"precision: engines for GPUs are 'fp16' or 'fp32', got {precision!r}")
    batches = Batches(1, max_batch if performance == "throughput" else 1, max_batch) if model.dynamic_batch else None
    options = options_for(model, precision=precision, batches=batches)
    return cached(model, options, target(index), EngineCache(cache_dir), progress=progress, check_half=check_half)


def _build(
    model: Model, graph: bytes, options: BuildOptions, where: Target, progress: BuildProgress | None
) -> tuple[bytes, Manifest]:
    with cuda_devices.current(where.device.index):
        plan = build_plan(where.library, graph, options, progress=progress)
    return plan, Manifest(
        spec=model.spec,
        model=printable(str(model.path)),
        graph_sha256=hashlib.sha256(graph).hexdigest(),
        plan_sha256=hashlib.sha256(plan).hexdigest(),
        plan_bytes=len(plan),
        precision=options.precision,
        shapes=options.shapes(),
        tensorrt=where.tensorrt,
        gpu=where.device.name,
        sm=where.device.sm,
        driver=where.driver,
        created=dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
        swiftdet=_core.__version__,
    )


def _check_half(model: Model, graph: bytes, options: BuildOptions, check: CheckHalf | None) -> None:
    """Asks about a graph that was converted here; one that was float16 already is what its owner wants."""
    import onnx  # noqa: PLC0415 - slow to import

    if (
        check is not None
        and options.precision == "fp16"
        and not precisions.is_half(onnx.load_model_from_string(model.model))
    ):
        check(model, graph)


def _check_size(model: Model, size: tuple[int, int] | None) -> None:
    own, stride = model.spec.imgsz, model.spec.stride
    if size is None or size == own:
        return
    if not model.dynamic_size:
        raise InvalidArgument(
            f"imgsz: the model takes {own[0]}x{own[1]} and no other size; export it with a dynamic size"
        )
    if size[0] % stride or size[1] % stride:
        raise InvalidArgument(f"imgsz: expected multiples of {stride}, got {size[0]}x{size[1]}")


def _with_size(graph: bytes, size: tuple[int, int]) -> bytes:
    """The graph with its input's height and width fixed, which lets the builder fold what depends on them."""
    import onnx  # noqa: PLC0415 - slow to import

    proto = onnx.load_model_from_string(graph)
    constants = {tensor.name for tensor in proto.graph.initializer}
    image = next(port for port in proto.graph.input if port.name not in constants)
    free = [
        (dim, side)
        for dim, side in zip(image.type.tensor_type.shape.dim[2:], size, strict=True)
        if not dim.HasField("dim_value")
    ]
    if not free:
        return graph
    for dim, side in free:
        dim.Clear()
        dim.dim_value = side
    del proto.graph.value_info[:]  # what was declared for the open size
    return bytes(proto.SerializeToString())
