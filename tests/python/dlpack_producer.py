"""Objects with `__dlpack__` that count: made of ctypes, after the specification, sharing no code with the package."""

from __future__ import annotations

import ctypes
import itertools

_pythonapi = ctypes.pythonapi
_pythonapi.PyCapsule_New.restype = ctypes.py_object
_pythonapi.PyCapsule_New.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]


class _Tensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


class _Managed(ctypes.Structure):
    _fields_ = [("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", ctypes.c_void_p)]


class _Versioned(ctypes.Structure):
    _fields_ = [
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("context", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
        ("tensor", _Tensor),
    ]


_exported = {}  # number -> what a consumer may still read
_numbers = itertools.count(1)


def _delete(address):
    # Both forms say where they came from: the number is their context.
    number, export = next((n, e) for n, e in _exported.items() if ctypes.addressof(e[0]) == address)
    del _exported[number]
    export[1].delete()


_deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(_delete)


class Producer:
    """A tensor as an array library of today offers it; of a capsule that nobody takes it is not deleted.

    Args:
        pointer: address of its memory.
        shape: sides.
        strides: in elements; None: packed, as null.
        dtype: (code, bits, lanes).
        device: (type, index); in the tensor also, unless `tensor_device` says otherwise.
        byte_offset: from `pointer` to the first element.
        version: (major, minor) of the capsule; None: the form from before 1.0.
        flags: of the versioned form: 1 is read-only.
        deleter: whether there is one.
    """

    def __init__(
        self,
        pointer,
        shape,
        *,
        strides=None,
        dtype=(1, 8, 1),
        device=(2, 0),
        tensor_device=None,
        byte_offset=0,
        version=(1, 0),
        flags=0,
        deleter=True,
    ):
        self._described = pointer, shape, strides, dtype, tensor_device or device, byte_offset, flags, deleter
        self._device, self._version = device, version
        self.exported = self.deleted = 0
        self.streams, self.versions_asked = [], []

    def __dlpack_device__(self):
        return self._device

    def __dlpack__(self, *, stream=None, max_version=None, **_):
        self.streams.append(stream)
        self.versions_asked.append(max_version)
        self.synchronize(stream)
        self.exported += 1
        return self._capsule()

    def synchronize(self, stream):
        """Makes the consumer's stream wait for what makes the memory."""

    def delete(self):
        """The deleter was called."""
        self.deleted += 1

    def _capsule(self):
        pointer, shape, strides, (code, bits, lanes), (kind, index), offset, flags, deleter = self._described
        sides = (ctypes.c_int64 * len(shape))(*shape)
        steps = None if strides is None else (ctypes.c_int64 * len(strides))(*strides)
        tensor = _Tensor(pointer, kind, index, len(shape), code, bits, lanes, sides, steps, offset)
        function = ctypes.cast(_deleter, ctypes.c_void_p).value if deleter else None
        if self._version is None:
            managed, name = _Managed(tensor, None, function), b"dltensor"
        else:
            managed, name = _Versioned(*self._version, None, function, flags, tensor), b"dltensor_versioned"
        _exported[next(_numbers)] = (managed, self, sides, steps)
        return _pythonapi.PyCapsule_New(ctypes.addressof(managed), name, None)


class OldProducer(Producer):
    """The same from before DLPack 1.0, whose `__dlpack__` knows no versions."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, version=None, **options)

    def __dlpack__(self, stream=None):
        return super().__dlpack__(stream=stream)
