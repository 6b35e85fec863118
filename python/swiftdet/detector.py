"""The detector: one object, any number of threads, the same boxes every time."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, overload

from swiftdet import _core, engines, images, sources
from swiftdet.errors import DetectorClosed, InvalidArgument, InvalidType
from swiftdet.model import load as load_model
from swiftdet.results import Detections

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType

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
            or DAMO-YOLO; or a name of `swiftdet.zoo.names()`.
        weights: with a name: the checkpoint, or "synthetic" for made-up weights, fit for measuring latency alone.
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
        self._loaded = load_model(model, weights=weights, family=family, imgsz=_pair(imgsz))
        self.max_batch = _positive("max_batch", max_batch)
        self._sessions = 0 if sessions is None else _positive("sessions", sessions)
        self._trust_plan = trust_plan
        spec = self._loaded.spec
        self._names = MappingProxyType(dict(enumerate(spec.names)))
        self._ids = {name: i for i, name in self._names.items()}
        self._defaults = self._call_options(
            _CallOptions(0.25, 0.7, 300, None, False, False, spec.imgsz, "bgr"),
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
        self._compile_options = {
            "engine": engine,
            "device": device,
            "precision": precision,
            "performance": performance,
            "cache_dir": Path(cache) if (cache := cache_dir or os.environ.get("SWIFTDET_CACHE_DIR")) else None,
        }
        self._lock = threading.Lock()  # guards the two below; never held during inference
        self._pipelines: dict[str, _core.Detector] = {}
        self._closed = False
        self._backend = self._compile(self._loaded.input_shape)
        self._pipelines["fixed"] = self._pipeline(self._backend)

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
            "engine": self._backend.description,
            "device": self.device,
            "isa": _core.build_config()["active_isa"],
            "model": str(self._loaded.path),
            "model_sha256": self._loaded.sha256,
            "family": self.spec.family,
            "imgsz": list(self.spec.imgsz),
            "performance": self._compile_options["performance"],
        }

    def __repr__(self) -> str:
        height, width = self.imgsz
        state = "closed" if self._closed else self._backend.description
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
    def predict(
        self, source: Any, *, stream: bool = False, **per_call: Any
    ) -> list[Detections] | Iterator[Detections]:
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
            self._pipelines.clear()

    def __enter__(self) -> Detector:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- inside -------------------------------------------------------------------------------------------------

    def _detect(self, batch: list[Image], options: _CallOptions) -> list[Detections]:
        pipeline = self._pipeline_for(options.imgsz)
        raw = pipeline.detect(
            [(image.pixels, image.order == "rgb") for image in batch],
            conf=options.conf,
            iou=options.iou,
            max_det=options.max_det,
            class_agnostic=options.class_agnostic,
            multi_label=options.multi_label,
            classes=options.classes,
            network_size=options.imgsz,
        )
        return [Detections._from_core(core, self._names, image) for image, core in zip(batch, raw, strict=True)]

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
                batch = self._loaded.input_shape[0]
                self._pipelines[kind] = self._pipeline(self._compile((batch, 3, -1, -1)))
            return self._pipelines[kind]

    def _compile(self, input_shape: tuple[int, ...]) -> _core.Backend:
        return engines.compile(
            self._loaded.model, self._loaded.weights, input_shape=input_shape, **self._compile_options
        )

    def _pipeline(self, backend: _core.Backend) -> _core.Detector:
        spec = self.spec
        return _core.Detector(
            backend,
            _core.Preprocess(**vars(spec.preprocess)),
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
        values = dict(given)
        for name in ("conf", "iou"):
            if name in values:
                values[name] = _threshold(name, values[name])
        if "max_det" in values:
            values["max_det"] = _positive("max_det", values["max_det"])
        if "classes" in values:
            values["classes"] = self._class_ids(values["classes"])
        if values.get("color", "bgr") not in ("bgr", "rgb"):
            raise InvalidArgument(f"color: expected 'bgr' or 'rgb', got {values['color']!r}")
        for name in ("class_agnostic", "multi_label"):
            if name in values:
                values[name] = bool(values[name])
        if "imgsz" in values:
            values["imgsz"] = self._imgsz(_pair(values["imgsz"]))
        return replace(base, **values)

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
        ids = []
        for wanted in [classes] if isinstance(classes, int | str) else classes:
            class_id = self._ids.get(wanted) if isinstance(wanted, str) else wanted
            if class_id not in self._names:
                known = ", ".join(f"{i} {name}" for i, name in list(self._names.items())[:8])
                raise InvalidArgument(f"classes: this model has no class {wanted!r}; it has: {known}, ...")
            ids.append(int(class_id))
        return tuple(ids)


def _pair(imgsz: int | Sequence[int] | None) -> tuple[int, int] | None:
    """(height, width) from a side, a pair, or None."""
    if imgsz is None:
        return None
    sides = (imgsz, imgsz) if isinstance(imgsz, int) else tuple(imgsz)
    if len(sides) != 2 or not all(isinstance(s, int) and not isinstance(s, bool) and 1 <= s <= 16384 for s in sides):
        raise InvalidArgument(f"imgsz: expected a side or (height, width) of 1 to 16384 px, got {imgsz!r}")
    return (sides[0], sides[1])


def _threshold(name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError) as e:
        raise InvalidType(f"{name}: expected a number within [0, 1], got {value!r}") from e
    if not 0.0 <= number <= 1.0:
        raise InvalidArgument(f"{name}: expected a threshold within [0, 1], got {value!r}")
    return number


def _positive(name: str, value: Any) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise InvalidType(f"{name}: expected a whole number of 1 or more, got {value!r}")
    number = value.__index__()
    if not 1 <= number < 2**31:
        raise InvalidArgument(f"{name}: expected a whole number of 1 or more, got {value!r}")
    return int(number)
