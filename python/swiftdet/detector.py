"""The detector: one object, any number of threads, the same boxes every time."""

from __future__ import annotations

import os
import threading
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from swiftdet import _core, checks, engines, images, sources
from swiftdet.device_images import DeviceImage, is_on_device
from swiftdet.errors import BackendUnavailable, DetectorClosed, InvalidArgument, InvalidType, UsedAfterFork
from swiftdet.model import is_plan
from swiftdet.model import load as load_model
from swiftdet.results import Detections

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    import numpy.typing as npt
    from typing_extensions import Self

    from swiftdet.device_policy import Choice
    from swiftdet.engines.signature import Signature
    from swiftdet.engines.tensorrt.plan_files import Plan
    from swiftdet.images import Image
    from swiftdet.model import LoadedModel
    from swiftdet.spec import ModelSpec

Color = Literal["bgr", "rgb"]


@dataclass(frozen=True)
class _CallOptions:
    """What may differ from call to call. Immutable: a call works on its own copy, so threads cannot mix theirs."""

    conf: float
    iou: float
    max_det: int
    classes: tuple[int, ...] | None
    class_agnostic: bool
    multi_label: bool
    imgsz: tuple[int, int]
    color: Color
    timed: bool = False


class Detector:
    """A detector made from a model file, or from the name of an official network and its weights.

    The object is immutable and safe to share between any number of threads: every call brings its own options,
    works in a session of its own, and releases the GIL. Results do not depend on the thread, on other calls, or on
    the other images of a batch.

    Args:
        model: path of an `.onnx` export, an OpenVINO `.xml`, or a checkpoint (`.pt`, `.pth`, `.safetensors`) of YOLOv7
            or DAMO-YOLO; of a TensorRT engine (`.engine`, `.plan`, `.trt`); or a name of `swiftdet.zoo.names()` or
            `swiftdet.zoo.demo_names()`.
        weights: with a name: the checkpoint, or "synthetic" for made-up weights, fit for measuring latency alone. The
            demos bring theirs.
        family: "yolov7", "damo-yolo" or "ultralytics", where a file does not say or says it wrong.
        device: "cpu"; "cuda" or "cuda:N", a GPU through TensorRT, without falling back; "auto", a GPU if everything
            that it needs is there (`swiftdet doctor` shows the chain), else the CPU; `provenance` says why.
        engine: "auto", "openvino", "tensorrt", "onnxruntime" (an extra), or an object as
            `swiftdet.engines.PythonEngine`.
        precision: "auto" (fp32 on the CPU, fp16 on a GPU), "fp32", "fp16", or on the CPU "bf16".
        performance: "latency" compiles for one call at a time, "throughput" for many in flight.
        imgsz: side or (height, width) in px of the network's input; None: the model's own. On a GPU an engine is built
            for it, and calls cannot choose another; they can with an engine that was built for a range of sizes.
        color: channel order of arrays, "bgr" as OpenCV or "rgb". Files and PIL images know theirs.
        conf: candidates need a score strictly above this, 0..1.
        iou: a box is suppressed by a better one when their IoU is strictly above this, 0..1.
        max_det: most detections per image.
        classes: ids or names of wanted classes; None: all.
        class_agnostic: boxes of different classes suppress one another.
        multi_label: a prediction may yield every class over `conf`, not only its best.
        max_batch: most images that one engine call may take; on the CPU a batch runs as concurrent single images.
        sessions: most sessions (buffers and an inference request each), made when first needed; None: on the CPU as
            many as this process may use cores, and one more than the engine runs at once; on a GPU as many as fit in
            half of its free memory, 8 at most.
        trust_plan: allows engines without swiftdet's manifest; without effect on models, which are data.
        cache_dir: folder for compiled models, to start faster the next time; None: `SWIFTDET_CACHE_DIR`, else none on
            the CPU, and for engines `swiftdet` in the user's cache folder.

    Raises:
        ModelError: the file is unreadable, no detector, ambiguous, or contradicts its description.
        BackendUnavailable: the device or engine is missing; says what to install.
        InvalidArgument, InvalidType: an option outside its range or of the wrong type.

    Example:
        >>> det = Detector("yolov8s.onnx")  # doctest: +SKIP
        >>> det("street.jpg").xyxy  # doctest: +SKIP
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        weights: str | os.PathLike[str] | None = None,
        family: str | None = None,
        device: str = "auto",
        engine: Any = "auto",
        precision: str = "auto",
        performance: str = "latency",
        imgsz: int | tuple[int, int] | None = None,
        color: Color = "bgr",
        conf: float = 0.25,
        iou: float = 0.7,
        max_det: int = 300,
        classes: Sequence[int | str] | None = None,
        class_agnostic: bool = False,
        multi_label: bool = False,
        max_batch: int = 8,
        sessions: int | None = None,
        trust_plan: bool = False,
        cache_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        choice = _choose(model, device, engine)
        self._engine_sha256: str | None = None
        gpu = _GpuEngines(choice.index) if choice.kind == "cuda" else None
        loaded = load_model(
            model,
            weights=weights,
            family=family,
            imgsz=imgsz,
            precision="fp16" if gpu and precision in {"auto", "fp16"} else "fp32",
            trust_plan=checks.switch("trust_plan", trust_plan),
            inspect_plan=gpu.inspect if gpu else None,
        )
        checks.whole("max_batch", max_batch)
        self._device = choice
        self._precision = _resolved_precision(loaded, precision, on_gpu=gpu is not None)
        self._sessions = 0 if sessions is None else checks.whole("sessions", sessions)
        # What it is; the content may be large. An engine that is built here is for one size.
        dynamic_size = loaded.dynamic_size and (gpu is None or loaded.plan is not None)
        self._loaded = replace(loaded, model=b"", weights=b"", plan=None, dynamic_size=dynamic_size)
        self._name = os.fspath(model)
        self._performance = performance
        self._names = MappingProxyType(dict(enumerate(loaded.spec.names)))
        self._ids = {name: i for i, name in self._names.items()}
        self._defaults = self._call_options(
            _CallOptions(0.25, 0.7, 300, None, False, False, loaded.spec.imgsz, "bgr"),
            {
                "conf": conf,
                "iou": iou,
                "max_det": max_det,
                "classes": classes,
                "class_agnostic": class_agnostic,
                "multi_label": multi_label,
                "color": color,
            },
        )
        self._process = os.getpid()
        self._lock = threading.Lock()  # guards the four below; never held during inference
        self._closed = False
        self._pipelines: dict[str, Any]
        self._backends: dict[str, _core.Backend] = {}  # of the pipelines on the CPU
        self._compile_for: Callable[[tuple[int, ...]], _core.Backend] | None = None
        if gpu is not None:
            handle, self._engine_sha256 = gpu.open(
                loaded,
                precision=precision,
                max_batch=max_batch,
                performance=checks.choice("performance", performance, ("latency", "throughput")),
                cache_dir=_cache_dir(cache_dir),
            )
            self._engine = handle.description
            self._engine_sessions = 1  # one graph at a time fills a GPU; a second hides the copies
            self._pipelines = {"fixed": self._gpu_pipeline(handle, max_batch)}
            return
        compile_options: dict[str, Any] = {
            "engine": engine,
            "device": "cpu",
            "precision": precision,
            "performance": performance,
            "cache_dir": _cache_dir(cache_dir),
        }

        def compile_for(input_shape: tuple[int, ...]) -> _core.Backend:
            own = isinstance(engine, str)  # an object is loaded already, with shapes of its own
            shape = input_shape if own else None
            return engines.compile(loaded.model, loaded.weights, input_shape=shape, **compile_options)

        backend = compile_for(loaded.input_shape)
        self._engine = backend.description
        self._engine_sessions = backend.preferred_sessions
        self._backends = {"fixed": backend}
        self._pipelines = {"fixed": self._pipeline(backend)}
        self._compile_for = compile_for if loaded.dynamic_size else None  # holds the model's content and the engine

    # -- what it is ---------------------------------------------------------------------------------------------

    @property
    def spec(self) -> ModelSpec:
        """The model's description."""
        return self._loaded.spec

    @property
    def names(self) -> dict[int, str]:
        """Class names by class id (a copy)."""
        return dict(self._names)

    @property
    def imgsz(self) -> tuple[int, int]:
        """(height, width) in px of the network's input."""
        return self.spec.imgsz

    @property
    def dynamic_size(self) -> bool:
        """Whether a call may choose another `imgsz` than the detector's own."""
        return self._loaded.dynamic_size

    @property
    def device(self) -> str:
        """Where the network runs: "cpu", or "cuda:N"."""
        return self._device.name

    @property
    def provenance(self) -> dict[str, Any]:
        """What produced a result: model with its hashes, engine, device, pre-processing. JSON-compatible.

        `model_sha256` is of the file that was read, `graph_sha256` of the graph that was compiled from it, None where
        the file is an engine plan; `engine_sha256` is of the plan, read or built. `precision` is what the engine was
        asked to compute in, `weights_precision` what the graph's weights are stored in.
        """
        loaded = self._loaded
        return {
            "swiftdet": _core.__version__,
            "engine": self._engine,
            "device": self.device,
            "device_reason": self._device.reason,
            "isa": _core.build_config()["active_isa"],
            "model": self._name,
            "file": str(loaded.path),
            "variant": loaded.variant,
            "model_sha256": loaded.sha256,
            "graph_sha256": loaded.graph_sha256,
            "engine_sha256": self._engine_sha256,
            "synthetic": self.spec.synthetic,
            "family": self.spec.family,
            "classes": len(self._names),
            "imgsz": list(self.spec.imgsz),
            "preprocess": asdict(self.spec.preprocess),
            "head": self.spec.head.layout,
            "precision": self._precision,
            "weights_precision": loaded.weights_precision,
            "performance": self._performance,
        }

    def __repr__(self) -> str:
        height, width = self.imgsz
        state = "closed" if self._closed else self._engine
        return f"Detector({self._loaded.path.name!r}, {self.spec.family}, {height}x{width}, {state})"

    # -- detecting ----------------------------------------------------------------------------------------------

    @overload
    def __call__(self, image: list[Any] | tuple[Any, ...], **per_call: Any) -> list[Detections]: ...
    @overload
    def __call__(self, image: Any, **per_call: Any) -> Detections: ...
    def __call__(self, image: Any, **per_call: Any) -> Detections | list[Detections]:
        """Detects in one image, or in each image of a list.

        Args:
            image: uint8 array [H, W, 3] in `color` order (or [H, W], [H, W, 4]; any strides), PIL image, path,
                encoded bytes, or anything with `__array__` or, on the CPU, `__dlpack__`; or a list of these. A
                detector on a GPU also takes arrays in that GPU's memory (DLPack or `__cuda_array_interface__`, rows
                contiguous), which are read where they are, after the work that makes them, and given back before the
                call ends.
            **per_call: conf, iou, max_det, classes, class_agnostic, multi_label, imgsz, color: for this call alone.
                timed=True takes the stages of a GPU apart by CUDA events, for `Detections.speed`; the call makes a few
                calls of CUDA more for it. On the CPU they are always apart.

        Returns:
            `Detections` for one image, a list in the order of the input for a list. Boxes are in source px.

        Raises:
            ImageError: an image is missing, truncated, too large or no image; nothing is detected then.
            InvalidArgument, InvalidType: an array or option outside its contract.
            BackendError: the engine failed.
            DetectorClosed: after `close()`, or closed while the call waited for a session.
            UsedAfterFork: in a child of `os.fork()` that inherited the detector.

        Thread-safe; blocks until the result is there, with the GIL released. When all sessions are busy, calls are
        served in order of arrival. Ctrl-C on the main thread ends the call, also while it waits.
        """
        options = self._call_options(self._defaults, per_call) if per_call else self._defaults
        if isinstance(image, list | tuple):
            return self._detect(self._load_all(image, options.color), options)
        return self._detect([self._load(image, options.color)], options)[0]

    @overload
    def predict(self, source: Any, *, stream: Literal[True], **options: Any) -> sources.DetectionStream: ...
    @overload
    def predict(self, source: Any, *, stream: Literal[False] = False, **options: Any) -> list[Detections]: ...
    def predict(
        self,
        source: Any,
        *,
        stream: bool = False,
        on_error: Literal["auto", "raise", "skip"] = "auto",
        live: bool | None = None,
        prefetch: int | None = None,
        reconnect: int = 3,
        **per_call: Any,
    ) -> list[Detections] | sources.DetectionStream:
        """Detects in everything that `source` names; reads ahead while it detects.

        Args:
            source: an image as a call takes it; a file, folder or pattern of images and videos (sorted by name); an
                address (`rtsp://`, `http://`, ...) or camera (0, "0", "/dev/video0"); or a list, generator or other
                iterable of these, read one after the other. Videos, addresses and cameras need `swiftdet[video]`.
            stream: False returns a list, without the pixels of frames; True a `DetectionStream`, an iterator that
                needs the memory of a few images whatever the length of the source, and holds no lock between results.
            on_error: what cannot be read: "raise" its error; "skip" it, logged under `swiftdet.sources` and counted;
                "auto": frames of a video are skipped, everything else raises.
            live: True takes the newest frame and drops those that came while the caller was busy; False takes every
                frame; None: True for cameras and `rtsp://`, `rtmp://`, `srt://`, `udp://`, `rtp://`.
            prefetch: images read ahead or in flight; 0: everything in the caller's thread, one image at a time; None:
                4, and 0 where the source is or holds an iterable of the caller's, which may reuse a buffer.
            reconnect: times in a row that a live source which broke off is opened anew.
            **per_call: as for a call.

        Raises:
            ImageError: nothing there, or an image that cannot be read.
            VideoError: a video, address or camera cannot be opened or read on, or has no frame that can be decoded.
            BackendUnavailable: a video, and PyAV is not installed.
            InvalidArgument, InvalidType: an option outside its contract; a source that never ends, without `stream`.

        Results come in the order of the source, each what a call would give, bit for bit, whatever `prefetch`.
        Thread-safe; every stream is for one thread.
        """
        options = self._call_options(self._defaults, per_call)
        results = sources.run(
            source,
            sources.SourceOptions(on_error, live, prefetch, reconnect),
            load=lambda item: self._load(item, options.color),
            detect=lambda image: self._detect([image], options)[0],
            workers=self._workers(),
            endless=stream,
        )
        if stream:
            return results
        with results:
            return [result if result.video is None else result.without_pixels() for result in results]

    def raw_outputs(self, image: Any, **per_call: Any) -> dict[str, npt.NDArray[np.float32]]:
        """The network's own outputs for one image, before anything is decoded: for looking into what it computes.

        Args:
            image: as for a call.
            **per_call: as for a call; only imgsz and color change anything.

        Returns:
            float32 arrays of their own by tensor name, in the network's order. A network whose batch is fixed got the
            image in every place.

        Raises:
            BackendUnavailable: the detector runs on a GPU, whose outputs never leave its memory.
            ImageError, InvalidArgument, InvalidType, BackendError, DetectorClosed, UsedAfterFork: as for a call.

        Runs in a session of its own that it makes anew: slower than a call. Thread-safe.
        """
        if self._device.kind == "cuda":
            raise BackendUnavailable(
                "raw_outputs: on a GPU the network's outputs never leave its memory; use device='cpu'"
            )
        options = self._call_options(self._defaults, per_call)
        loaded = images.load(image, color=options.color)
        self._pipeline_for(options.imgsz)
        backend = self._backends.get("fixed" if options.imgsz == self.spec.imgsz else "flexible")
        if backend is None:
            raise DetectorClosed("this detector is closed; make a new one")
        preprocess = self._described()[0]
        # As in _detections: the other order of the pixels makes BGR planes.
        order = "rgb" if loaded.order == self.spec.preprocess.channel_order else "bgr"
        pixels, _ = _core.letterbox(loaded.pixels, options.imgsz, preprocess, color=order)
        batch = np.repeat(pixels[None], self._loaded.input_shape[0], axis=0)
        return dict(zip((name for name, _ in backend.outputs), backend.infer(batch), strict=True))

    def close(self) -> None:
        """Lets go of the engine. Does not wait, and may be called twice.

        Calls that have a session finish with their result, and the engine goes with the last of them. Calls that wait
        for a session, and later calls, raise `DetectorClosed`.
        """
        if self._forked():  # another thread of the parent may have held the lock, and nobody gives it back here
            self._closed, self._pipelines, self._backends, self._compile_for = True, {}, {}, None
            return
        with self._lock:
            self._closed = True
            pipelines, self._pipelines = self._pipelines, {}
            self._backends = {}
            self._compile_for = None
        for pipeline in pipelines.values():
            pipeline.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- inside -------------------------------------------------------------------------------------------------

    def _concurrency(self) -> tuple[int, int]:
        """How many calls at a time keep the engine busy, and how many may run at all, for the dispatcher."""
        limit = self._pipeline_for(self.spec.imgsz).sessions[0]
        return min(self._engine_sessions, limit), limit

    def _workers(self) -> int:
        """Calls that are worth having in flight: those that keep the engine busy, and one around it."""
        enough, limit = self._concurrency()
        return min(enough + 1, limit)

    def _load(self, source: Any, color: Color) -> Image | DeviceImage:
        """One image: where it is if that is a GPU's memory and the detector runs on one, else read to the host."""
        image = self._borrow(source, color)
        return images.load(source, color=color) if image is None else image

    def _borrow(self, source: Any, color: Color, *, for_later: bool = False) -> DeviceImage | None:
        """The image where it is, if that is a GPU's memory and the detector runs on one; to be released after its use.

        `for_later`: for a detection in another thread.
        """
        if self._device.kind != "cuda" or not is_on_device(source):
            return None
        image: DeviceImage = self._pipeline_for(self.spec.imgsz).borrow(source, color, for_later=for_later)
        return image

    def _load_all(self, items: Sequence[Any], color: Color) -> list[Image | DeviceImage]:
        batch: list[Image | DeviceImage] = []
        try:
            batch.extend(self._load(item, color) for item in items)
        except BaseException:
            _release(batch)
            raise
        return batch

    def _detect(self, batch: list[Image | DeviceImage], options: _CallOptions) -> list[Detections]:
        try:
            return self._detections(batch, options)
        finally:
            if self._device.kind == "cuda":
                _release(batch)  # also after a failure nothing reads them any more: the core has waited

    def _detections(self, batch: list[Image | DeviceImage], options: _CallOptions) -> list[Detections]:
        pipeline = self._pipeline_for(options.imgsz)
        # The core writes RGB planes; telling it the other order of the pixels makes them BGR.
        wanted = self.spec.preprocess.channel_order
        raw = pipeline.detect(
            [(image.pixels if isinstance(image, images.Image) else image, image.order == wanted) for image in batch],
            conf=options.conf,
            iou=options.iou,
            max_det=options.max_det,
            class_agnostic=options.class_agnostic,
            multi_label=options.multi_label,
            classes=options.classes,
            network_size=options.imgsz,
            timed=options.timed,
        )
        return [Detections.from_core(core, self._names, image) for image, core in zip(batch, raw, strict=True)]

    def _pipeline_for(self, imgsz: tuple[int, int]) -> Any:
        """The pipeline compiled for the model's own size, or, made on first use, the one that takes any size.

        On a GPU there is one, for the sizes that its engine takes.
        """
        kind = "fixed" if imgsz == self.spec.imgsz or self._device.kind == "cuda" else "flexible"
        pipeline = self._pipelines.get(kind)
        if pipeline is not None:
            return pipeline
        if self._forked():
            raise UsedAfterFork(
                "this detector was made before this process was forked; create the detector in the child alone, or "
                "start processes with multiprocessing's 'spawn' or 'forkserver' method"
            )
        with self._lock:
            if self._closed:
                raise DetectorClosed("this detector is closed; make a new one")
            if kind not in self._pipelines:
                if self._compile_for is None:  # _imgsz() refuses other sizes of such a model
                    raise InvalidArgument(f"imgsz: this model's input is fixed, got {imgsz[0]}x{imgsz[1]}")
                batch = self._loaded.input_shape[0]
                backend = self._compile_for((batch, 3, -1, -1))
                self._backends = {**self._backends, kind: backend}
                self._pipelines = {**self._pipelines, kind: self._pipeline(backend)}
            return self._pipelines[kind]

    def _forked(self) -> bool:
        return os.getpid() != self._process

    def _pipeline(self, backend: _core.Backend) -> _core.Detector:
        return _core.Detector(backend, *self._described(), max_sessions=self._sessions)

    def _gpu_pipeline(self, engine: Any, max_batch: int) -> Any:
        from swiftdet.engines.tensorrt import running  # noqa: PLC0415 - hosts without a GPU need none of it

        return running.Pipeline(engine, *self._described(), sessions=self._sessions, max_batch=max_batch)

    def _described(self) -> tuple[_core.Preprocess, _core.HeadSpec, tuple[int, int]]:
        """The model's description as the core takes it."""
        spec = self.spec
        preprocess = {name: value for name, value in vars(spec.preprocess).items() if name != "channel_order"}
        return _core.Preprocess(**preprocess), _core.HeadSpec(**vars(spec.head)), spec.imgsz

    def _call_options(self, base: _CallOptions, given: dict[str, Any]) -> _CallOptions:
        """`base` with the options of one call, each checked and brought to its canonical form."""
        unknown = sorted(set(given) - set(_CallOptions.__dataclass_fields__))
        if unknown:
            known = ", ".join(_CallOptions.__dataclass_fields__)
            raise InvalidArgument(f"unknown option {unknown[0]!r}; a call takes: {known}")
        checked = {name: self._checked(name, value) for name, value in given.items()}
        return replace(base, **checked)

    def _checked(self, name: str, value: Any) -> Any:
        """The canonical form of one option."""
        match name:
            case "conf" | "iou":
                return checks.fraction(name, value)
            case "max_det":
                return checks.whole(name, value)
            case "class_agnostic" | "multi_label" | "timed":
                return checks.switch(name, value)
            case "color":
                return checks.choice(name, value, ("bgr", "rgb"))
            case "imgsz":
                return self._imgsz(checks.network_size(value))
            case _:
                return self._class_ids(value)

    def _imgsz(self, imgsz: tuple[int, int] | None) -> tuple[int, int]:
        spec = self.spec
        if imgsz is None or imgsz == spec.imgsz:
            return spec.imgsz
        if not self._loaded.dynamic_size:
            raise InvalidArgument(
                f"imgsz: this model's input is fixed at {spec.imgsz[0]}x{spec.imgsz[1]}, got {imgsz[0]}x{imgsz[1]};"
                " export it with a dynamic size to choose"
            )
        if imgsz[0] % spec.stride or imgsz[1] % spec.stride:
            raise InvalidArgument(f"imgsz: expected multiples of {spec.stride}, got {imgsz[0]}x{imgsz[1]}")
        if self._device.kind == "cuda":
            self._pipeline_for(imgsz).check_size(imgsz)
        return imgsz

    def _class_ids(self, classes: Sequence[int | str] | None) -> tuple[int, ...] | None:
        if classes is None:
            return None
        single = isinstance(classes, str) or checks.is_integer(classes)
        wanted = [classes] if single else classes
        try:
            return tuple(self._class_id(item) for item in wanted)
        except TypeError as e:
            raise InvalidType(f"classes: expected ids or names of classes, got {classes!r:.60}") from e

    def _class_id(self, wanted: Any) -> int:
        class_id = self._ids.get(wanted, -1) if isinstance(wanted, str) else wanted
        if not checks.is_integer(class_id) or class_id not in self._names:
            some = ", ".join(f"{i} {name}" for i, name in list(self._names.items())[:8])
            more = ", ..." if len(self._names) > 8 else ""
            raise InvalidArgument(f"classes: this model has no class {wanted!r:.60}; it has: {some}{more}")
        return int(class_id)


