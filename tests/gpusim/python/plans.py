"""Engine plans for the stand-in TensorRT: a few lines of text, then the ONNX model (tests/gpusim/tensorrt/plan.hpp)."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from swiftdet import engines
from swiftdet.engines.tensorrt.plan_files import Manifest, write_plan
from swiftdet.model import LoadedModel

Shapes = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]


def plan_bytes(
    loaded: LoadedModel,
    *,
    batches: tuple[int, int, int] = (1, 1, 8),
    captures: bool = True,
    input_type: str = "f32",
    output_type: str = "f32",
    extra: tuple[str, ...] = (),
) -> bytes:
    """The "engine" of a model that was read: its batch open between the first and the last number.

    Args:
        loaded: the model.
        batches: fewest, best and most images of a run.
        captures: False for a network that spoils a graph's capture.
        input_type: "f32", "f16", "i32" or "i64".
        output_type: the same, of every output.
        extra: more lines of the plan.
    """
    signature = engines.inspect(loaded.model, loaded.weights, input_shape=loaded.input_shape)
    fixed = batches[0] == batches[2]

    def line(kind: str, name: str, shape: tuple[int, ...]) -> str:
        dims = (batches[0] if fixed else -1, *shape[1:])
        return f"{kind} {name} {input_type if kind == 'input' else output_type} {len(dims)} {' '.join(map(str, dims))}"

    lines = ["gpusim-plan-1"]
    lines += [line("input", port.name, port.shape) for port in signature.inputs]
    lines += [line("output", port.name, port.shape) for port in signature.outputs]
    lines.append("profile " + " ".join(f"4 {' '.join(map(str, shape))}" for shape in shapes(loaded, batches)))
    lines += extra
    if not captures:
        lines.append("uncapturable")
    lines.append(f"onnx {len(loaded.model)}")
    return "\n".join(lines).encode() + b"\n" + loaded.model


def shapes(loaded: LoadedModel, batches: tuple[int, int, int]) -> Shapes:
    """Smallest, best and largest input."""
    least, best, most = ((n, 3, *loaded.spec.imgsz) for n in batches)
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
        shapes=shapes(loaded, options.get("batches", (1, 1, 8))),
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
