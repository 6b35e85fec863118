"""Arguments of Python functions: arrays of every kind, options of every type.

A case is JSON. A value `{"array": {...}}` stands for an array, `{"py": NAME}` for an object that JSON does not have.
"""

from __future__ import annotations

import copy
import decimal
import fractions
import json
import math
import pathlib
import random
from collections.abc import Callable
from typing import Any

import make_models
import numpy as np
import onnx

import swiftdet
from fuzzing import mutations
from fuzzing.door import Door
from swiftdet import ops
from swiftdet.errors import InvalidArgument
from swiftdet.spec import Head

_MOST_ELEMENTS = 1 << 20
_OBJECTS: dict[str, Callable[[], Any]] = {
    "object": object,
    "bytes": lambda: b"abc",
    "empty bytes": lambda: b"",
    "set": lambda: {1, 2},
    "Decimal": lambda: decimal.Decimal("0.5"),
    "Fraction": lambda: fractions.Fraction(1, 2),
    "huge Fraction": lambda: fractions.Fraction(10**400, 3),
    "complex": lambda: 1j,
    "float32": lambda: np.float32(0.5),
    "float64 nan": lambda: np.float64("nan"),
    "int64": lambda: np.int64(3),
    "uint64": lambda: np.uint64(2**64 - 1),
    "bool_": lambda: np.bool_(True),
    "0-d array": lambda: np.array(0.5),
    "type": lambda: int,
    "function": lambda: len,
    "Path": lambda: pathlib.Path("x"),
    "generator": lambda: (i for i in (0, 1)),
    "range": lambda: range(2),
    "memoryview": lambda: memoryview(b"abc"),
    "str subclass": lambda: type("S", (str,), {})("cpu"),
    "lone surrogate": lambda: "\ud800",
}
_DTYPES = ("uint8", "int8", "uint16", "int32", "int64", "uint64", "float16", "float32", "float64", "bool", "complex64",
           "object", "S3", "U2", "datetime64[s]", ">f4", ">i2", "V5")  # fmt: skip
_FILLS = ("random", "zeros", "nan", "inf", "huge", "tiny", "negative")
_LAYOUTS = ("C", "F", "reversed", "strided", "unaligned", "readonly", "broadcast", "transposed")


def array(dtype: str, *shape: int, fill: str = "random", layout: str = "C") -> dict[str, Any]:
    """The description of an array."""
    return {"array": {"dtype": dtype, "shape": list(shape), "fill": fill, "layout": layout, "seed": 1}}


def built(value: Any) -> Any:
    """The value that a description stands for."""
    if isinstance(value, dict):
        if set(value) == {"array"} and isinstance(value["array"], dict):
            return _array(value["array"])
        if set(value) == {"py"} and isinstance(value["py"], str) and value["py"] in _OBJECTS:
            return _OBJECTS[value["py"]]()
        if set(value) == {"tuple"} and isinstance(value["tuple"], list):
            return tuple(built(item) for item in value["tuple"])
        return {key: built(item) for key, item in value.items()}
    return [built(item) for item in value] if isinstance(value, list) else value


def _array(described: dict[str, Any]) -> Any:
    """An array by its description; None where that describes none."""
    shape = described.get("shape")
    dtype = described.get("dtype")
    if not isinstance(shape, list) or dtype not in _DTYPES or len(shape) > 8:
        return None
    shape = [abs(side) % 70000 if isinstance(side, int) and not isinstance(side, bool) else 1 for side in shape]
    layout = described.get("layout")
    if math.prod(shape) > (_MOST_ELEMENTS << 2 if layout == "broadcast" else _MOST_ELEMENTS):
        return None
    if layout == "broadcast":
        return np.broadcast_to(np.zeros((1,) * len(shape), dtype), shape)
    seed = described.get("seed")
    rng = np.random.default_rng(seed if isinstance(seed, int) and seed >= 0 else 0)
    values = rng.normal(scale=30, size=shape)
    values = {
        "zeros": np.zeros(shape),
        "nan": np.where(values > 0, np.nan, values),
        "inf": np.where(values > 0, np.inf, -np.inf),
        "huge": values * 1e37,
        "tiny": values * 1e-40,
        "negative": -np.abs(values),
    }.get(str(described.get("fill")), np.abs(values))
    with np.errstate(all="ignore"):
        if dtype in ("object", "S3", "U2", "V5"):
            made = np.zeros(shape, dtype)
        elif dtype == "datetime64[s]":
            made = np.zeros(shape, "int64").view(dtype)
        else:
            made = (
                np.nan_to_num(values, nan=0, posinf=0, neginf=0).astype(dtype)
                if dtype[-1] in "8246l" and "f" not in dtype
                else values.astype(dtype)
            )
    return _laid_out(made, layout)


