"""From a path to a model that an engine can compile and a description of what it detects."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from swiftdet import checks
from swiftdet.engines.signature import Port, Signature
from swiftdet.errors import BackendUnavailable, InvalidArgument, InvalidType, ModelError
from swiftdet.recognition import Evidence, check_outputs, recognise
from swiftdet.spec import FAMILIES, MAX_SIDE, METADATA_KEY, ModelSpec
from swiftdet.zoo import weights as zoo_weights

if TYPE_CHECKING:
    from swiftdet.engines.tensorrt.plan_files import Plan
    from swiftdet.model_files.model_file import ModelFile
    from swiftdet.model_files.nms_cut import NmsCut

Shape4: TypeAlias = tuple[int, int, int, int]


class Inspect(Protocol):
    """Gives the ports of a model at an input shape, as `swiftdet.engines.inspect` does."""

    def __call__(self, model: bytes, weights: bytes, /, *, input_shape: Shape4 | None = None) -> Signature:
        """Names and shapes of the inputs and outputs of `model`, its input being [N, 3, H, W] = `input_shape`."""


_ZOO_NAME = re.compile(r"(?:demo-)?(?:yolov7|damo-yolo)(?:l|x|-[a-z0-9-]+)?")
_PLANS = frozenset({".engine", ".plan", ".trt"})
_DEFAULT_SIDE = 640
_DEFAULT_SIDE_P6 = 1280


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to be compiled. Immutable, safe to share between threads.

    Attributes:
        spec: what it detects, and how its input and outputs are to be read.
        model: ONNX or OpenVINO XML, as read or with a suppression cut away.
        weights: content of the `.bin` of an OpenVINO IR, else empty.
        path: as given; of the checkpoint where the network is built; the variant's name for made-up weights.
        sha256: hex digest of everything that was read, for provenance and cache keys.
        graph_sha256: hex digest of what is compiled, `model` and then `weights`; None for an engine.
        input_shape: (N, 3, H, W) to compile for; N = 1 unless the file's batch is fixed.
        dynamic_batch: N is free.
        dynamic_size: H or W is free.
        weights_precision: "fp32", "fp16", "bf16" or "int8": what the weights are stored in, whatever an engine computes
            in; None where nothing tells.
        variant: of the zoo, where the network was built from its description.
        plan: a TensorRT engine, read and verified; `model` is empty then.
    """

    spec: ModelSpec
    model: bytes
    weights: bytes
    path: Path
    sha256: str
    graph_sha256: str | None
    input_shape: Shape4
    dynamic_batch: bool
    dynamic_size: bool
    weights_precision: str | None = None
    variant: str | None = None
    plan: Plan | None = None


def is_plan(path: str | os.PathLike[str]) -> bool:
    """Whether `path` names a TensorRT engine."""
    return Path(path).suffix.lower() in _PLANS


