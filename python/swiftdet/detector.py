"""The detector: one object, any number of threads, the same boxes every time."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, overload

from swiftdet import _core, checks, engines, images, sources
from swiftdet.errors import DetectorClosed, InvalidArgument, InvalidType
from swiftdet.model import load as load_model
from swiftdet.results import Detections

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType

    from typing_extensions import Self

    from swiftdet.images import Image
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


class Detector:
    """A detector made from a model file, or from the name of an official network and its weights.

    The object is immutable and safe to share between any number of threads: every call brings its own options,
    works in a session of its own, and releases the GIL. Results do not depend on the thread, on other calls, or on
    the other images of a batch.

    Args:
        model: path of an `.onnx` export, an OpenVINO `.xml`, or a checkpoint (`.pt`, `.pth`, `.safetensors`) of YOLOv7
            or DAMO-YOLO; or a name of `swiftdet.zoo.names()` or `swiftdet.zoo.demo_names()`.
        weights: with a name: the checkpoint, or "synthetic" for made-up weights, fit for measuring latency alone. The
            demos bring theirs.
        family: "yolov7", "damo-yolo" or "ultralytics", where a file does not say or says it wrong.
        device: "auto" or "cpu". "cuda" raises `BackendUnavailable` until the TensorRT engine is there: nothing falls
            back silently.
        engine: "auto", "openvino", "onnxruntime" (an extra), or an object as `swiftdet.engines.PythonEngine`.
        precision: "auto" (fp32 on the CPU), "fp32", "bf16" or "fp16".
        performance: "latency" compiles for one call at a time, "throughput" for many in flight.
        imgsz: side or (height, width) in px of the network's input; None: the model's own.
        color: channel order of arrays, "bgr" as OpenCV or "rgb". Files and PIL images know theirs.
        conf: candidates need a score strictly above this, 0..1.
        iou: a box is suppressed by a better one when their IoU is strictly above this, 0..1.
        max_det: most detections per image.
        classes: ids or names of wanted classes; None: all.
        class_agnostic: boxes of different classes suppress one another.
        multi_label: a prediction may yield every class over `conf`, not only its best.
        max_batch: most images that one engine call may take; on the CPU a batch runs as concurrent single images.
        sessions: most sessions (buffers and an inference request each); None: what keeps this host busy.
        trust_plan: allows engine plans of unknown origin; without effect on models, which are data.
        cache_dir: folder for compiled models, to start faster the next time; None: `SWIFTDET_CACHE_DIR`, else none.

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
        loaded = load_model(model, weights=weights, family=family, imgsz=imgsz)
        checks.whole("max_batch", max_batch)
        checks.switch("trust_plan", trust_plan)
        self._sessions = 0 if sessions is None else checks.whole("sessions", sessions)
        self._loaded = replace(loaded, model=b"", weights=b"")  # what it is; the content may be large
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
        compile_options: dict[str, Any] = {
            "engine": engine,
            "device": device,
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
        self._lock = threading.Lock()  # guards the three below; never held during inference
        self._closed = False
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
    def device(self) -> str:
        """Where the network runs."""
        return "cpu"

    @property
    def provenance(self) -> dict[str, Any]:
        """What produced a result: package, engine, model file and its SHA-256, description. JSON-compatible."""
        return {
            "swiftdet": _core.__version__,
            "engine": self._engine,
            "device": self.device,
            "isa": _core.build_config()["active_isa"],
            "model": str(self._loaded.path),
            "model_sha256": self._loaded.sha256,
            "family": self.spec.family,
            "imgsz": list(self.spec.imgsz),
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
                encoded bytes, or anything with `__array__`; or a list of these.
            **per_call: conf, iou, max_det, classes, class_agnostic, multi_label, imgsz, color: for this call alone.

        Returns:
            `Detections` for one image, a list in the order of the input for a list. Boxes are in source px.

        Raises:
            ImageError: an image is missing, truncated, too large or no image; nothing is detected then.
            InvalidArgument, InvalidType: an array or option outside its contract.
            BackendError: the engine failed.
            DetectorClosed: after `close()`.

        Thread-safe; blocks until the result is there, with the GIL released.
        """
        options = self._call_options(self._defaults, per_call) if per_call else self._defaults
        if isinstance(image, list | tuple):
            return self._detect([images.load(item, color=options.color) for item in image], options)
        return self._detect([images.load(image, color=options.color)], options)[0]

    @overload
    def predict(self, source: Any, *, stream: Literal[True], **per_call: Any) -> Iterator[Detections]: ...
    @overload
    def predict(self, source: Any, *, stream: Literal[False] = False, **per_call: Any) -> list[Detections]: ...
    def predict(self, source: Any, *, stream: bool = False, **per_call: Any) -> list[Detections] | Iterator[Detections]:
        """Detects in everything that `source` names: a file, a directory, a glob, an array, or a list of these.

        Args:
            source: what to look at; directories and globs in sorted order.
            stream: False returns a list; True a generator that reads one image at a time and holds no lock between.
            **per_call: as for a call.
        """
        options = self._call_options(self._defaults, per_call)
        results = (
            self._detect([images.load(item, color=options.color)], options)[0] for item in sources.expand(source)
        )
        return results if stream else list(results)

    def close(self) -> None:
        """Lets go of the engine. Calls in flight finish; later ones raise `DetectorClosed`. May be called twice."""
        with self._lock:
            self._closed = True
            self._pipelines = {}
            self._compile_for = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- inside -------------------------------------------------------------------------------------------------

    def _detect(self, batch: list[Image], options: _CallOptions) -> list[Detections]:
        pipeline = self._pipeline_for(options.imgsz)
        # The core writes RGB planes; telling it the other order of the pixels makes them BGR.
        wanted = self.spec.preprocess.channel_order
        raw = pipeline.detect(
            [(image.pixels, image.order == wanted) for image in batch],
            conf=options.conf,
            iou=options.iou,
            max_det=options.max_det,
            class_agnostic=options.class_agnostic,
            multi_label=options.multi_label,
            classes=options.classes,
            network_size=options.imgsz,
        )
        return [Detections.from_core(core, self._names, image) for image, core in zip(batch, raw, strict=True)]

    def _pipeline_for(self, imgsz: tuple[int, int]) -> _core.Detector:
        """The pipeline compiled for the model's own size, or, made on first use, the one that takes any size."""
        kind = "fixed" if imgsz == self.spec.imgsz else "flexible"
        pipeline = self._pipelines.get(kind)
        if pipeline is not None:
            return pipeline
        with self._lock:
            if self._closed:
                raise DetectorClosed("this detector is closed; make a new one")
            if kind not in self._pipelines:
                if self._compile_for is None:  # _imgsz() refuses other sizes of such a model
                    raise InvalidArgument(f"imgsz: this model's input is fixed, got {imgsz[0]}x{imgsz[1]}")
                batch = self._loaded.input_shape[0]
                pipeline = self._pipeline(self._compile_for((batch, 3, -1, -1)))
                self._pipelines = {**self._pipelines, kind: pipeline}
            return self._pipelines[kind]

    def _pipeline(self, backend: _core.Backend) -> _core.Detector:
        spec = self.spec
        return _core.Detector(
            backend,
            _core.Preprocess(**{k: v for k, v in vars(spec.preprocess).items() if k != "channel_order"}),
            _core.HeadSpec(**vars(spec.head)),
            spec.imgsz,
            max_sessions=self._sessions,
        )

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
            case "class_agnostic" | "multi_label":
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


def _cache_dir(given: str | os.PathLike[str] | None) -> Path | None:
    cache = given or os.environ.get("SWIFTDET_CACHE_DIR")
    if cache is not None and not isinstance(cache, str | os.PathLike):
        raise InvalidType(f"cache_dir: expected a path, got {cache!r:.60}")
    return Path(cache) if cache else None