def _laid_out(made: Any, layout: Any) -> Any:
    made = np.asarray(made)  # arithmetic makes scalars of arrays without dimensions
    if layout == "F":
        return np.asfortranarray(made)
    if layout == "transposed":
        return np.ascontiguousarray(made.T).T
    if layout == "reversed" and made.ndim:
        return made[::-1].copy()[::-1]
    if layout == "strided" and made.ndim:
        return np.repeat(made, 2, axis=-1)[..., ::2]
    if layout == "unaligned" and made.dtype.kind != "O":
        padded = np.zeros(made.nbytes + 1, np.uint8)
        shifted = padded[1:].view(made.dtype) if made.size and made.itemsize else made.reshape(-1)
        shifted[...] = made.reshape(-1)
        return shifted.reshape(made.shape)
    if layout == "readonly":
        made.flags.writeable = False
    return made


def changed(call: Any, rng: random.Random) -> Any:
    """A call with other arguments: arrays of another shape, type or layout, options of another type or range."""
    call = copy.deepcopy(call)
    for _ in range(rng.choice((1, 1, 2, 3))):
        if rng.random() < 0.5:
            arrays = list(_arrays(call))
            if arrays:
                _change_array(rng.choice(arrays), rng)
                continue
        if rng.random() < 0.4:
            parent, key = call, rng.choice(list(call))
            while isinstance(parent[key], dict | list) and parent[key] and rng.random() < 0.6:
                parent = parent[key]
                key = rng.choice(list(parent)) if isinstance(parent, dict) else rng.randrange(len(parent))
            parent[key] = {"py": rng.choice(list(_OBJECTS))}
        else:
            call = mutations.of_json(call, rng)
            if not isinstance(call, dict) or not call:
                return {}
    return call


def _arrays(value: Any) -> Any:
    if isinstance(value, dict):
        if isinstance(value.get("array"), dict):
            yield value["array"]
        for item in value.values():
            yield from _arrays(item)
    elif isinstance(value, list):
        for item in value:
            yield from _arrays(item)


def _change_array(described: dict[str, Any], rng: random.Random) -> None:
    shape = described.get("shape")
    kind = rng.randrange(5)
    if kind == 0:
        described["dtype"] = rng.choice(_DTYPES)
    elif kind == 1:
        described["fill"] = rng.choice(_FILLS)
    elif kind == 2:
        described["layout"] = rng.choice(_LAYOUTS)
    elif isinstance(shape, list) and shape and kind == 3:
        shape[rng.randrange(len(shape))] = rng.choice(
            (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 17, 31, 33, 100, 1000, 65535, 65536)
        )
    elif isinstance(shape, list):
        if shape and rng.random() < 0.5:
            del shape[rng.randrange(len(shape))]
        else:
            shape.insert(rng.randrange(len(shape) + 1), rng.choice((0, 1, 2, 3, 4)))


def _parsed(case: bytes) -> dict[str, Any]:
    try:
        call = json.loads(case)
    except (ValueError, RecursionError):
        return {}
    return call if isinstance(call, dict) else {}


class _ArgumentsDoor(Door):
    """Cases that are JSON, changed from valid ones."""

    _seeds: list[dict[str, Any]]

    def case(self, rng: random.Random) -> bytes:
        """A call with other arguments."""
        return json.dumps(changed(rng.choice(self._seeds), rng)).encode()


