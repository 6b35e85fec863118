"""Writes checkpoint files as torch does, without torch: with Python's own pickler and `zipfile`.

Classes that a file names can be imported only while it is written; whoever reads it has to do without them.
"""

from __future__ import annotations

import contextlib
import io
import pickle
import sys
import types
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

MAGIC = 0x1950A86A20F9469CFC6C
VERSION = 1001
STORAGE_TYPES = {
    "float64": "DoubleStorage",
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "bfloat16": "BFloat16Storage",
    "int64": "LongStorage",
    "int32": "IntStorage",
    "int16": "ShortStorage",
    "int8": "CharStorage",
    "uint8": "ByteStorage",
    "bool": "BoolStorage",
    "complex64": "ComplexFloatStorage",
}


@dataclass(eq=False)
class Storage:
    """Elements in a row. `kind` is torch's name of their type; bfloat16 is given as its bits, uint16."""

    data: np.ndarray
    kind: str
    module: str = "torch"

    @property
    def count(self) -> int:
        return self.data.size


@dataclass(eq=False)
class Tensor:
    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(eq=False)
class Parameter:
    data: Tensor


def tensor(array, *, kind: str | None = None) -> Tensor:
    """The array as a tensor with a storage of its own."""
    array = np.asarray(array)
    storage = Storage(np.ascontiguousarray(array).reshape(-1), kind or array.dtype.name)
    return view(storage, array.reshape(array.shape))


