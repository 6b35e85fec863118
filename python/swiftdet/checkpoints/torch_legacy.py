"""The form that torch.save wrote before 1.6, and writes with `_use_new_zipfile_serialization=False`.

Four pickles (a magic number, the version 1001, facts about the machine, the object), a fifth with the list of storage
keys, then for each key the number of elements (int64) and the elements. Numbers are stored little end first. The
persistent id of a storage is ("storage", type, key, location, number of elements, None); a class may come with its
source text as ("module", class, file, source).
"""

from __future__ import annotations

from swiftdet.checkpoints.checkpoint_file import CheckpointFile
from swiftdet.checkpoints.containers import Content, new_budget
from swiftdet.checkpoints.records import Global, kind_of
from swiftdet.checkpoints.tensors import Storage
from swiftdet.checkpoints.torch_names import call, storage_element
from swiftdet.checkpoints.unpickler import Unpickler
from swiftdet.errors import ModelError

_MAGIC = 0x1950A86A20F9469CFC6C
_VERSION = 1001
_COUNT_BYTES = 8


def read_torch_legacy(file: CheckpointFile) -> Content:
    """The object in the file.

    Raises:
        ModelError: a pickle that torch.save did not write, damaged, unsafe, or too large.
    """
    stream = file.stream(0)
    budget = new_budget()
    storages: dict[str, Storage] = {}

    def persistent(persistent_id: object) -> object:
        return _persistent(persistent_id, storages)

    def load() -> object:
        return Unpickler(stream, file.size, call=call, persistent=persistent, budget=budget).load()

    if load() != _MAGIC:
        raise ModelError("a pickle that torch.save did not write; expected a checkpoint (.pt, .pth, .safetensors)")
    if (version := load()) != _VERSION:
        raise ModelError(f"torch's file version {version!r:.40}; expected {_VERSION}")
    load()  # facts about the machine: sizes of C types, which nothing depends on
    root = load()
    keys = load()
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise ModelError("a list of storages that is none: the file is damaged")
    _place(file, stream.tell(), keys, storages)
    return Content("torch legacy", root)


def _persistent(persistent_id: object, storages: dict[str, Storage]) -> object:
    """The storage or class that the pickle names."""
    if isinstance(persistent_id, tuple) and len(persistent_id) == 4 and persistent_id[0] == "module":
        if isinstance(persistent_id[1], Global):
            return persistent_id[1]
        raise ModelError(f"the source of {kind_of(persistent_id[1])}, expected a class's: the file is damaged")
    if not isinstance(persistent_id, tuple) or len(persistent_id) not in {5, 6} or persistent_id[0] != "storage":
        raise ModelError(f"a reference to {kind_of(persistent_id)}; expected a storage's: the file is damaged")
    kind, key, _, count = persistent_id[1:5]
    if not isinstance(key, str) or type(count) is not int or count < 0:
        raise ModelError("a storage whose key is no text or whose size is no number: the file is damaged")
    if persistent_id[5:] not in {(), (None,)}:
        raise ModelError("a view of a storage as torch before 0.4 wrote it; save the file again with a later torch")
    element = storage_element(kind)
    storage = storages.setdefault(key, Storage(element, count))
    if storage.element is not element or storage.count != count:
        raise ModelError(f"storage {key[:40]!r} is declared in two ways: the file is damaged")
    return storage


def _place(file: CheckpointFile, position: int, keys: list[str], storages: dict[str, Storage]) -> None:
    """Gives each storage its place behind the pickles; the sizes must be those declared and lie in the file."""
    if len(keys) != len(storages) or set(keys) != storages.keys():
        raise ModelError(f"{len(storages)} storages are used, {len(keys)} are listed: the file is damaged")
    for key in keys:
        storage = storages[key]
        count = int.from_bytes(file.read(position, _COUNT_BYTES), "little", signed=True)
        if count != storage.count:
            raise ModelError(
                f"storage {key[:40]!r} is declared as {storage.count} elements, but has {count}: the file is damaged"
            )
        storage.start = position + _COUNT_BYTES
        position = storage.start + storage.size
        if position > file.size:
            raise ModelError(
                f"storage {key[:40]!r} ends {position - file.size} bytes beyond the file's end: the file is truncated"
            )