class OpsDoor(_ArgumentsDoor):
    """`swiftdet.ops`: resize, letterbox, nms, decode with arrays and options of every kind."""

    def prepare(self) -> None:
        """Valid calls of each operation and of each layout of head."""
        picture = array("uint8", 31, 45, 3)
        heads: list[tuple[dict[str, Any], list[Any]]] = [
            ({"layout": "rows", "num_classes": 3, "outputs": ["o"], "has_objectness": True}, [array("float32", 1, 50,
            8)]),
            ({"layout": "columns", "num_classes": 3, "outputs": ["o"]}, [array("float32", 2, 7, 50)]),
            (
                {"layout": "scores_boxes", "num_classes": 3, "outputs": ["s", "b"], "box_format": "xyxy"},
                [array("float32", 1, 50, 3), array("float32", 1, 50, 4)],
            ),
            ({"layout": "detections", "num_classes": 3, "outputs": ["o"]}, [array("float32", 1, 20, 6)]),
            (
                {
                    "layout": "anchor_maps", "num_classes": 2, "outputs": ["a", "b"], "strides": [8, 16],
                    "has_objectness": True,
                    "anchors": [[4.0, 5.0], [6.0, 7.0]], "scores_are_logits": True,
                },
                [array("float32", 1, 7, 4, 6), array("float32", 1, 7, 2, 3)],
            ),
            (
                {
                    "layout": "distribution_maps", "num_classes": 2, "outputs": ["c", "d"], "strides": [8],
                    "reg_max": 4,
                    "scores_are_logits": True,
                },
                [array("float32", 1, 2, 4, 6), array("float32", 1, 20, 4, 6)],
            ),
        ]  # fmt: skip
        boxes = [array("float32", 30, 4), array("float32", 30), array("int64", 30)]
        self._seeds = [
            {"op": "resize", "args": [picture, {"tuple": [20, 33]}], "options": {"interpolation": "area"}},
            {"op": "resize", "args": [array("uint8", 9, 7), [64, 96]], "options": {"interpolation": "linear",
            "device": "cpu"}},
            {
                "op": "letterbox",
                "args": [picture, [64, 96]],
                "options": {
                    "mode": "letterbox", "interpolation": "linear", "pad_value": 114, "color": "bgr",
                    "dtype": "float32",
                    "divisor": 255.0, "mean": [0.1, 0.2, 0.3], "std": [1.0, 2.0, 3.0], "out": array("float32", 3, 64,
                    96),
                },
            },
            {"op": "letterbox", "args": [array("uint8", 8, 5, 4), [32, 32]], "options": {"mode": "stretch",
            "dtype": "uint8"}},
            {"op": "nms", "args": [*boxes, 0.5], "options": {"class_agnostic": False, "max_det": 10, "device": "cpu"}},
            *(
                {
                    "op": "decode", "head": head, "args": [outputs, 0.2],
                    "options": {"multi_label": True, "classes": [0, 1], "max_candidates": 100, "image": 0},
                }
                for head, outputs in heads
            ),
        ]  # fmt: skip

    def run(self, case: bytes) -> str:
        """Calls it; results are finite and of their shapes."""
        call = _parsed(case)
        op, given = call.get("op"), call.get("args")
        options = call.get("options")
        if (
            op not in ("resize", "letterbox", "nms", "decode")
            or not isinstance(given, list)
            or not isinstance(options, dict)
        ):
            return "not a case"
        if len(given) != {"resize": 2, "letterbox": 2, "nms": 4, "decode": 2}[op]:
            return "not a case"
        known = _OPTIONS[op]
        arguments = [built(value) for value in given]
        keywords = {name: built(value) for name, value in options.items() if name in known}
        if op in ("resize", "letterbox") and _is_large(arguments[1]):
            return "large, and legal"
        if op == "decode":
            head = _head(call.get("head"))
            if head is None:
                return "not a case"
            boxes, scores, classes = ops.decode(arguments[0], head, arguments[1], **keywords)
            if not (
                len(boxes) == len(scores) == len(classes) and np.isfinite(boxes).all() and np.isfinite(scores).all()
            ):
                raise AssertionError("decode gave what it promises not to")
            return f"decoded {head.layout}"
        result = getattr(ops, op)(*arguments, **keywords)
        if op == "nms" and len(set(result.tolist())) != len(result):
            raise AssertionError("nms kept a box twice")
        return f"{op} done"


_OPTIONS = {
    "resize": {"interpolation", "device"},
    "letterbox": {
        "mode", "interpolation", "pad_value", "color", "dtype", "divisor", "mean", "std", "device", "out"
    },
    "nms": {"class_agnostic", "max_det", "device"},
    "decode": {"multi_label", "classes", "max_candidates", "image", "device"},
}  # fmt: skip


def _is_large(size: Any) -> bool:
    """Whether a legal result would fill the memory, which is the caller's to decide."""
    try:
        height, width = size
        return bool(0 < height <= 65535 and 0 < width <= 65535 and height * width > 4 * _MOST_ELEMENTS)
    except Exception:  # noqa: BLE001 - it is the library that shall say so
        return False


def _head(described: Any) -> Any:
    """A Head made without any check, as a user can."""
    if not isinstance(described, dict):
        return None
    values = built(described)
    if not isinstance(values, dict):
        return None
    fields = {name: value for name, value in values.items() if name in Head.__dataclass_fields__}
    for name in ("outputs", "strides"):
        if isinstance(fields.get(name), list):
            fields[name] = tuple(fields[name])
    if isinstance(fields.get("anchors"), list):
        fields["anchors"] = tuple(tuple(a) if isinstance(a, list) else a for a in fields["anchors"])
    try:
        return Head(**fields)
    except TypeError:
        return None


