"""Engine plans as files: the plan, and beside it a manifest that says what it is.

    yolov7.engine        the plan, as TensorRT serialised it
    yolov7.engine.json   the manifest: SHA-256 of the plan, the model's description, what it was built for

A plan is machine code for one GPU: whoever can write it decides what runs. The manifest tells a plan that is damaged,
mixed up, or of another GPU or TensorRT, before TensorRT looks at it. It does not tell who wrote the two; a folder that
others cannot write does.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swiftdet.cuda_devices import CudaDevice
from swiftdet.engines.tensorrt.library import release
from swiftdet.errors import ModelError
from swiftdet.spec import ModelSpec
from swiftdet.whole_files import write_whole

SUFFIXES = frozenset({".engine", ".plan", ".trt"})
FORMAT = "swiftdet.engine/1"
"""Names the manifest and its version."""

_MAX_MANIFEST_BYTES = 8 << 20
_MAX_HEADER_BYTES = 1 << 20
_MAX_DIM = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a plan is and where it runs.

    Attributes:
        spec: the model's description.
        model: what it was built from, for people.
        graph_sha256: of the ONNX that the builder was given.
        plan_sha256: of the plan.
        plan_bytes: its size.
        precision: "fp32" or "fp16".
        shapes: smallest, best and largest input, [N, 3, H, W].
        tensorrt: version that built it, and the only one that is sure to read it.
        gpu: name of the GPU that it was built on.
        sm: its architecture, "sm_75".
        driver: the driver's branch.
        created: UTC, ISO 8601.
        swiftdet: version that built it.
    """

    spec: ModelSpec
    model: str
    graph_sha256: str
    plan_sha256: str
    plan_bytes: int
    precision: str
    shapes: tuple[tuple[int, ...], ...]
    tensorrt: str
    gpu: str
    sm: str
    driver: str
    created: str
    swiftdet: str

    def to_json(self) -> str:
        """The manifest as a JSON document for machines and people."""
        document = {"format": FORMAT, **dataclasses.asdict(self), "spec": json.loads(self.spec.to_json())}
        return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str, path: Path) -> Manifest:
        """Restores a manifest.

        Raises:
            ModelError: it is none, of another version, or a field is missing or of the wrong type.
        """
        try:
            document = json.loads(text)
        except (ValueError, RecursionError) as e:
            raise ModelError(f"manifest {path}: expected JSON ({e})") from e
        if not isinstance(document, dict) or document.pop("format", None) != FORMAT:
            raise ModelError(f"manifest {path}: expected {FORMAT!r}; build the engine again")
        names = {f.name: str(f.type) for f in dataclasses.fields(cls)}
        if set(document) != set(names):
            wrong = ", ".join(sorted(set(document) ^ set(names)))
            raise ModelError(f"manifest {path}: fields missing or unknown: {wrong:.200}; build the engine again")
        values = {name: _value(document[name], kind, f"manifest {path}: {name}") for name, kind in names.items()}
        return cls(**values)

    def check_runs_on(self, device: CudaDevice, tensorrt: str) -> None:
        """Whether this GPU and this TensorRT can run the plan.

        Raises:
            ModelError: it is of another architecture or of another TensorRT; says both.
        """
        if self.sm != device.sm:
            raise ModelError(
                f"the engine was built for {self.sm} ({self.gpu}); {device.name} is {device.sm}: build it there"
            )
        if release(self.tensorrt) != release(tensorrt):
            raise ModelError(
                f"the engine was built by TensorRT {self.tensorrt}, here is {tensorrt}; a plan is read by the release "
                "that wrote it: build it again"
            )


@dataclass(frozen=True)
class Plan:
    """A plan read from a file, its bytes the ones that were verified.

    Attributes:
        data: as TensorRT serialised it.
        path: where it was read.
        sha256: of the file.
        manifest: None for a plan of other tools, which the caller said to trust.
        metadata: of the JSON header that Ultralytics puts before a plan; empty without one.
    """

    data: bytes
    path: Path
    sha256: str
    manifest: Manifest | None
    metadata: dict[str, Any]


def manifest_path(plan: Path) -> Path:
    """Where the manifest of a plan lies."""
    return plan.with_name(f"{plan.name}.json")


