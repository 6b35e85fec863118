"""The ZIP form that torch.save has written since 1.6.

One folder holds `data.pkl` (the pickle), `data/<key>` (one entry for each storage, its bytes alone), and notes
(`version`, `byteorder`, ...). A storage's persistent id is ("storage", type, key, location, number of elements).
"""

from __future__ import annotations

import io

from swiftdet.checkpoints.checkpoint_file import CheckpointFile, check_crc32
from swiftdet.checkpoints.containers import Content, new_budget
from swiftdet.checkpoints.records import kind_of
from swiftdet.checkpoints.tensors import Storage
from swiftdet.checkpoints.torch_names import call, storage_element
from swiftdet.checkpoints.unpickler import Unpickler
from swiftdet.checkpoints.zip_directory import Entry, data_start, read_directory
from swiftdet.errors import ModelError

_MAX_PICKLE_BYTES = 32 << 20
_PICKLE = "data.pkl"


def read_torch_zip(file: CheckpointFile) -> Content:
    """The object in the archive.

    Raises:
        ModelError: no archive of torch.save, TorchScript, damaged, unsafe, or too large.
    """
    archive = _Archive(file)
    pickle = archive.read(_PICKLE)
    unpickler = Unpickler(io.BytesIO(pickle), len(pickle), call=call, persistent=archive.storage, budget=new_budget())
    return Content("torch zip", unpickler.load())


class _Archive:
    """The entries of one file, and the storages that its pickle has named so far."""

    def __init__(self, file: CheckpointFile) -> None:
        self._file = file
        self._entries = read_directory(file)
        self._storages: dict[str, Storage] = {}
        folders = {name.partition("/")[0] for name in self._entries}
        if len(folders) != 1 or f"{min(folders)}/{_PICKLE}" not in self._entries:
            raise ModelError(
                f"a ZIP archive without {_PICKLE} in one top folder; expected a checkpoint as torch.save writes it"
            )
        self._folder = folders.pop()
        if any(name.startswith((f"{self._folder}/code/", f"{self._folder}/constants.pkl")) for name in self._entries):
            raise ModelError(
                "a TorchScript archive, which holds a program; expected a checkpoint. Give the .pt that training wrote, "
                "or an ONNX export"
            )
        if self._folder + "/byteorder" in self._entries and self.read("byteorder") != b"little":
            raise ModelError("numbers stored big end first; save the checkpoint again on a little-endian machine")

    def read(self, name: str) -> bytes:
        """A small entry's data, checked."""
        entry = self._entries[f"{self._folder}/{name}"]
        if entry.size > _MAX_PICKLE_BYTES:
            raise ModelError(f"entry {name!r} of {entry.size} bytes; at most {_MAX_PICKLE_BYTES} are read")
        data = self._file.read(self._start(name, entry), entry.size)
        check_crc32(data, entry.crc32)
        return data

    def storage(self, persistent_id: object) -> Storage:
        """The storage that the pickle names; its declared size must be that of the entry."""
        if not isinstance(persistent_id, tuple) or len(persistent_id) != 5 or persistent_id[0] != "storage":
            raise ModelError(f"a reference to {kind_of(persistent_id)}; expected a storage's: the file is damaged")
        _, kind, key, _, count = persistent_id
        if not isinstance(key, str) or type(count) is not int or count < 0:
            raise ModelError("a storage whose key is no text or whose size is no number: the file is damaged")
        element = storage_element(kind)
        entry = self._entries.get(f"{self._folder}/data/{key}")
        if entry is None:
            raise ModelError(f"storage {key[:40]!r} is not in the archive: the file is truncated or damaged")
        if entry.size != count * element.size:
            raise ModelError(
                f"storage {key!r} is declared as {count} elements of {element.name}, but its entry has {entry.size} "
                "bytes: made to deceive, or damaged"
            )
        known = self._storages.get(key)
        if known is None:
            start = self._start(f"data/{key}", entry)
            known = self._storages[key] = Storage(element, count, start, entry.crc32)
        elif known.element is not element:
            raise ModelError(f"storage {key!r} is declared with two types: the file is damaged")
        return known

    def _start(self, name: str, entry: Entry) -> int:
        return data_start(self._file, f"{self._folder}/{name}", entry)