def _release(batch: list[Image | DeviceImage]) -> None:
    """Gives memory of a GPU back to whom it belongs."""
    for image in batch:
        if isinstance(image, DeviceImage):
            image.release()


class _GpuEngines:
    """Engines for one GPU. One that was loaded to see what it holds is not loaded again."""

    def __init__(self, index: int) -> None:
        self._index = index
        self._opened: Any = None

    def inspect(self, plan: Plan, size: tuple[int, int]) -> Signature:
        """Loads an engine that was read, and gives its ports: for inputs of `size` where it takes several."""
        from swiftdet.engines.tensorrt import running  # noqa: PLC0415 - hosts without a GPU need none of it

        self._opened = running.open_engine(plan, self._index)
        return running.signature(self._opened, size)

    def open(self, loaded: LoadedModel, *, cache_dir: Path | None, **options: Any) -> tuple[Any, str]:
        """The engine of a model, the one that the file is or one that is built or found in the cache; its hash."""
        from swiftdet.engines.tensorrt import cache, running  # noqa: PLC0415 - as above
        from swiftdet.engines.tensorrt import engines as tensorrt  # noqa: PLC0415

        def check_half(model: Any, graph: bytes) -> None:
            from swiftdet.verification import half  # noqa: PLC0415 - it makes detectors itself

            half.check(model, graph)

        if loaded.plan is not None:
            plan = loaded.plan
        else:
            folder = cache_dir or cache.default_folder()
            plan = tensorrt.plan_for(loaded, self._index, cache_dir=folder, check_half=check_half, **options)
        return self._opened or running.open_engine(plan, self._index), plan.sha256