def load(
    path: str | os.PathLike[str],
    *,
    weights: str | os.PathLike[str] | None = None,
    family: str | None = None,
    imgsz: int | tuple[int, int] | None = None,
    inspect: Inspect | None = None,
    precision: str = "fp32",
    trust_plan: bool = False,
    inspect_plan: Callable[[Plan, tuple[int, int]], Signature] | None = None,
) -> LoadedModel:
    """Reads a detector and recognises what it holds.

    Executes nothing in the file and opens nothing outside its folder. Safe from several threads.

    Args:
        path: an `.onnx` file, an OpenVINO `.xml` with its `.bin` beside it, or a folder with one such pair; a
            checkpoint (`.pt`, `.pth`, `.safetensors`) of a variant of the zoo; or the name of one; or an engine
            (`.engine`, `.plan`, `.trt`).
        weights: with a name: a checkpoint, or "synthetic" for made-up weights, fit for latency alone.
        family: "yolov7", "damo-yolo" or "ultralytics" where the file does not tell; "yolov7-tiny" also settles the
            anchors of raw maps.
        imgsz: side or (height, width) px of the input where the file leaves it open; else it must agree with the file.
        inspect: gives the ports of a model at an input shape; None asks the default engine.
        precision: "fp32" or "fp16" of a network that is built here; files are read as they are.
        trust_plan: accept an engine without swiftdet's manifest.
        inspect_plan: gives the ports of such an engine, for an input of (height, width) px where it takes several;
            which means loading it.

    Raises:
        ModelError: the file is missing, damaged, unsafe, not a detector, ambiguous, or contradicts its description; an
            engine without a manifest that is not trusted.
        InvalidArgument: an unknown family, an `imgsz` that the model cannot take, or weights for a file that has
            its own.
        InvalidType: a `path` that is none, an `imgsz` that is no integer or pair.
    """
    if not isinstance(path, str | os.PathLike) or not isinstance(os.fspath(path), str):
        raise InvalidType(f"model: expected a path or a name, got {checks.shown(path)}")
    asked_size = checks.network_size(imgsz)
    asked_family, variant = _parse_family(family)
    if zoo_weights.is_zoo_model(path):
        return _build(zoo_weights.find(path, weights), asked_family, asked_size, precision)
    if weights is not None:
        raise InvalidArgument(
            f"weights: {os.fspath(path)!r} is no name of the zoo (`swiftdet models` lists them), and an export carries "
            "its weights"
        )
    path = Path(path)
    if is_plan(path):
        return _load_plan(path, (asked_family, variant), asked_size, trust_plan=trust_plan, inspect_plan=inspect_plan)
    file, cut = _read(path)
    size_given = asked_size or (file.metadata.spec.imgsz if file.metadata.spec else file.metadata.imgsz)
    shape = _input_shape(file, asked_size, size_given or (_DEFAULT_SIDE, _DEFAULT_SIDE))
    ask = inspect or _default_inspect()

    def describe_at(shape: Shape4) -> ModelSpec:
        evidence = Evidence(
            signature=ask(file.model, file.weights, input_shape=shape),
            size=shape[2:],
            graph=file.graph,
            metadata=file.metadata,
            cut=cut,
            family=asked_family,
            variant=variant,
        )
        return _described_by_file(evidence) if file.metadata.spec else recognise(evidence)

    try:
        spec = describe_at(shape)
        if _size_is_free(file) and size_given is None and spec.stride == 64:
            shape = _input_shape(file, None, (_DEFAULT_SIDE_P6, _DEFAULT_SIDE_P6))
            spec = describe_at(shape)
    except ModelError as e:
        raise ModelError(f"model {path}: {e}") from e
    if asked_size is not None and _size_is_free(file):
        _check_multiple(asked_size, spec.stride)
    return LoadedModel(
        spec=spec,
        model=file.model,
        weights=file.weights,
        path=path,
        sha256=file.sha256,
        graph_sha256=_digest(file.model, file.weights),
        input_shape=shape,
        dynamic_batch=file.image_input.shape[0] < 0,
        dynamic_size=_size_is_free(file),
        weights_precision=file.weights_precision,
    )


def _build(
    weights: zoo_weights.Weights, family: str | None, imgsz: tuple[int, int] | None, precision: str
) -> LoadedModel:
    """A variant of the zoo, its size left open so that any may be asked for later."""
    variant = weights.variant
    if family not in {None, variant.family}:
        raise ModelError(f"family {family!r} was asked for, but {variant.name} is {variant.family!r}")
    proto = weights.build(imgsz="dynamic", precision=precision)
    metadata = {entry.key: entry.value for entry in proto.metadata_props}
    spec = ModelSpec.from_json(metadata[METADATA_KEY])
    if imgsz is not None:
        _check_multiple(imgsz, spec.stride)
        spec = dataclasses.replace(spec, imgsz=imgsz)
    model = proto.SerializeToString()
    graph_sha256 = _digest(model)
    return LoadedModel(
        spec=spec,
        model=model,
        weights=b"",
        path=weights.path or Path(variant.name),
        sha256=weights.sha256 or graph_sha256,
        graph_sha256=graph_sha256,
        input_shape=(1, 3, *spec.imgsz),
        dynamic_batch=True,
        dynamic_size=True,
        weights_precision=precision,
        variant=variant.name,
    )


