"""A small `tensorrt` with the interface of release 10 or 11, as far as building engines uses it.

What a release does not have is missing here too, so that using it is an AttributeError; what its bindings check is
checked. The names were read off the bindings of 10.16 and 11.4. The real parser and builder are in
test_zoo_tensorrt.py.
"""

from __future__ import annotations

import enum
import hashlib
import threading
import types

import onnx

FLOAT = "DataType.FLOAT"


class _Logger:
    def __init__(self):
        self.is_constructed = True


class _Monitor:
    def __init__(self):
        self.is_constructed = True


class _Port:
    def __init__(self, value):
        self.name = value.name
        self.shape = tuple(d.dim_value if d.HasField("dim_value") else -1 for d in value.type.tensor_type.shape.dim)
        self.dtype = FLOAT if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT else "DataType.HALF"


class _Layer:
    def __init__(self, name, kind):
        self.name = name
        self.type = types.SimpleNamespace(name=kind)


class _Network:
    def __init__(self, flags):
        self.flags = flags
        self.inputs, self.outputs, self.layers, self.content = [], [], [], b""

    num_inputs = property(lambda self: len(self.inputs))
    num_outputs = property(lambda self: len(self.outputs))
    num_layers = property(lambda self: len(self.layers))

    def get_input(self, index):
        return self.inputs[index]

    def get_output(self, index):
        return self.outputs[index]

    def get_layer(self, index):
        return self.layers[index]


class _ParserError:
    def __init__(self, name, operator, words):
        self.name, self.operator, self.words = name, operator, words

    def node_name(self):
        return self.name

    def node_operator(self):
        return self.operator

    def desc(self):
        return self.words


class _Profile:
    def __init__(self):
        self.shapes = {}

    def set_shape(self, name, least, best, most):
        assert all(len(shape) == len(least) for shape in (best, most))
        self.shapes[name] = (tuple(least), tuple(best), tuple(most))


class _TimingCache:
    def __init__(self, content):
        self.entries = set(content.split()) if content else set()

    def combine(self, other, ignore_mismatch):
        assert ignore_mismatch is False
        self.entries |= other.entries
        return True

    def serialize(self):
        return bytearray(b" ".join(sorted(self.entries)))


class _Config:
    def __init__(self, trt):
        self._trt = trt
        self.flags = {trt.BuilderFlag.TF32}
        self.profiles, self.pools, self.timings, self.progress_monitor = [], {}, None, None

    def clear_flag(self, flag):
        self.flags.discard(self._trt.BuilderFlag(flag))

    def set_memory_pool_limit(self, pool, size):
        self.pools[self._trt.MemoryPoolType(pool)] = size

    def add_optimization_profile(self, profile):
        self.profiles.append(profile)
        return len(self.profiles) - 1

    def create_timing_cache(self, content):
        return _TimingCache(bytes(content))

    def set_timing_cache(self, cache, ignore_mismatch):
        if not ignore_mismatch and b"of-another-gpu" in cache.entries:
            return False
        self.timings = cache
        return True

    def get_timing_cache(self):
        return self.timings


class FakeTensorRT(types.ModuleType):
    """The module. `builds` has one record per engine built; `fails` makes the builder refuse, in these words."""

    def __init__(self, version: str) -> None:
        super().__init__("tensorrt")
        major = int(version.split(".", 1)[0])
        trt = self
        self.__version__ = version
        self.builds: list[dict] = []
        self.fails = ""
        self.ILogger, self.IProgressMonitor = _Logger, _Monitor
        self.Severity = enum.Enum("Severity", ["INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE"])
        self.DataType = types.SimpleNamespace(FLOAT=FLOAT)
        self.MemoryPoolType = enum.IntEnum("MemoryPoolType", ["WORKSPACE", "TACTIC_DRAM"])
        gone_in_11 = ["FP16", "INT8"] if major == 10 else []
        self.BuilderFlag = enum.IntEnum("BuilderFlag", [*gone_in_11, "TF32", "REFIT"])
        creation = {"EXPLICIT_BATCH": 0, "STRONGLY_TYPED": 1} if major == 10 else {"STRONGLY_TYPED": 1}
        self.NetworkDefinitionCreationFlag = enum.IntEnum("NetworkDefinitionCreationFlag", creation)

        class Builder:
            def __init__(self, logger):
                assert logger.is_constructed, "the base class of the logger was not constructed"
                self.logger = logger

            def create_network(self, flags=0):
                strongly_typed = major > 10 or bool(flags >> trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED & 1)
                assert strongly_typed, "types of the graph would be ignored"
                return _Network(flags)

            def create_builder_config(self):
                return _Config(trt)

            def create_optimization_profile(self):
                return _Profile()

            def build_serialized_network(self, network, config):
                return trt._build(self, network, config)

        class OnnxParser:
            def __init__(self, network, logger):
                assert logger.is_constructed
                self.network, self.errors = network, []

            num_errors = property(lambda self: len(self.errors))

            def get_error(self, index):
                return self.errors[index]

            def parse(self, content):
                model = onnx.load_model_from_string(content)
                constants = {tensor.name for tensor in model.graph.initializer}
                for node in model.graph.node:
                    if node.op_type.startswith("NoSuch"):
                        self.errors.append(_ParserError(node.name, node.op_type, "no importer\nfor it"))
                    kind = "PLUGIN_V3" if node.op_type.endswith("_TRT") else node.op_type.upper()
                    self.network.layers.append(_Layer(node.name, kind))
                self.network.inputs = [_Port(v) for v in model.graph.input if v.name not in constants]
                self.network.outputs = [_Port(v) for v in model.graph.output]
                self.network.content = content
                return not self.errors

        self.Builder, self.OnnxParser = Builder, OnnxParser

    def _build(self, builder, network, config):
        if not self._report_progress(config.progress_monitor):
            return None
        if self.fails:
            builder.logger.log(self.Severity.ERROR, self.fails)
            return None
        if any(-1 in port.shape for port in network.inputs):
            assert config.profiles, "open dimensions without a profile"
        if config.timings is not None:
            config.timings.entries.add(hashlib.sha256(network.content).hexdigest()[:8].encode())
        record = {
            "shapes": [profile.shapes for profile in config.profiles],
            "flags": {flag.name for flag in config.flags},
            "pools": {pool.name: size for pool, size in config.pools.items()},
            "content": network.content,
        }
        self.builds.append(record)
        return bytearray(b"plan of " + self.__version__.encode() + hashlib.sha256(repr(record).encode()).digest())

    @staticmethod
    def _report_progress(monitor):
        """The real builder calls from threads of its own."""
        if monitor is None:
            return True
        assert monitor.is_constructed, "the base class of the monitor was not constructed"
        answers = []

        def work():
            monitor.phase_start("Building engine", None, 2)
            monitor.phase_start("Timing", "Building engine", 1)
            answers.append(monitor.step_complete("Timing", 0))
            monitor.phase_finish("Timing")
            answers.append(monitor.step_complete("Building engine", 0))
            answers.append(monitor.step_complete("Building engine", 1))
            monitor.phase_finish("Building engine")

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert all(isinstance(answer, bool) for answer in answers)
        return all(answers)