def write_plan(path: Path, plan: bytes, manifest: Manifest) -> None:
    """Writes both files, each whole or not at all; the plan first, as without its manifest it does not count.

    Raises:
        OSError: the folder cannot be made or written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    manifest_path(path).unlink(missing_ok=True)  # of an older plan
    write_whole(path, plan)
    write_whole(manifest_path(path), manifest.to_json().encode())


def read_manifest(path: Path) -> Manifest | None:
    """The manifest beside a plan; None where there is none.

    Raises:
        ModelError: it is unreadable.
    """
    file = manifest_path(path)
    try:
        with file.open("rb") as stream:
            data = stream.read(_MAX_MANIFEST_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as e:
        raise ModelError(f"manifest {file}: cannot be read ({e.strerror or e})") from e
    if len(data) > _MAX_MANIFEST_BYTES:
        raise ModelError(f"manifest {file}: over {_MAX_MANIFEST_BYTES} bytes")
    try:
        text = data.decode()
    except UnicodeDecodeError as e:
        raise ModelError(f"manifest {file}: expected UTF-8 ({e})") from e
    return Manifest.from_json(text, file)


def read_plan(path: Path, *, trust_plan: bool = False) -> Plan:
    """Reads a plan and verifies it, without giving it to TensorRT.

    Args:
        path: of the plan.
        trust_plan: accept a plan without a manifest: one of `trtexec`, of Ultralytics, of an older swiftdet.

    Raises:
        ModelError: unreadable, not what its manifest says, or without one and not trusted.
    """
    manifest = read_manifest(path)
    if manifest is None and not trust_plan:
        raise ModelError(
            f"engine {path}: it has no manifest ({manifest_path(path).name}), so nobody knows what it is; a plan is "
            "machine code: build it with `swiftdet build`, or pass trust_plan=True if you know who made it"
        )
    try:
        data = path.read_bytes()
    except OSError as e:
        raise ModelError(f"engine {path}: cannot be read ({e.strerror or e})") from e
    sha256 = hashlib.sha256(data).hexdigest()
    if manifest is None:
        metadata, data = _without_header(data)
        return Plan(data, path, sha256, None, metadata)
    if (len(data), sha256) != (manifest.plan_bytes, manifest.plan_sha256):
        raise ModelError(
            f"engine {path}: {len(data)} bytes with SHA-256 {sha256[:16]}..., but its manifest says "
            f"{manifest.plan_bytes} bytes with {manifest.plan_sha256[:16]}...; it is damaged or was replaced: build it "
            "again"
        )
    return Plan(data, path, sha256, manifest, {})


def _without_header(data: bytes) -> tuple[dict[str, Any], bytes]:
    """The JSON that Ultralytics' exports carry before the plan (its length first, 4 bytes), and the plan itself."""
    length = int.from_bytes(data[:4], "little")
    if not 2 <= length <= min(_MAX_HEADER_BYTES, len(data) - 4) or data[4:5] != b"{":
        return {}, data
    try:
        metadata = json.loads(data[4 : 4 + length].decode())
    except (ValueError, RecursionError):
        return {}, data
    return metadata, data[4 + length :]


def _value(value: Any, kind: str, where: str) -> Any:
    if kind == "ModelSpec" and isinstance(value, dict):
        return ModelSpec.from_json(json.dumps(value))
    if kind == "str" and isinstance(value, str) and value.isprintable():
        return value
    if kind == "int" and isinstance(value, int) and not isinstance(value, bool):
        return value
    if kind.startswith("tuple") and _are_shapes(value):
        return tuple(tuple(shape) for shape in value)
    raise ModelError(f"{where}: expected {kind}, got {value!r:.60}")


def _are_shapes(value: Any) -> bool:
    """Whether these are three lists of four dimensions."""

    def is_dim(dim: Any) -> bool:
        return isinstance(dim, int) and not isinstance(dim, bool) and 0 < dim < _MAX_DIM

    return (
        isinstance(value, list)
        and len(value) == 3
        and all(isinstance(shape, list) and len(shape) == 4 and all(map(is_dim, shape)) for shape in value)
    )
