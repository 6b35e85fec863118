"""From an ONNX graph to an engine plan, with the builder of TensorRT 10 or 11.

Both majors, and TensorRT for RTX, share what is used here: strongly typed networks (a flag in 10; 11 knows no others),
profiles, timing caches and progress monitors. What 11 removed (precision flags, calibrators, implicit batches) is not
used at all: precision is in the graph.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from swiftdet.engines.tensorrt import messages
from swiftdet.engines.tensorrt.options import BuildOptions
from swiftdet.engines.tensorrt.progress import BuildProgress, monitor
from swiftdet.engines.tensorrt.timing_cache import TimingCache
from swiftdet.errors import BackendError, InvalidArgument, ModelError

# A builder fills the GPU and measures on it: two at once would only spoil each other's timings.
_one_at_a_time = threading.Lock()


def build_plan(
    library: Any,
    model: bytes,
    options: BuildOptions,
    *,
    progress: BuildProgress | None = None,
    configure: Callable[[Any], None] | None = None,
) -> bytes:
    """Builds an engine on the current GPU. Blocks for seconds to minutes; one build at a time in a process.

    Args:
        library: the module `tensorrt`, or one with the same interface.
        model: ONNX with one input [N, 3, H, W], its weights inside, in the precision wanted.
        options: what to build for.
        progress: hears of every phase and may stop the build. KeyboardInterrupt in it stops the build, too, and is
            raised from here.
        configure: called with the builder's configuration when everything else is set.

    Raises:
        ModelError: the parser refuses the graph, or it holds a plugin or has not one float32 image as its input.
        InvalidArgument: the graph's dimensions are fixed and differ from those asked for.
        BackendError: the builder refused; carries its last messages.
    """
    with _one_at_a_time:
        said = messages.of(library)
        said.take_errors()  # of an earlier build
        builder = library.Builder(said.logger)
        network = builder.create_network(_strongly_typed(library))
        _parse(library, network, model, said)
        config = builder.create_builder_config()
        if options.workspace_bytes:
            config.set_memory_pool_limit(library.MemoryPoolType.WORKSPACE, options.workspace_bytes)
        if options.precision == "fp32":
            config.clear_flag(library.BuilderFlag.TF32)  # on by default; it is not float32
        _set_profile(builder, config, network, options)
        timings = None if options.timing_cache is None else TimingCache(config, options.timing_cache)
        listening = None if progress is None else monitor(library, progress)
        if listening is not None:
            config.progress_monitor = listening
        if configure is not None:
            configure(config)
        plan = builder.build_serialized_network(network, config)
        if listening is not None and listening.interruption is not None:
            raise listening.interruption
        if plan is None:
            raise BackendError(f"TensorRT built no engine: {said.take_errors() or 'it was stopped'}")
        if timings is not None:
            timings.save()
        return bytes(plan)


def _strongly_typed(library: Any) -> int:
    flag = getattr(library.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _parse(library: Any, network: Any, model: bytes, said: messages.Messages) -> None:
    parser = library.OnnxParser(network, said.logger)
    if not parser.parse(model):
        found = "; ".join(_words(parser.get_error(i)) for i in range(parser.num_errors))
        raise ModelError(f"TensorRT's parser refuses the graph: {found or said.take_errors()}")
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    plugins = sorted({layer.name for layer in layers if layer.type.name.startswith("PLUGIN")})
    if plugins:
        raise ModelError(
            f"the graph holds {len(plugins)} plugins ({', '.join(plugins)[:200]}), whose code a plan would carry; "
            "export it without them: swiftdet does the suppression itself"
        )
    if network.num_inputs != 1:
        names = ", ".join(network.get_input(i).name for i in range(network.num_inputs))
        raise ModelError(f"expected one input, the image; the graph has {network.num_inputs} ({names})")
    for port in (network.get_input(0), *(network.get_output(i) for i in range(network.num_outputs))):
        if port.dtype != library.DataType.FLOAT:
            raise ModelError(f"expected float32 inputs and outputs, {port.name!r} is {port.dtype}")


def _words(error: Any) -> str:
    name, operator = error.node_name(), error.node_operator()
    return " ".join(f"{operator or 'node'} {name}: {error.desc()}".split())


def _set_profile(builder: Any, config: Any, network: Any, options: BuildOptions) -> None:
    image = network.get_input(0)
    dims, shapes = tuple(image.shape), options.shapes()
    fits = len(dims) == 4 and all(d in (-1, s) for shape in shapes for d, s in zip(dims, shape, strict=True))
    if not fits:
        wanted = " to ".join("x".join(map(str, shape)) for shape in dict.fromkeys((shapes[0], shapes[2])))
        raise InvalidArgument(f"the graph's input {image.name!r} is {list(dims)}; it cannot take {wanted}")
    if -1 not in dims:
        return
    profile = builder.create_optimization_profile()
    profile.set_shape(image.name, *shapes)
    if config.add_optimization_profile(profile) < 0:
        raise BackendError(f"TensorRT refuses the profile {shapes}")
