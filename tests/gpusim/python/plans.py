"""Engine plans for the stand-in TensorRT: a few lines of text, then the ONNX model (tests/gpusim/tensorrt/plan.hpp)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from swiftdet import engines
from swiftdet.engines.tensorrt.plan_files import Manifest, write_plan
from swiftdet.model import LoadedModel

Shapes = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
Size = tuple[int, int]


def plan_bytes(
    loaded: LoadedModel,
    *,
    batches: tuple[int, int, int] = (1, 1, 8),
    sizes: tuple[Size, Size] | None = None,
    captures: bool = True,
    input_type: str = "f32",
    output_type: str = "f32",
    extra: tuple[str, ...] = (),
) -> bytes:
    """The "engine" of a model that was read: its batch open between the first and the last number.

    Args:
        loaded: the model.
        batches: fewest, best and most images of a run.
        sizes: smallest and largest input; None: the model's own size alone.
        captures: False for a network that spoils a graph's capture.
        input_type: "f32", "f16", "i32" or "i64".
        output_type: the same, of every output.
        extra: more lines of the plan.
    """
    lines = [*extra, *([] if captures else ["uncapturable"])]
    return plan_of(
        loaded.model,
        shapes(loaded, batches, sizes),
        lines,
        batch=loaded.input_shape[0],
        input_type=input_type,
        output_type=output_type,
    )


def plan_of(
    model: bytes,
    profile: Shapes,
    extra: Sequence[str] = (),
    *,
    batch: int = 1,
    input_type: str = "f32",
    output_type: str = "f32",
) -> bytes:
    """The "engine" of an ONNX model, for inputs from the first to the last shape of `profile`.

    `batch`: the model's own, which is run image by image whatever the profile says.
    """
    least, _, most = profile
    dims = tuple(a if a == b else -1 for a, b in zip(least, most, strict=True))
    signature = engines.inspect(model, b"", input_shape=(batch, *dims[1:]))

    def line(kind: str, name: str, shape: tuple[int, ...], element: str) -> str:
        return f"{kind} {name} {element} {len(shape)} {dims[0]} {' '.join(map(str, shape[1:]))}"

    lines = ["gpusim-plan-1"]
    lines += [line("input", port.name, port.shape, input_type) for port in signature.inputs]
    lines += [line("output", port.name, port.shape, output_type) for port in signature.outputs]
    lines.append("profile " + " ".join(f"4 {' '.join(map(str, shape))}" for shape in profile))
    lines += extra
    lines.append(f"onnx {len(model)}")
    return "\n".join(lines).encode() + b"\n" + model


def shapes(loaded: LoadedModel, batches: tuple[int, int, int], sizes: tuple[Size, Size] | None = None) -> Shapes:
    """Smallest, best and largest input."""
    own = loaded.spec.imgsz
    smallest, largest = sizes or (own, own)
    least, best, most = ((n, 3, *size) for n, size in zip(batches, (smallest, own, largest), strict=True))
    return least, best, most


def write_own(path: Path, loaded: LoadedModel, **options: object) -> Path:
    """A plan with swiftdet's manifest, as `swiftdet build` leaves it."""
    plan = plan_bytes(loaded, **options)
    manifest = Manifest(
        spec=loaded.spec,
        model=loaded.path.name,
        graph_sha256=hashlib.sha256(loaded.model).hexdigest(),
        plan_sha256=hashlib.sha256(plan).hexdigest(),
        plan_bytes=len(plan),
        precision="fp32",
        shapes=shapes(loaded, options.get("batches", (1, 1, 8)), options.get("sizes")),
        tensorrt="10.14.1",
        gpu="Simulated GPU 0",
        sm="sm_86",
        driver="580",
        created="2026-01-01T00:00:00+00:00",
        swiftdet="0",
    )
    write_plan(path, plan, manifest)
    return path


def write_ultralytics(path: Path, loaded: LoadedModel, metadata: dict[str, object], **options: object) -> Path:
    """A plan as Ultralytics exports it: a length, a JSON header, the plan."""
    header = json.dumps(metadata).encode()
    path.write_bytes(len(header).to_bytes(4, "little") + header + plan_bytes(loaded, **options))
    return path