def _choose(model: str | os.PathLike[str], device: str, engine: Any) -> Choice:
    """Where to run, and whether a model of that kind can be run there."""
    from swiftdet import device_policy  # noqa: PLC0415 - only a detector needs it

    name = engine if isinstance(engine, str) else type(engine).__name__
    is_path = isinstance(model, str | os.PathLike)
    if is_path and is_plan(model):
        if device == "cpu" or name not in {"auto", "tensorrt"}:
            raise InvalidArgument(
                f"model {os.fspath(model)!r} is a TensorRT engine: it runs on a GPU (device='cuda', engine='tensorrt')"
            )
        return device_policy.choose(device, "tensorrt", builds=False)
    if (
        device == "auto"
        and name == "auto"
        and is_path
        and (Path(model).suffix.lower() == ".xml" or os.path.isdir(model))  # noqa: PTH112 - a name that is too long is none
    ):
        return device_policy.choose("cpu", "openvino")
    return device_policy.choose(device, name)


def _resolved_precision(loaded: LoadedModel, asked: str, *, on_gpu: bool) -> str:
    """What "auto" means here; of a plan, what it was built in, "unknown" where nothing tells."""
    if loaded.plan is not None:
        return "unknown" if loaded.plan.manifest is None else loaded.plan.manifest.precision
    return ("fp16" if on_gpu else "fp32") if asked == "auto" else asked


def _cache_dir(given: str | os.PathLike[str] | None) -> Path | None:
    cache = given or os.environ.get("SWIFTDET_CACHE_DIR")
    if cache is not None and not isinstance(cache, str | os.PathLike):
        raise InvalidType(f"cache_dir: expected a path, got {cache!r:.60}")
    return Path(cache) if cache else None
