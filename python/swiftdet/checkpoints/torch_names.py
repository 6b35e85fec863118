"""The names that a pickle of torch.save may call, and what we make of each. Every other name is refused.

Each is a function of ours that takes the arguments and returns data; none imports or calls what the name stands for.
"""

from __future__ import annotations

from collections.abc import Callable

from swiftdet.checkpoints.records import Global, Record, kind_of
from swiftdet.checkpoints.tensors import ELEMENT_TYPES, MAX_RANK, ElementType, Storage, Tensor
from swiftdet.errors import ModelError

_STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "UntypedStorage": "uint8",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
    "QUInt8Storage": "quint8",
    "QInt8Storage": "qint8",
    "QInt32Storage": "qint32",
}
_STORAGE_MODULES = {"torch", "torch.cuda", "torch.storage"}  # torch.cuda: saved from a GPU by torch < 2


def storage_element(name: object) -> ElementType:
    """The element type that a storage class stands for.

    Raises:
        ModelError: it is not one of torch's.
    """
    if isinstance(name, Global) and name.module in _STORAGE_MODULES and name.name in _STORAGES:
        return ELEMENT_TYPES[_STORAGES[name.name]]
    raise ModelError(f"tensors stored as {kind_of(name)}; expected one of torch's storage types")


def call(function: Global, arguments: tuple[object, ...]) -> object:
    """The value of `function(*arguments)`, for the names below.

    Raises:
        ModelError: another name, or arguments that it cannot have.
    """
    make = _MAKERS.get((function.module, function.name))
    if make is None:
        raise ModelError(
            f"the pickle calls {function}, which a detector's checkpoint does not need; nothing was executed. If you "
            "trust the file, save its state dict alone: torch.save(model.state_dict(), path)"
        )
    try:
        return make(*arguments)
    except TypeError as e:
        raise ModelError(f"{function} is called with {len(arguments)} values that it cannot take: {_DAMAGED}") from e


_DAMAGED = "the file is damaged, or a later torch wrote it"


def _integers(value: object) -> tuple[int, ...]:
    if isinstance(value, tuple) and len(value) <= MAX_RANK and all(type(n) is int for n in value):
        return value
    raise ModelError(
        f"a tensor's shape or strides: expected at most {MAX_RANK} integers, got {kind_of(value)}: {_DAMAGED}"
    )


def _tensor(storage: object, offset: object, shape: object, strides: object, *_: object) -> Tensor:
    if not isinstance(storage, Storage) or type(offset) is not int:
        raise ModelError(f"a tensor made of {kind_of(storage)} and {kind_of(offset)}: {_DAMAGED}")
    return Tensor(storage, storage.element, offset, _integers(shape), _integers(strides))


def _typed_tensor(storage: object, offset: object, shape: object, strides: object, *rest: object) -> Tensor:
    """A tensor of a type that has no storage class of its own; `rest`: requires_grad, hooks, dtype, ..."""
    dtype = rest[2] if len(rest) > 2 else None
    element = ELEMENT_TYPES.get(dtype.name) if isinstance(dtype, Global) and dtype.module == "torch" else None
    if element is None:
        raise ModelError(f"a tensor of type {kind_of(dtype)}; expected one of {', '.join(ELEMENT_TYPES)}")
    if not isinstance(storage, Storage) or type(offset) is not int:
        raise ModelError(f"a tensor made of {kind_of(storage)} and {kind_of(offset)}: {_DAMAGED}")
    return Tensor(storage, element, offset, _integers(shape), _integers(strides))


def _parameter(data: object, *_: object) -> Tensor:
    if not isinstance(data, Tensor):
        raise ModelError(f"a parameter made of {kind_of(data)}: {_DAMAGED}")
    return data


def _subclassed_tensor(function: object, _: object, arguments: object, *__: object) -> object:
    if not isinstance(function, Global) or not isinstance(arguments, tuple):
        raise ModelError(f"a tensor made by {kind_of(function)}: {_DAMAGED}")
    if function.module != "torch._utils":
        raise ModelError(f"a tensor made by {function}; expected one of torch._utils. Nothing was executed")
    return call(function, arguments)


def _mapping(pairs: object = ()) -> dict[object, object]:
    """An OrderedDict; Python 3 writes it empty and fills it afterwards, Python 2 wrote its pairs here."""
    entries: dict[object, object] = {}
    for pair in _collection(pairs):
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not isinstance(pair[0], str):
            raise ModelError(
                f"an OrderedDict's entry made of {kind_of(pair)}; expected a text and its value: {_DAMAGED}"
            )
        entries[pair[0]] = pair[1]
    return entries


def _collection(values: object = ()) -> list[object]:
    if isinstance(values, list):
        return values  # not copied: the pickle may hand the same list to a thousand sets
    if values == ():
        return []
    raise ModelError(f"a collection made of {kind_of(values)}, expected a list: {_DAMAGED}")


def _size(values: object = ()) -> tuple[int, ...]:
    return _integers(values)


def _encoded(text: object, encoding: object) -> bytes:
    """What bytes are in the older pickle protocols."""
    if not isinstance(text, str) or encoding not in {"latin1", "latin-1"}:
        raise ModelError(f"bytes made of {kind_of(text)}: {_DAMAGED}")
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError as e:
        raise ModelError(f"bytes with a value beyond 255: {_DAMAGED}") from e


def _reconstructed(cls: object, _: object, __: object) -> Record:
    """An object in the older pickle protocols."""
    if not isinstance(cls, Global):
        raise ModelError(f"an object of {kind_of(cls)}: {_DAMAGED}")
    return Record(cls)


def _inert(module: str, name: str) -> Callable[..., object]:
    """A maker of records for values that are kept apart from the tensors and never interpreted."""
    kind = Global(module, name)
    return lambda *_: Record(kind)


_NUMPY = [
    ("numpy", "dtype"),
    *(
        (f"numpy.{core}.{module}", name)
        for core in ("core", "_core")
        for module, name in (("multiarray", "scalar"), ("multiarray", "_reconstruct"), ("numeric", "_frombuffer"))
    ),
]
_PATHS = [
    (module, name)
    for module in ("pathlib", "pathlib._local")
    for name in ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")
]
_MAKERS: dict[tuple[str, str], Callable[..., object]] = {
    ("collections", "OrderedDict"): _mapping,
    ("collections", "defaultdict"): lambda _=None: {},
    ("builtins", "set"): _collection,
    ("builtins", "frozenset"): _collection,
    ("builtins", "bytes"): lambda: b"",
    ("_codecs", "encode"): _encoded,
    ("copyreg", "_reconstructor"): _reconstructed,
    ("torch", "Size"): _size,
    ("torch", "device"): _inert("torch", "device"),
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_tensor_v3"): _typed_tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
    ("torch._tensor", "_rebuild_from_type_v2"): _subclassed_tensor,
    **{name: _inert(*name) for name in (*_NUMPY, *_PATHS)},
}