class CallDoor(_ArgumentsDoor):
    """`Detector.__call__` and `predict`: images of every type and per-call options."""

    memory_mib = 768

    def prepare(self) -> None:
        """A network of a fixed and one of an open size; calls of each kind."""
        for name in ("fixed", "open"):
            proto = make_models.build("yolov7-zoo", size=(64, 96), classes=3, seed=3, dynamic_size=name == "open")
            onnx.save(proto, self.folder / f"{name}.onnx")
        options = {
            "conf": 0.1, "iou": 0.6, "max_det": 20, "classes": [0, 2], "class_agnostic": False, "multi_label": True,
            "color": "rgb", "imgsz": [64, 96],
        }  # fmt: skip
        self._seeds = [
            {"image": array("uint8", 33, 47, 3), "options": options},
            {"image": [array("uint8", 33, 47, 3), array("uint8", 1, 5)], "options": {**options, "classes": "class1"}},
            {"image": {"tuple": [array("uint8", 8, 8, 4)] * 9}, "options": {"imgsz": 64}},
            {"image": "missing.jpg", "options": {}},
            {
                "image": array("uint8", 20, 20, 3, layout="strided"),
                "options": {"conf": 0.0, "iou": 1.0, "max_det": 30000},
            },
        ]

    def warm_up(self) -> None:
        """Opens the detectors."""
        self._detectors = [
            swiftdet.Detector(self.folder / f"{name}.onnx", device="cpu", sessions=2) for name in ("fixed", "open")
        ]
        for seed in self._seeds:
            try:
                self.run(json.dumps(seed).encode())
            except swiftdet.SwiftdetError:
                continue

    def run(self, case: bytes) -> str:
        """Detects."""
        call = _parsed(case)
        options = call.get("options", {})
        if not isinstance(options, dict):
            return "not a case"
        keywords = {
            str(name): built(value)
            for name, value in options.items()
            if name not in ("image", "self", "source", "stream")
        }
        size = keywords.get("imgsz")
        if (isinstance(size, int) and size > 2048) or (
            isinstance(size, list | tuple) and any(isinstance(side, int) and side > 2048 for side in size)
        ):
            keywords["imgsz"] = 64
        image = built(call.get("image"))
        detector = self._detectors[len(case) % 2]
        found = detector.predict(image, **keywords) if len(case) % 3 == 0 else detector(image, **keywords)
        results = found if isinstance(found, list) else [found]
        for result in results:
            if not (np.isfinite(result.xyxy).all() and np.isfinite(result.conf).all()):
                raise AssertionError("a detection is not finite")
        return f"{'some' if any(map(len, results)) else 'no'} detections"


class DetectorDoor(_ArgumentsDoor):
    """`swiftdet.Detector`: options of the constructor."""

    memory_mib = 768

    def prepare(self) -> None:
        """One small network, and every option."""
        onnx.save(
            make_models.build("ultralytics-columns", size=(64, 96), classes=3, seed=3), self.folder / "model.onnx"
        )
        self._seeds = [
            {
                "model": "model.onnx", "weights": None, "family": "ultralytics", "device": "cpu", "engine": "openvino",
                "precision": "fp32", "performance": "latency", "imgsz": [64, 96], "color": "bgr", "conf": 0.2,
                "iou": 0.5,
                "max_det": 10, "classes": [0], "class_agnostic": True, "multi_label": False, "max_batch": 4,
                "sessions": 1,
                "trust_plan": False, "cache_dir": None,
            },
            {"model": "model.onnx", "engine": "onnxruntime"},
            {"model": "model.onnx", "device": "cuda:0"},
            {"model": "yolov7-tiny", "weights": "model.onnx"},
        ]  # fmt: skip

    def warm_up(self) -> None:
        """Loads OpenVINO and onnxruntime."""
        for seed in self._seeds:
            try:
                self.run(json.dumps(seed).encode())
            except swiftdet.SwiftdetError:
                continue

    def run(self, case: bytes) -> str:
        """Makes it and calls it once."""
        options = {str(name): built(value) for name, value in _parsed(case).items()}
        known = {name: value for name, value in options.items() if name in _CONSTRUCTOR}
        if "model" not in known or known.get("weights") == "synthetic":
            return "not a case"
        if isinstance(known.get("cache_dir"), str | pathlib.Path):
            known["cache_dir"] = self.folder / "cache"
        sessions = known.get("sessions")
        if isinstance(sessions, int) and sessions > 64:
            known["sessions"] = 64
        with swiftdet.Detector(known.pop("model"), **known) as detector:
            detector(np.zeros((9, 9, 3), np.uint8))
            if not repr(detector):
                raise InvalidArgument("a detector without a name")
        return "made"


_CONSTRUCTOR = {
    "model", "weights", "family", "device", "engine", "precision", "performance", "imgsz", "color", "conf", "iou",
    "max_det", "classes", "class_agnostic", "multi_label", "max_batch", "sessions", "trust_plan", "cache_dir",
}  # fmt: skip
