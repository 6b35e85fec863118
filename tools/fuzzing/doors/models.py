"""Model files: ONNX, OpenVINO IR, TensorRT engines."""

from __future__ import annotations

import contextlib
import random
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import make_models
import numpy as np
import onnx
from google.protobuf.message import EncodeError

import swiftdet
from fuzzing import mutations
from fuzzing.door import Door
from fuzzing.doors import plan_cases
from swiftdet import model
from swiftdet.engines.signature import Port, Signature
from swiftdet.errors import InvalidArgument

_SIZE = (64, 96)
_SIZE_P6 = (128, 192)
_LARGEST = 64 * 1024  # of a seed: parsing large ones would only cost time


def _build(layout: str) -> onnx.ModelProto:
    size = _SIZE_P6 if "w6" in layout else _SIZE
    return make_models.build(layout, size=size, classes=3, seed=3)


class OnnxDoor(Door):
    """`swiftdet.model.load` of an ONNX file: parsed, checked, recognised; shapes are those that it declares."""

    memory_mib = 768

    def prepare(self) -> None:
        """One small network of every layout that is recognised, and one with its weights in another file."""
        self._protos = [proto for proto in map(_build, make_models.LAYOUTS) if proto.ByteSize() <= _LARGEST]
        outside = onnx.ModelProto.FromString(self._protos[0].SerializeToString())
        onnx.save(
            outside, self.folder / "outside.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0
        )
        self._protos.append(onnx.load(self.folder / "outside.onnx", load_external_data=False))
        self._data = [proto.SerializeToString() for proto in self._protos]

    def warm_up(self) -> None:
        """Loads OpenVINO."""
        for data in self._data:
            with contextlib.suppress(swiftdet.SwiftdetError):  # what options its bytes happen to choose
                self.run(data)

    def case(self, rng: random.Random) -> bytes:
        """A network changed field by field, or as bytes."""
        if rng.random() < 0.7:
            changed = mutations.of_message(rng.choice(self._protos), rng)
            try:
                return changed.SerializeToString()
            except (EncodeError, ValueError):
                pass
        return mutations.of_bytes(rng.choice(self._data), rng, others=self._data)

    def write(self, case: bytes) -> tuple[Path, dict[str, Any]]:
        """The file of a case, and options that its bytes decide."""
        path = self.folder / "case.onnx"
        path.write_bytes(case)
        digest = zlib.crc32(case)
        family = (None, None, None, "yolov7", "yolov7-tiny", "damo-yolo", "ultralytics")[digest % 7]
        imgsz = (None, None, None, 64, (64, 96), (128, 32))[digest // 7 % 6]
        return path, {"family": family, "imgsz": imgsz}

    def run(self, case: bytes) -> str:
        """Reads and recognises it."""
        path, options = self.write(case)
        try:
            loaded = model.load(path, inspect=_declared, **options)
        except InvalidArgument:
            loaded = model.load(path, inspect=_declared)
        model.describe(loaded)
        return f"recognised as {loaded.spec.head.layout}"


def _declared(content: bytes, _weights: bytes, /, *, input_shape: Any = None) -> Signature:
    """The ports as an ONNX file declares them, in the place of an engine that infers them."""
    graph = onnx.ModelProto.FromString(content).graph
    outputs = [(o.name, tuple(max(d.dim_value, -1) or -1 for d in o.type.tensor_type.shape.dim)) for o in graph.output]
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [i.name for i in graph.input if i.name not in constants]
    return Signature(tuple(Port(name, input_shape) for name in inputs), tuple(Port(*port) for port in outputs))


class OnnxRunDoor(OnnxDoor):
    """`swiftdet.Detector` of an ONNX file: compiled by OpenVINO, and one call."""

    engine = "openvino"
    memory_mib = 1024

    def run(self, case: bytes) -> str:
        """Compiles it and detects in one small image."""
        path, options = self.write(case)
        with swiftdet.Detector(path, device="cpu", engine=self.engine, sessions=1, **options) as detector:
            if max(detector.imgsz) > 1024:
                return "compiled, of a large input"
            return _detected(detector)


class OnnxRuntimeDoor(OnnxRunDoor):
    """`swiftdet.Detector` of an ONNX file with engine="onnxruntime", and one call."""

    engine = "onnxruntime"


def _detected(detector: swiftdet.Detector) -> str:
    pixels = np.arange(40 * 50 * 3, dtype=np.uint32).reshape(40, 50, 3) % 251
    result = detector(pixels.astype(np.uint8), conf=0.01)
    if not (np.isfinite(result.xyxy).all() and np.isfinite(result.conf).all()):
        raise AssertionError(f"boxes are not finite: {result.xyxy}")
    if result.xyxy.size and (
        result.xyxy.min() < 0 or result.xyxy[:, 0::2].max() > 50 or result.xyxy[:, 1::2].max() > 40
    ):
        raise AssertionError(f"boxes lie outside the image: {result.xyxy}")
    return "detected"


class IrDoor(Door):
    """`swiftdet.model.load` of an OpenVINO IR, .xml, .bin and metadata.yaml: read, recognised; shapes are given."""

    memory_mib = 768
    _LAYOUTS = ("ultralytics-columns", "yolov7-grid", "damo-two-outputs")
    _PORTS = (
        (("output0", (1, 7, 126)),),
        (("output", (1, 378, 8)),),
        (("output", (1, 126, 3)), ("406", (1, 126, 4))),
        (),
    )
    _YAML = (
        b"description: x\nauthor: Ultralytics\nstride: 32\ntask: detect\nimgsz:\n- 64\n- 96\n"
        b"names:\n  0: a\n  1: 'b'\n  2: c\n"
    )
    _WRITER = (
        "import sys, openvino as ov; [ov.save_model(ov.Core().read_model(p), p[:-4] + 'xml') for p in sys.argv[1:]]"
    )

    def prepare(self) -> None:
        """Networks converted in a process of its own: importing openvino has side effects."""
        paths = [self.folder / f"{layout}.onnx" for layout in self._LAYOUTS]
        for path in paths:
            proto = _build(path.stem)
            _shrink(proto)
            onnx.save(proto, path)
        subprocess.run(
            [sys.executable, "-c", self._WRITER, *map(str, paths)], check=True, capture_output=True, timeout=120
        )
        xmls = [mutations.XmlText(path.with_suffix(".xml").read_text()) for path in paths]
        self._seeds = [
            (xml, path.with_suffix(".bin").read_bytes(), self._YAML) for xml, path in zip(xmls, paths, strict=True)
        ]
        for path in self.folder.iterdir():
            path.unlink()

    def warm_up(self) -> None:
        """Loads OpenVINO."""
        for seed in self._seeds:
            with contextlib.suppress(swiftdet.SwiftdetError):  # the names in metadata.yaml do not fit every family
                self.run(mutations.pack(seed[0].text.encode(), *seed[1:]))

    def case(self, rng: random.Random) -> bytes:
        """Three files, one of them changed."""
        xml, weights, yaml = rng.choice(self._seeds)

        def change_xml(data: bytes) -> bytes:
            return mutations.of_bytes(data, rng) if rng.random() < 0.2 else xml.changed(rng).encode()

        def change(data: bytes) -> bytes:
            return mutations.of_bytes(data, rng)

        text = xml.text.encode()
        parts = [text, weights, yaml] if rng.random() < 0.7 else [text]
        packed = mutations.change_part(parts, rng, [change_xml, change, change][: len(parts)])
        return packed if len(parts) == 3 else packed + mutations.pack(weights, b"")

    def write(self, case: bytes) -> Path:
        """The files of a case."""
        xml, weights, yaml = mutations.unpack(case, 3)
        for name, content in (("case.xml", xml), ("case.bin", weights), ("metadata.yaml", yaml)):
            (self.folder / name).unlink(missing_ok=True)
            if content:
                (self.folder / name).write_bytes(content)
        return self.folder if len(case) % 2 else self.folder / "case.xml"

    def run(self, case: bytes) -> str:
        """Reads and recognises it."""
        ports = self._PORTS[len(case) % len(self._PORTS)]

        def given(_xml: bytes, _weights: bytes, /, *, input_shape: Any = None) -> Signature:
            return Signature((Port("images", input_shape),), tuple(Port(*port) for port in ports))

        loaded = model.load(self.write(case), inspect=given)
        model.describe(loaded)
        return f"recognised as {loaded.spec.head.layout}"


class IrRunDoor(IrDoor):
    """`swiftdet.Detector` of an OpenVINO IR: compiled, and one call."""

    memory_mib = 1024

    def run(self, case: bytes) -> str:
        """Compiles it and detects in one small image."""
        with swiftdet.Detector(self.write(case), device="cpu", sessions=1) as detector:
            if max(detector.imgsz) > 1024:
                return "compiled, of a large input"
            return _detected(detector)


def _shrink(proto: onnx.ModelProto) -> None:
    """Drops names of values, which the XML would repeat."""
    del proto.graph.value_info[:]


class PlanDoor(Door):
    """`swiftdet.model.load` of a TensorRT engine: manifest, Ultralytics' header, what its ports are taken for."""

    _PORTS = (
        ((("images", (1, 3, 64, 96)),), (("output0", (1, 7, 126)),)),
        ((("images", (-1, 3, -1, -1)),), (("output0", (-1, 7, -1)),)),
        ((("images", (1, 3, 64, 96)), ("more", (1, 1))), (("output0", (1, 7, 126)),)),
        ((("images", (1, 3)),), (("output0", ()),)),
        ((), ()),
        ((("images", (1, 3, 0, 1 << 40)),), (("a", (1, 126, 3)), ("b", (1, 126, 4)))),
    )

    def prepare(self) -> None:
        """Plans with a manifest, with a header, with neither; the plan itself is TensorRT's and opaque."""
        self._seeds = plan_cases.seeds()

    def case(self, rng: random.Random) -> bytes:
        """A plan and its manifest, one of them changed."""
        plan, manifest = rng.choice(self._seeds)

        def change_plan(data: bytes) -> bytes:
            return plan_cases.changed_header(data, rng)

        def change_manifest(data: bytes) -> bytes:
            return plan_cases.changed_manifest(data, rng) if data else data

        packed = mutations.change_part((plan, manifest), rng, (change_plan, change_manifest))
        return packed + bytes([rng.randrange(256)])

    def run(self, case: bytes) -> str:
        """Reads, verifies and describes it, without TensorRT."""
        plan, manifest = mutations.unpack(case, 2)
        path = self.folder / "case.engine"
        path.write_bytes(plan)
        beside = self.folder / "case.engine.json"
        beside.unlink(missing_ok=True)
        if manifest:
            beside.write_bytes(manifest)
        inputs, outputs = self._PORTS[(case[-1] if case else 0) % len(self._PORTS)]
        ports = Signature(tuple(Port(*p) for p in inputs), tuple(Port(*p) for p in outputs))
        loaded = model.load(path, trust_plan=not manifest, inspect_plan=lambda _plan, _size: ports)
        model.describe(loaded)
        return "read by its manifest" if manifest else "read on trust"
