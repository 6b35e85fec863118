"""Network engines: which one runs a model, and what a model's inputs and outputs are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from swiftdet import _core
from swiftdet.engines import openvino
from swiftdet.engines.onnxruntime import OnnxRuntimeEngine
from swiftdet.engines.protocol import PythonEngine
from swiftdet.engines.signature import Port, Signature
from swiftdet.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["OnnxRuntimeEngine", "Port", "PythonEngine", "Signature", "compile", "inspect"]

EngineName = Literal["auto", "openvino", "tensorrt", "onnxruntime"]
Precision = Literal["auto", "fp32", "fp16", "bf16"]
Performance = Literal["latency", "throughput"]

_ENGINES = ("auto", "openvino", "tensorrt", "onnxruntime")
_CPU_PRECISIONS = {"auto": "f32", "fp32": "f32", "fp16": "f16", "bf16": "bf16"}


def inspect(model: bytes, weights: bytes = b"", *, input_shape: Sequence[int] | None = None) -> Signature:
    """Names and shapes of a network's inputs and outputs, read from its file without compiling it.

    Args:
        model: an ONNX file, or the XML of an OpenVINO IR.
        weights: the IR's weights; empty for ONNX.
        input_shape: shape to give to the one input first; -1 leaves a dimension open.

    Raises:
        ModelError: unreadable, or its weights lie in other files.
        InvalidArgument: the network cannot take `input_shape`.
        BackendUnavailable: OpenVINO is not installed.
    """
    inputs, outputs = openvino.runtime().inspect(model, weights, _dims(input_shape))
    return Signature(
        tuple(Port(name, shape) for name, shape in inputs),
        tuple(Port(name, shape) for name, shape in outputs),
    )


def compile(  # noqa: A001 - the word for it; used as engines.compile
    model: bytes,
    weights: bytes = b"",
    *,
    engine: EngineName | PythonEngine = "auto",
    device: str = "auto",
    precision: Precision = "auto",
    performance: Performance = "latency",
    input_shape: Sequence[int] | None = None,
    num_threads: int = 0,
    cache_dir: Path | None = None,
) -> _core.Backend:
    """Makes a network ready to run. Blocks, with the GIL released; safe from several threads.

    Args:
        model: an ONNX file, or the XML of an OpenVINO IR. Not looked at when `engine` is an object.
        weights: the IR's weights; empty for ONNX.
        engine: "auto" is OpenVINO on the CPU; an object follows `PythonEngine` and is already loaded.
        device: "auto" or "cpu"; "cuda" is refused, as GPUs need TensorRT (`swiftdet.engines.tensorrt`).
        precision: of the arithmetic inside; "auto" is fp32 on the CPU, whatever the plugin itself would
            choose. Inputs and outputs are float32 always.
        performance: one call as fast as possible, or many in flight (OpenVINO only).
        input_shape: [N, 3, H, W] that replaces the file's; -1 leaves a dimension open. For "onnxruntime" it
            only narrows what the file leaves open.
        num_threads: threads of the engine; 0 is its own choice.
        cache_dir: where OpenVINO keeps compiled networks; None: nowhere.

    Raises:
        InvalidArgument: an unknown option, or one that this engine cannot honour.
        InvalidType: `engine` is an object that does not follow `PythonEngine`.
        ModelError: the model is unreadable, or has not exactly one input.
        BackendUnavailable: the engine or the device is missing; says what to install.
        BackendError: the engine refused, in its own words.
    """
    from swiftdet import device_policy  # noqa: PLC0415 - it knows every engine, this package among them

    _check_choice("precision", precision, tuple(_CPU_PRECISIONS))
    _check_choice("performance", performance, ("latency", "throughput"))
    if isinstance(engine, str):
        _check_choice("engine", engine, _ENGINES)
    device_policy.parse(device)
    if engine == "tensorrt" or device.startswith("cuda"):
        device_policy.choose(device, engine if isinstance(engine, str) else type(engine).__name__)
        raise InvalidArgument(
            "engines.compile makes engines for the CPU; swiftdet.engines.tensorrt makes those for GPUs"
        )
    if engine in ("auto", "openvino"):
        return openvino.runtime().compile(
            model,
            weights,
            performance=performance,
            input_shape=_dims(input_shape),
            inference_precision=_CPU_PRECISIONS[precision],
            num_threads=num_threads,
            cache_dir=cache_dir,
        )
    if precision not in ("auto", "fp32"):
        raise InvalidArgument(
            f"precision: engine {_name(engine)} computes as the model says; expected 'auto' or 'fp32', "
            f"got {precision!r}"
        )
    if engine == "onnxruntime":
        if weights:
            raise InvalidArgument("engine 'onnxruntime' reads ONNX models only, got an OpenVINO IR; use 'openvino'")
        engine = OnnxRuntimeEngine(model, input_shape=input_shape, num_threads=num_threads)
    elif input_shape is not None or num_threads != 0:
        raise InvalidArgument(
            f"input_shape and num_threads: engine {_name(engine)} is already loaded; give them to it instead"
        )
    return _core.python_backend(engine)


def _name(engine: object) -> str:
    return repr(engine) if isinstance(engine, str) else type(engine).__name__


def _dims(shape: Sequence[int] | None) -> list[int] | None:
    return None if shape is None else list(shape)


def _check_choice(option: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        expected = ", ".join(repr(c) for c in choices)
        raise InvalidArgument(f"{option}: expected one of {expected}, got {value!r}")
