"""One JSON document per measurement: its format, its digest, and reading it with suspicion.

    {
      "format": "swiftdet.benchmark/1",
      "created": "2026-11-28T12:00:00+00:00",
      "subject": {...},      which detector: model, engine, device, precision, pre-processing (`Detector.provenance`)
      "measured": {...},     the figures; the format's own
      "provenance": {...},   what made them: software, host, command line, environment
      "sha256": "..."        of everything above, written canonically
    }

The digest tells damage and later edits, not forgery: whoever edits can write a new one.
"""

from __future__ import annotations

import datetime as dt
import functools
import hashlib
import importlib.resources
import json
import math
import os
from pathlib import Path
from typing import Any, TypeAlias

from swiftdet.errors import DocumentError, InvalidArgument
from swiftdet.whole_files import write_whole

Document: TypeAlias = dict[str, Any]

FORMATS = {
    "evaluation": "swiftdet.evaluation/2",
    "benchmark": "swiftdet.benchmark/1",
    "verification": "swiftdet.verification/1",
}
"""The format that each kind of measurement is written in. A new version is a new number: old ones stay readable."""

_LARGEST = 1 << 30  # bytes; a benchmark of a day with its raw samples has a tenth
_SHOWN = 120


def seal(kind: str, *, subject: Document, measured: Document, provenance: Document) -> Document:
    """A complete document of a kind of `FORMATS`, checked against its schema, with its digest.

    Raises:
        InvalidArgument: no such kind, or values that are not of JSON's types, NaN among them.
        DocumentError: fields that the schema does not allow.
    """
    if kind not in FORMATS:
        raise InvalidArgument(f"kind: expected one of {', '.join(FORMATS)}, got {kind!r:.60}")
    document: Document = {
        "format": FORMATS[kind],
        "created": dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
        "subject": subject,
        "measured": measured,
        "provenance": provenance,
    }
    try:
        document = json.loads(_canonical(document))  # tuples become lists, as a reader will find them
    except (TypeError, ValueError) as e:
        raise InvalidArgument(f"{kind}: expected values of JSON's types ({e})") from e
    document["sha256"] = content_sha256(document)
    _check(document, f"a new document of {FORMATS[kind]}")
    return document


def content_sha256(document: Document) -> str:
    """Hex digest of everything in a document but its own digest, whatever the order and layout of its file."""
    return hashlib.sha256(_canonical({k: v for k, v in document.items() if k != "sha256"})).hexdigest()


def write(document: Document, path: str | os.PathLike[str]) -> None:
    """Writes a document as indented JSON; its folder is made where needed. A reader never sees half of it.

    Raises:
        OSError: it cannot be written.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    write_whole(target, text.encode("utf-8", "backslashreplace"))


def read(path: str | os.PathLike[str], *, verify_digest: bool = True) -> Document:
    """Reads a document that `write` wrote.

    Args:
        path: of the file.
        verify_digest: refuse a document whose content has changed since it was sealed.

    Raises:
        DocumentError: unreadable, no JSON, no document of ours, of a version that is not known, with fields missing or
            of a wrong type, or changed since it was written.
    """
    try:
        return _checked(Path(path), verify_digest=verify_digest)
    except OSError as e:
        raise DocumentError(f"{path}: cannot be read ({e.strerror or e})") from e
    except DocumentError:
        raise
    except (ValueError, RecursionError) as e:  # the latter from any step, as each of them descends
        raise DocumentError(f"{path}: expected a result in JSON ({e!s:.{_SHOWN}})") from e


def _checked(path: Path, *, verify_digest: bool) -> Document:
    if path.stat().st_size > _LARGEST:
        raise DocumentError(f"{path}: larger than {_LARGEST} bytes, which no result is")
    document: Document = json.loads(path.read_bytes(), parse_constant=_refuse_constant, parse_float=_finite)
    _check(document, str(path))
    if verify_digest and document["sha256"] != content_sha256(document):
        raise DocumentError(f"{path}: changed after it was written: its content has another digest than it says")
    return document


def _check(document: object, where: str) -> None:
    from jsonschema import Draft202012Validator  # noqa: PLC0415 - slow to load
    from jsonschema.exceptions import best_match  # noqa: PLC0415

    known = sorted(FORMATS.values())
    name = document.get("format") if isinstance(document, dict) else None
    if name not in known:
        raise DocumentError(f"{where}: expected a result of format {', '.join(known)}, got {name!r:.60}")
    fault = best_match(Draft202012Validator(_schema(str(name))).iter_errors(document))
    if fault is not None:
        field = ".".join(str(part) for part in fault.absolute_path) or "document"
        raise DocumentError(f"{where}: {field}: {' '.join(fault.message.split()):.{_SHOWN}}")


@functools.cache
def _schema(name: str) -> Document:
    """The JSON Schema of a format: that of every document, and what the format says of `measured`."""
    folder = importlib.resources.files("swiftdet.measurements") / "schemas"
    common: Document = json.loads((folder / "document.json").read_text("utf-8"))
    kind, _, version = name.removeprefix("swiftdet.").partition("/")
    own: Document = json.loads((folder / f"{kind}-{version}.json").read_text("utf-8"))
    common["properties"]["measured"] = own
    return common


def _canonical(document: Document) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text:.20} is beyond all floats")
    return number


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")