def _digest(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _load_plan(
    path: Path,
    family: tuple[str | None, str | None],
    imgsz: tuple[int, int] | None,
    *,
    trust_plan: bool,
    inspect_plan: Callable[[Plan, tuple[int, int]], Signature] | None,
) -> LoadedModel:
    """An engine: its description from the manifest, or recognised from its ports where it has none but is trusted."""
    from swiftdet.engines.tensorrt.plan_files import read_plan  # noqa: PLC0415 - engines have a format of their own

    plan = read_plan(path, trust_plan=trust_plan)
    if plan.manifest is not None:
        spec, (least, shape, most) = plan.manifest.spec, plan.manifest.shapes
        if family[0] not in {None, spec.family}:
            raise ModelError(f"family {family[0]!r} was asked for, but {path} describes itself as {spec.family!r}")
        dynamic_batch, dynamic_size = least[0] != most[0], least[2:] != most[2:]
    else:
        if inspect_plan is None:
            raise BackendUnavailable(f"engine {path}: only TensorRT can tell what it holds; build it with swiftdet")
        spec, shape, dynamic_batch, dynamic_size = _recognise_plan(plan, inspect_plan, family, imgsz)
    if imgsz is not None and imgsz != spec.imgsz:
        if not dynamic_size:
            raise InvalidArgument(
                f"imgsz={imgsz[0]}x{imgsz[1]}: the engine was built for {spec.imgsz[0]}x{spec.imgsz[1]}; build another"
            )
        _check_multiple(imgsz, spec.stride)
        spec = dataclasses.replace(spec, imgsz=imgsz)  # whether it was built for it, the engine will tell
    return LoadedModel(
        spec=spec,
        model=b"",
        weights=b"",
        path=path,
        sha256=plan.sha256,
        graph_sha256=None,
        input_shape=(shape[0], 3, *spec.imgsz),
        dynamic_batch=dynamic_batch,
        dynamic_size=dynamic_size,
        plan=plan,
    )


def _recognise_plan(
    plan: Plan,
    inspect_plan: Callable[[Plan, tuple[int, int]], Signature],
    family: tuple[str | None, str | None],
    imgsz: tuple[int, int] | None,
) -> tuple[ModelSpec, tuple[int, ...], bool, bool]:
    """The description of an engine of other tools, its input shape, and whether its batch and its size are open.

    `imgsz`: for which of its sizes, where it has several; None: the one that its own metadata name.
    """
    from swiftdet.model_files.graph import Graph  # noqa: PLC0415 - only such engines need it
    from swiftdet.model_files.metadata import parse_metadata  # noqa: PLC0415

    metadata = parse_metadata({str(key): str(value) for key, value in plan.metadata.items()})
    sides = imgsz or metadata.imgsz or (_DEFAULT_SIDE, _DEFAULT_SIDE)
    found = inspect_plan(plan, sides)
    if len(found.inputs) != 1:
        listed = ", ".join(f"{port.name[:40]!r}" for port in found.inputs[:8]) or "none"
        raise ModelError(f"engine {plan.path}: expected one input, an image [N, 3, H, W]; its inputs are: {listed}")
    image = found.inputs[0]
    if len(image.shape) != 4 or image.shape[1] != 3:
        raise ModelError(f"engine {plan.path}: input {image.name[:80]!r} is {list(image.shape)}, no image [N, 3, H, W]")
    shape = (
        max(image.shape[0], 1),
        3,
        *(given if given > 0 else side for given, side in zip(image.shape[2:], sides, strict=True)),
    )
    ports = tuple(Port(port.name, (max(port.shape[0], 1), *port.shape[1:])) for port in found.outputs if port.shape)
    evidence = Evidence(
        signature=Signature((Port(image.name, shape),), ports),
        size=(shape[2], shape[3]),
        graph=Graph(nodes=(), inputs=(image.name,), outputs=tuple(port.name for port in ports), constants={}),
        metadata=metadata,
        family=family[0],
        variant=family[1],
    )
    try:
        return recognise(evidence), shape, image.shape[0] < 0, min(image.shape[2:]) < 0
    except ModelError as e:
        raise ModelError(f"engine {plan.path}: {e}") from e


def describe(loaded: LoadedModel) -> dict[str, Any]:
    """What `swiftdet models FILE --json` prints: only JSON types, `spec` as in the metadata of our own files."""
    return {
        "path": str(loaded.path),
        "format": "tensorrt" if loaded.plan else "openvino" if loaded.weights else "onnx",
        "sha256": loaded.sha256,
        "bytes": len(loaded.model) + len(loaded.weights) + (len(loaded.plan.data) if loaded.plan else 0),
        "input_shape": list(loaded.input_shape),
        "dynamic_batch": loaded.dynamic_batch,
        "dynamic_size": loaded.dynamic_size,
        "family": loaded.spec.family,
        "variant": loaded.variant,
        "layout": loaded.spec.head.layout,
        "num_classes": loaded.spec.head.num_classes,
        "source": loaded.spec.source,
        "synthetic": loaded.spec.synthetic,
        "spec": json.loads(loaded.spec.to_json()),
    }


def _default_inspect() -> Inspect:
    from swiftdet import engines  # noqa: PLC0415 - loads an engine's library, which tools that pass their own need not

    return engines.inspect


def _read(path: Path) -> tuple[ModelFile, NmsCut | None]:
    """The file by its suffix, with a suppression cut away."""
    try:
        return _read_by_suffix(path)
    except OSError as e:  # a name too long, a folder that may not be searched
        raise ModelError(f"model {path}: cannot be read ({e.strerror or e})") from e


def _read_by_suffix(path: Path) -> tuple[ModelFile, NmsCut | None]:
    suffix = path.suffix.lower()
    if suffix == ".onnx":
        return _read_onnx(path)
    if suffix == ".xml" or (path.is_dir() and any(path.glob("*.xml"))):
        from swiftdet.model_files.openvino_ir import read_openvino_ir  # noqa: PLC0415 - one reader per format

        return read_openvino_ir(path), None
    if _ZOO_NAME.fullmatch(str(path)) and not path.exists():
        raise ModelError(f"model {str(path)!r}: no such file, and no name of the zoo (`swiftdet models` lists them)")
    if not path.exists():
        raise ModelError(f"model {path}: no such file")
    if path.is_dir():
        raise ModelError(f"model {path}: a directory without an OpenVINO .xml file")
    raise ModelError(f"model {path}: unknown suffix {suffix!r}, expected .onnx or .xml (OpenVINO IR)")


def _read_onnx(path: Path) -> tuple[ModelFile, NmsCut | None]:
    from swiftdet.model_files.nms_cut import find_nms  # noqa: PLC0415 - `onnx` is slow to import
    from swiftdet.model_files.onnx_file import read_onnx  # noqa: PLC0415

    onnx = read_onnx(path)
    cut = None
    if onnx.metadata.spec is None and not onnx.has_final_detections():
        try:
            cut = find_nms(onnx.graph)
            if cut is not None:
                onnx.cut(cut.outputs)
        except ModelError as e:
            raise ModelError(f"model {path}: {e}") from e
    return onnx.finish(), cut


def _described_by_file(evidence: Evidence) -> ModelSpec:
    """The file's own description, checked against the network."""
    spec = evidence.metadata.spec
    if spec is None:
        raise ValueError("no description in the metadata")
    if evidence.family not in {None, spec.family}:
        raise ModelError(f"family {evidence.family!r} was asked for, but the file describes itself as {spec.family!r}")
    spec = dataclasses.replace(spec, imgsz=evidence.size, source="metadata")
    check_outputs(spec, evidence.signature)
    return spec


def _size_is_free(file: ModelFile) -> bool:
    return min(file.image_input.shape[2:]) < 0


def _input_shape(file: ModelFile, asked: tuple[int, int] | None, otherwise: tuple[int, int]) -> Shape4:
    """The shape to compile for, after checking that the input is an image as we feed it."""
    image = file.image_input
    found = f"model {file.path}: input {image.name[:80]!r} is {image.dtype} {list(image.shape)}"
    if len(image.shape) != 4:
        raise ModelError(f"{found}; expected float32 [N, 3, H, W]")
    if image.shape[1] not in {3, -1}:
        if image.shape[3] == 3:
            raise ModelError(f"{found}: channels last; expected channels first, [N, 3, H, W]: export it so")
        raise ModelError(f"{found}: {image.shape[1]} channels; expected an RGB image, [N, 3, H, W]")
    # Engines convert the ends of an IR themselves; in ONNX the reader has put casts there.
    if image.dtype not in ({"float", "float16"} if file.format == "openvino" else {"float"}):
        raise ModelError(f"{found}; expected float32: export it without built-in pre-processing or quantised input")
    height, width = image.shape[2:]
    size = asked or otherwise
    wanted = (height if height > 0 else size[0], width if width > 0 else size[1])
    if asked is not None and wanted != asked:
        raise InvalidArgument(
            f"imgsz={asked[0]}x{asked[1]}: the model's input is fixed at {list(image.shape)}; leave imgsz out or "
            "export the model for that size"
        )
    spec = file.metadata.spec
    if spec is not None and wanted != spec.imgsz and (asked is None or not _size_is_free(file)):
        raise ModelError(f"{found}, but its description says {spec.imgsz[0]}x{spec.imgsz[1]}; export it again")
    if asked is not None and _size_is_free(file):
        _check_multiple(asked, spec.stride if spec is not None else file.metadata.stride or 32)
    if max(wanted) > MAX_SIDE:
        raise ModelError(f"{found}; at most {MAX_SIDE} px a side")
    return (image.shape[0] if image.shape[0] > 0 else 1, 3, *wanted)


def _check_multiple(size: tuple[int, int], stride: int) -> None:
    if size[0] % stride or size[1] % stride:
        up = tuple(-(-side // stride) * stride for side in size)
        raise InvalidArgument(f"imgsz={size[0]}x{size[1]}: sides must be multiples of {stride}; try {up[0]}x{up[1]}")


def _parse_family(family: str | None) -> tuple[str | None, str | None]:
    """The family, and the variant whose anchors raw maps have."""
    if family is None:
        return None, None
    if not isinstance(family, str):
        raise InvalidType(f"family: expected one of {', '.join(FAMILIES)}, got {checks.shown(family)}")
    if family in {"yolov7", "yolov7-tiny"}:
        return "yolov7", family
    if family not in FAMILIES:
        raise InvalidArgument(f"family: expected one of {', '.join(FAMILIES)} (or yolov7-tiny), got {family!r:.60}")
    return family, None