def view(storage: Storage, array: np.ndarray, offset: int = 0) -> Tensor:
    """A tensor over `storage` of the shape and strides that `array` has."""
    return Tensor(storage, offset, array.shape, tuple(stride // array.itemsize for stride in array.strides))


def parameter(array, **how) -> Parameter:
    return Parameter(tensor(array, **how))


class Names:
    """Classes (and functions, which a pickle names alike) that can be imported only while a pickler checks that."""

    def __init__(self) -> None:
        self.modules = {name: types.ModuleType(name) for name in ("torch", "torch.cuda", "torch._utils")}

    def get(self, path: str) -> type:
        module, _, name = path.rpartition(".")
        parts = module.split(".")
        for i in range(1, len(parts) + 1):
            folder = self.modules.setdefault(".".join(parts[:i]), types.ModuleType(".".join(parts[:i])))
        if not hasattr(folder, name):
            setattr(folder, name, type(name, (), {"__module__": module}))
        return getattr(folder, name)

    @contextlib.contextmanager
    def importable(self) -> Iterator[None]:
        hidden = {name: sys.modules.get(name) for name in self.modules}
        sys.modules.update(self.modules)
        try:
            yield
        finally:
            for name, before in hidden.items():
                if before is None:
                    del sys.modules[name]
                else:
                    sys.modules[name] = before


NAMES = Names()


def instance(path: str, **attributes):
    """An object of the class `path`, which nobody can import."""
    made = NAMES.get(path)()
    vars(made).update(attributes)
    return made


def module(path: str, *, modules=None, parameters=None, buffers=None, passing=(), **attributes):
    """A `torch.nn.Module` of the class `path`: what its `__dict__` holds. `passing`: buffers that are not saved."""
    return instance(
        path,
        training=False,
        _parameters=OrderedDict(parameters or {}),
        _buffers=OrderedDict(buffers or {}),
        _non_persistent_buffers_set=set(passing),
        _backward_hooks=OrderedDict(),
        _forward_hooks=OrderedDict(),
        _modules=OrderedDict(modules or {}),
        **attributes,
    )


class Pickler(pickle.Pickler):
    """Python's pickler, naming storages as torch.save does."""

    def __init__(self, file, protocol: int, *, legacy: bool) -> None:
        super().__init__(file, protocol)
        self.legacy = legacy
        self.storages: dict[int, tuple[str, Storage]] = {}

    def persistent_id(self, value):
        if not isinstance(value, Storage):
            return None
        key, _ = self.storages.setdefault(id(value), (str(len(self.storages)), value))
        kind = NAMES.get(f"{value.module}.{STORAGE_TYPES[value.kind]}")
        return ("storage", kind, key, "cpu", value.count, *((None,) if self.legacy else ()))

    def reducer_override(self, value):
        if isinstance(value, Tensor):
            rebuild = NAMES.get("torch._utils._rebuild_tensor_v2")
            return rebuild, (value.storage, value.offset, value.shape, value.strides, False, OrderedDict())
        if isinstance(value, Parameter):
            return NAMES.get("torch._utils._rebuild_parameter"), (value.data, True, OrderedDict())
        return NotImplemented


def pickled(value, *, protocol: int = 2, legacy: bool = False) -> tuple[bytes, dict[str, Storage]]:
    """The pickle that torch.save makes of `value`, and the storages by their keys."""
    file = io.BytesIO()
    pickler = Pickler(file, protocol, legacy=legacy)
    with NAMES.importable():
        pickler.dump(value)
    return file.getvalue(), dict(pickler.storages.values())


def archive(entries: dict[str, bytes], *, folder: str = "archive", compression: int = zipfile.ZIP_STORED) -> bytes:
    """A ZIP archive with one top folder."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as made:
        for name, data in entries.items():
            entry = zipfile.ZipInfo(f"{folder}/{name}")  # of a fixed date: the same bytes at any time
            made.writestr(entry, data, compression)
    return file.getvalue()


def zip_of_pickle(pickle_bytes: bytes, storages: dict[str, bytes] | None = None, **how) -> bytes:
    """torch.save's archive around a pickle of any kind."""
    entries = {"data.pkl": pickle_bytes, "byteorder": b"little"}
    entries |= {f"data/{key}": data for key, data in (storages or {}).items()}
    return archive({**entries, "version": b"3\n"}, **how)


def zip_file(value, *, protocol: int = 2, **how) -> bytes:
    """The file that torch.save writes."""
    data, storages = pickled(value, protocol=protocol)
    return zip_of_pickle(data, {key: storage.data.tobytes() for key, storage in storages.items()}, **how)


def legacy_of_pickle(pickle_bytes: bytes, storages: dict[str, Storage] | None = None, *, protocol: int = 2) -> bytes:
    """The older form around a pickle of any kind."""
    storages = storages or {}
    facts = {"protocol_version": VERSION, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    parts = [pickle.dumps(part, protocol) for part in (MAGIC, VERSION, facts)]
    parts += [pickle_bytes, pickle.dumps(list(storages), protocol)]
    for storage in storages.values():
        parts += [storage.count.to_bytes(8, "little"), storage.data.tobytes()]
    return b"".join(parts)


def legacy_file(value, *, protocol: int = 2) -> bytes:
    """The file that torch.save writes with `_use_new_zipfile_serialization=False`."""
    data, storages = pickled(value, protocol=protocol, legacy=True)
    return legacy_of_pickle(data, storages, protocol=protocol)


def yolov7_model(dtype: str = "float16", *, classes: int = 2, seed: int = 0) -> tuple[object, dict[str, np.ndarray]]:
    """A model in the shape of the official files, reduced to one layer of each kind; and its state dict."""
    random = np.random.default_rng(seed)
    expected: dict[str, np.ndarray] = {}

    def array(name: str, *shape: int) -> np.ndarray:
        expected[name] = random.normal(size=shape).astype(dtype)
        return expected[name]

    def conv(prefix: str, shape: tuple[int, ...], *, bias: bool = False) -> object:
        weight = parameter(array(f"{prefix}.weight", *shape))
        parameters = {"weight": weight, "bias": parameter(array(f"{prefix}.bias", shape[0])) if bias else None}
        return module("torch.nn.modules.conv.Conv2d", parameters=parameters, stride=(1, 1), in_channels=shape[1])

    def norm(prefix: str, channels: int) -> object:
        parameters = {name: parameter(array(f"{prefix}.{name}", channels)) for name in ("weight", "bias")}
        buffers = {name: tensor(array(f"{prefix}.{name}", channels)) for name in ("running_mean", "running_var")}
        expected[f"{prefix}.num_batches_tracked"] = count = np.array(100, np.int64)
        buffers["num_batches_tracked"] = tensor(count)
        return module("torch.nn.modules.batchnorm.BatchNorm2d", parameters=parameters, buffers=buffers, eps=1e-3)

    def branch(prefix: str, shape: tuple[int, ...]) -> object:
        return module(
            "torch.nn.modules.container.Sequential",
            modules={"0": conv(f"{prefix}.0", shape), "1": norm(f"{prefix}.1", shape[0])},
        )

    first = module(
        "models.common.Conv",
        modules={
            "conv": conv("model.0.conv", (4, 3, 3, 3)),
            "bn": norm("model.0.bn", 4),
            "act": module("torch.nn.modules.activation.SiLU"),
        },
        i=0,
        f=-1,
        type="models.common.Conv",
    )
    pool = module("models.common.MP", modules={"m": module("torch.nn.modules.pooling.MaxPool2d", kernel_size=2)})
    repeated = module(
        "models.common.RepConv",
        modules={
            "rbr_dense": branch("model.2.rbr_dense", (8, 4, 3, 3)),
            "rbr_1x1": branch("model.2.rbr_1x1", (8, 4, 1, 1)),
        },
        rbr_identity=None,
    )
    outputs = 3 * (5 + classes)
    head_buffers = {
        "anchors": tensor(array("model.3.anchors", 1, 3, 2)),
        "anchor_grid": tensor(array("model.3.anchor_grid", 1, 1, 3, 1, 1, 2)),
    }
    head_modules = {
        "m": module(
            "torch.nn.modules.container.ModuleList", modules={"0": conv("model.3.m.0", (outputs, 8, 1, 1), bias=True)}
        )
    }
    for name, kind, channels in (("ia", "ImplicitA", 8), ("im", "ImplicitM", outputs)):
        implicit = parameter(array(f"model.3.{name}.0.implicit", 1, channels, 1, 1))
        inner = module(f"models.common.{kind}", parameters={"implicit": implicit}, channel=channels)
        head_modules[name] = module("torch.nn.modules.container.ModuleList", modules={"0": inner})
    head = module("models.yolo.IDetect", modules=head_modules, buffers=head_buffers, nc=classes, stride=None)
    layers = {"0": first, "1": pool, "2": repeated, "3": head}
    model = module(
        "models.yolo.Model",
        modules={"model": module("torch.nn.modules.container.Sequential", modules=layers)},
        nc=classes,
        names=[f"kind {i}" for i in range(classes)],
        yaml={"nc": classes, "anchors": [[12, 16, 19, 36, 40, 28]], "backbone": [[-1, 1, "Conv", [4, 3, 1]]], "ch": 3},
        save=[0, 2],
        stride=tensor(np.array([8.0], np.float32)),
        class_weights=tensor(np.ones(classes, np.float32)),
        traced=False,
    )
    return model, expected


_CLASSES = {
    "conv": "torch.nn.modules.conv.Conv2d",
    "bn": "torch.nn.modules.batchnorm.BatchNorm2d",
    "m": "torch.nn.modules.container.ModuleList",
    "ia": "torch.nn.modules.container.ModuleList",
    "im": "torch.nn.modules.container.ModuleList",
}
_BUFFERS = {"running_mean", "running_var", "num_batches_tracked", "anchors", "anchor_grid"}


def yolov7_tree(state: dict[str, np.ndarray], *, names: list[str]) -> object:
    """A whole YOLOv7-tiny model as the project pickles it: the tree of modules whose state dict is `state`.

    Layers without entries come with it as in the official files: activations, and one pooling between the numbers.
    """

    def made(path: str, entries: dict[str, object]) -> object:
        last = path.rpartition(".")[2]
        children = {name: made(f"{path}.{name}", inner) for name, inner in entries.items() if isinstance(inner, dict)}
        arrays = {name: array for name, array in entries.items() if isinstance(array, np.ndarray)}
        kind = _CLASSES.get(last, "models.common.Conv")
        if "conv" in children:
            children["act"] = module("torch.nn.modules.activation.LeakyReLU", negative_slope=0.1, inplace=True)
        elif "m" in children:
            kind = "models.yolo.IDetect"
        elif "implicit" in arrays:
            kind = f"models.common.Implicit{path.rpartition('.')[0][-1].upper()}"
        elif path.count(".") and last.isdecimal():
            kind = "torch.nn.modules.conv.Conv2d"
        return module(
            kind,
            modules=children,
            parameters={name: parameter(array) for name, array in arrays.items() if name not in _BUFFERS},
            buffers={name: tensor(array) for name, array in arrays.items() if name in _BUFFERS},
            i=int(last) if last.isdecimal() else last,
        )

    root: dict[str, object] = {}
    for key, array in state.items():
        *path, leaf = key.split(".")
        inner = root
        for name in path[1:]:
            inner = inner.setdefault(name, {})
        inner[leaf] = array
    layers = {name: made(name, entries) for name, entries in root.items()}
    pooling = module("torch.nn.modules.pooling.MaxPool2d", kernel_size=2, stride=2)
    layers["8"] = module("models.common.MP", modules={"m": pooling})
    ordered = {name: layers[name] for name in sorted(layers, key=int)}
    return module(
        "models.yolo.Model",
        modules={"model": module("torch.nn.modules.container.Sequential", modules=ordered)},
        names=names,
        nc=len(names),
        yaml={"nc": len(names), "backbone": [[-1, 1, "Conv", [32, 3, 2, "None", 1, "nn.LeakyReLU(0.1)"]]], "ch": 3},
        save=[7, 14, 21, 28],
        stride=tensor(np.array([8.0, 16.0, 32.0], np.float32)),
        traced=False,
    )
