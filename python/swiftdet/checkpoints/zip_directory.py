"""The directory of a ZIP archive as torch.save writes it: stored, one top folder, nothing twice, nothing shared.

The standard library's reader is not used: it accepts much more (compression, duplicate names, entries that share
bytes, archives behind other data), and takes many times the directory's size in memory. What is read here is section
4.3 of the ZIP specification (APPNOTE.TXT): end record, its ZIP64 form, central headers, local headers.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from swiftdet.checkpoints.checkpoint_file import CheckpointFile
from swiftdet.errors import ModelError
from swiftdet.model_files.names import printable

_MAX_ENTRIES = 1 << 15  # a training checkpoint of the largest detector has some five thousand
_MAX_NAME_BYTES = 512
_MAX_COMMENT = 0xFFFF
_END = struct.Struct("<4s4H2IH")
_END_64_LOCATOR = struct.Struct("<4sIQI")
_END_64 = struct.Struct("<4sQ2H2I4Q")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_LOCAL = struct.Struct("<4s5H3I2H")
_UNREADABLE_FLAGS = 0x1 | 0x20 | 0x40 | 0x2000  # encryption and patches
_FULL_16 = 0xFFFF
_FULL_32 = 0xFFFFFFFF
_DAMAGED = "the file is truncated or damaged"


@dataclass(slots=True)
class Entry:
    """A file of the archive.

    Attributes:
        header: offset of its local header.
        size: bytes of its data; in the archive, where it may be compressed, `packed`.
        crc32: of its data; None where the writer left it out (`torch.serialization.set_crc32_options`).
        stored: without compression, so that `data_start` is of use.
        end: offset of the next header, before which its data must end.
    """

    header: int
    size: int
    packed: int
    crc32: int | None
    stored: bool
    end: int = 0


def read_directory(file: CheckpointFile) -> dict[str, Entry]:
    """The entries by name.

    Raises:
        ModelError: the archive is truncated, damaged, encrypted, has too many entries, a name twice, a name
            that is absolute or climbs out of its folder, or entries that share bytes.
    """
    count, size, start = _read_end(file)
    if count > _MAX_ENTRIES or size > _MAX_ENTRIES * (_CENTRAL.size + _MAX_NAME_BYTES):
        raise ModelError(f"a ZIP archive of {count} entries ({size} bytes of names); at most {_MAX_ENTRIES} are read")
    data = file.read(start, size)
    entries: dict[str, Entry] = {}
    position = 0
    for _ in range(count):
        name, entry, position = _read_central(data, position)
        if name in entries:
            raise ModelError(f"a ZIP archive with {name!r} twice: made to deceive, or damaged")
        entries[name] = entry
    if position != len(data):
        raise ModelError(f"a ZIP archive whose list of entries has the wrong length: {_DAMAGED}")
    _set_ends(list(entries.values()), start)
    return entries


def data_start(file: CheckpointFile, name: str, entry: Entry) -> int:
    """Offset of an entry's data, behind its local header.

    Raises:
        ModelError: the data is compressed; or there is no such header, or it is another entry's, or the data reaches
            into the next entry.
    """
    if not entry.stored:
        raise ModelError(
            f"entry {name!r} is compressed; torch.save stores without compression, and so must whoever packs the "
            "archive again"
        )
    header = _LOCAL.unpack(file.read(entry.header, _LOCAL.size))
    name_length, extra_length = header[-2:]
    start = entry.header + _LOCAL.size + int(name_length) + int(extra_length)
    if header[0] != b"PK\x03\x04" or start + entry.size > entry.end:
        raise ModelError(f"entry {name!r} does not fit where the archive says it is: {_DAMAGED}")
    if file.read(entry.header + _LOCAL.size, name_length) != name.encode():
        raise ModelError(f"entry {name!r} has another name in its own header: made to deceive, or damaged")
    return start


def _read_end(file: CheckpointFile) -> tuple[int, int, int]:
    """Number of entries, and size and offset of their list, from the record at the archive's end."""
    tail_start = max(0, file.size - _END.size - _MAX_COMMENT)
    tail = file.read(tail_start, file.size - tail_start)
    at = tail.rfind(b"PK\x05\x06")
    while at >= 0 and not (at + _END.size <= len(tail) and _comment_end(tail, at) == len(tail)):
        at = tail.rfind(b"PK\x05\x06", 0, at + 3)
    if at < 0:
        raise ModelError("a ZIP archive without its end: the file is truncated; download or copy it again")
    _, disk, list_disk, here, count, size, start, _ = _END.unpack_from(tail, at)
    end = tail_start + at
    if _FULL_16 in {here, count} or _FULL_32 in {size, start}:
        locator_at = end - _END_64_LOCATOR.size
        signature, disk, end, disks = _END_64_LOCATOR.unpack(file.read(locator_at, _END_64_LOCATOR.size))
        if signature != b"PK\x06\x07" or disks > 1:
            raise ModelError(f"a ZIP64 archive without its locator: {_DAMAGED}")
        signature, _, _, _, disk, list_disk, here, count, size, start = _END_64.unpack(file.read(end, _END_64.size))
        if signature != b"PK\x06\x06":
            raise ModelError(f"a ZIP64 archive without its end record: {_DAMAGED}")
    if disk or list_disk or here != count:
        raise ModelError("a ZIP archive in several parts; join them first")
    if start + size > end:
        raise ModelError(f"a ZIP archive whose list of entries overlaps its end: {_DAMAGED}")
    return count, size, start


def _comment_end(tail: bytes, at: int) -> int:
    return at + _END.size + int(_END.unpack_from(tail, at)[-1])


def _read_central(data: bytes, position: int) -> tuple[str, Entry, int]:
    """One entry of the list at `position`, and where the next begins."""
    if position + _CENTRAL.size > len(data):
        raise ModelError(f"a ZIP archive whose list of entries ends early: {_DAMAGED}")
    fields = _CENTRAL.unpack_from(data, position)
    signature, _, _, flags, method, _, _, crc32, packed, size, name_length, extra_length, comment_length = fields[:13]
    name_at = position + _CENTRAL.size
    extra_at = name_at + name_length
    following = extra_at + extra_length + comment_length
    if signature != b"PK\x01\x02" or following > len(data):
        raise ModelError(f"a ZIP archive whose list of entries is broken: {_DAMAGED}")
    name = _checked_name(data[name_at:extra_at])
    size, packed, header = _zip64_values(data[extra_at : extra_at + extra_length], (size, packed, fields[16]))
    if flags & _UNREADABLE_FLAGS:
        raise ModelError(f"entry {name!r} is encrypted; expected an archive as torch.save writes it")
    stored = method == 0 and packed == size
    return name, Entry(header, size, packed, crc32 or None, stored), following


def _checked_name(raw: bytes) -> str:
    if len(raw) > _MAX_NAME_BYTES:
        raise ModelError(f"a ZIP archive with a name of {len(raw)} bytes; at most {_MAX_NAME_BYTES} are read")
    try:
        name = raw.decode()
    except UnicodeDecodeError as e:
        raise ModelError(f"a ZIP archive with a name that is not UTF-8: {_DAMAGED}") from e
    if printable(name) != name or "\\" in name or not all(part not in {"", ".", ".."} for part in name.split("/")):
        raise ModelError(f"a ZIP archive with an entry {printable(name)!r}; expected plain names inside one folder")
    return name


def _zip64_values(extra: bytes, fields: tuple[int, int, int]) -> tuple[int, int, int]:
    """The fields, those that are full replaced by their 64-bit values from the extra field."""
    wide = b""
    position = 0
    while position + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, position)
        if kind == 1:
            wide = extra[position + 4 : position + 4 + length]
            break
        position += 4 + length
    values = []
    for field in fields:
        if field == _FULL_32:
            if len(wide) < 8:
                raise ModelError(f"a ZIP64 entry without its size: {_DAMAGED}")
            field = int.from_bytes(wide[:8], "little")  # noqa: PLW2901 - the same field, wider
            wide = wide[8:]
        values.append(field)
    return values[0], values[1], values[2]


def _set_ends(entries: list[Entry], directory: int) -> None:
    """Gives each entry the offset before which it must end, and checks that it can."""
    entries.sort(key=lambda entry: entry.header)
    starts = [*(entry.header for entry in entries), directory]
    for entry, end in zip(entries, starts[1:], strict=True):
        if entry.header + _LOCAL.size + entry.packed > end:
            raise ModelError("a ZIP archive whose entries overlap: made to deceive, or damaged")
        entry.end = end
