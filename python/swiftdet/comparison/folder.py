"""A comparison's folder: its page, copies of all documents, and a lock by which anybody can tell that nothing changed.

    index.html  compare.md  compare.csv     what people read
    results/*.json                          the documents, byte for byte
    report.lock.json                        SHA-256 of all of these, and of the models behind them

The lock tells damage and later edits, not forgery: whoever edits documents, page and lock alike can seal them anew.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.resources
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import swiftdet
from swiftdet import measurements
from swiftdet.comparison import page
from swiftdet.comparison.page import RESULTS, Content
from swiftdet.comparison.rows import Source
from swiftdet.errors import DocumentError, ModelError
from swiftdet.model_files.model_file import read_bounded
from swiftdet.whole_files import write_whole

FORMAT = "swiftdet.comparison/1"
LOCK = "report.lock.json"


@dataclass
class CheckReport:
    """What a check of a folder found.

    Attributes:
        faults: what is not as it was when the page was made, one line each, the file's name first.
        notes: what could not be checked, or is not part of the comparison.
        files: how many were compared.
    """

    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    files: int = 0


def write(
    folder: str | os.PathLike[str], sources: Sequence[Source], *, title: str | None = None, skipped: Sequence[str] = ()
) -> list[Path]:
    """Writes a comparison into a folder, which is made if missing. Files of other names are left alone.

    Args:
        folder: where.
        sources: from `rows.read_sources`.
        title: of the page; None for one that fits.
        skipped: a line on each thing that was to be measured and was not.

    Returns:
        The files that were written, the page first.

    Raises:
        OSError: one cannot be written.
    """
    content = Content(title=title, sources=sources, skipped=tuple(skipped))
    outputs = _rendered(content)
    copies = {f"{RESULTS}/{source.name}": source.content for source in sources}
    lock = _lock(content, outputs)
    target = Path(folder)
    written = []
    for name, data in {**copies, **outputs, LOCK: lock}.items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        write_whole(target / name, data)
        written.append(target / name)
    return sorted(written, key=lambda path: path.name != page.PAGE)


def check(folder: str | os.PathLike[str]) -> CheckReport:
    """Compares everything in a comparison's folder with its lock, and renders it again.

    Raises:
        DocumentError: there is no lock to compare with.
    """
    target = Path(folder)
    lock, faults = _read_lock(target / LOCK)
    report = CheckReport(faults=faults, files=1)
    sources = _check_inputs(target, lock, report)
    _check_outputs(target, lock, sources, report)
    _check_models(lock, report)
    listed = {entry["file"] for entry in lock["inputs"]}
    present = (target / RESULTS).glob("*.json")
    unlisted = sorted(path.name for path in present if f"{RESULTS}/{path.name}" not in listed)
    if unlisted:
        report.notes.append(f"{RESULTS}: not part of the comparison: {', '.join(unlisted)}")
    return report


def _rendered(content: Content) -> dict[str, bytes]:
    """The files that people read; names that are no text are written as escapes, as in the documents."""
    return {name: text.encode("utf-8", "backslashreplace") for name, text in page.render(content).items()}


def _lock(content: Content, outputs: dict[str, bytes]) -> bytes:
    document: dict[str, Any] = {
        "format": FORMAT,
        "title": content.title,
        "skipped": list(content.skipped),
        "renderer": _renderer(),
        "inputs": [_input(source) for source in content.sources],
        "outputs": [{"file": name, "sha256": _sha256(data)} for name, data in outputs.items()],
        "commands": content.commands,
    }
    document["sha256"] = measurements.content_sha256(document)
    return _canonical(document)


def _input(source: Source) -> dict[str, Any]:
    subject = source.document["subject"]
    models = ("model", "variant", "synthetic", "model_sha256", "graph_sha256", "engine_sha256")
    return {
        "file": f"{RESULTS}/{source.name}",
        "sha256": source.file_sha256,
        "format": source.document["format"],
        "content_sha256": source.document["sha256"],
        **{key: subject[key] for key in models},
        "file_of_model": subject.get("file"),
        "command": page.command(source.document["provenance"]),
    }


def _renderer() -> dict[str, str]:
    """What the bytes of the page depend on besides the documents: our code and data, and the libraries that draw."""
    import jinja2  # noqa: PLC0415 - slow to load
    import matplotlib as mpl  # noqa: PLC0415

    digest = hashlib.sha256()
    here = Path(__file__).parent
    catalogue = here.parent / "zoo" / "catalog.py"
    for path in (
        *sorted(p for p in here.rglob("*") if p.suffix in {".py", ".html", ".css", ".md", ".json"}),
        catalogue,
    ):
        digest.update(path.read_bytes())
    return {
        "swiftdet": swiftdet.__version__,
        "code_sha256": digest.hexdigest(),
        "jinja2": jinja2.__version__,
        "matplotlib": mpl.__version__,
    }


def _read_lock(path: Path) -> tuple[dict[str, Any], list[str]]:
    """The lock, and what is wrong with it."""
    from jsonschema import Draft202012Validator  # noqa: PLC0415 - slow to load
    from jsonschema.exceptions import best_match  # noqa: PLC0415

    try:
        data = path.read_bytes()
        lock = json.loads(data)
    except OSError as e:
        raise DocumentError(
            f"{path}: cannot be read ({e.strerror or e}); is this a folder of `swiftdet compare`?"
        ) from e
    except (ValueError, RecursionError) as e:
        raise DocumentError(f"{path}: expected the lock of a comparison in JSON ({e!s:.120})") from e
    fault = best_match(Draft202012Validator(_schema()).iter_errors(lock))
    if fault is not None:
        where = ".".join(str(part) for part in fault.absolute_path) or "lock"
        raise DocumentError(f"{path}: {where}: {' '.join(fault.message.split()):.120}")
    if lock["sha256"] != measurements.content_sha256(lock) or data != _canonical(lock):
        return lock, [f"{LOCK}: changed after it was written"]
    return lock, []


def _check_inputs(target: Path, lock: dict[str, Any], report: CheckReport) -> list[Source]:
    """The documents that are as they were."""
    sources = []
    for entry in lock["inputs"]:
        path = target / entry["file"]
        data = _unchanged(path, entry, report)
        if data is None:
            continue
        try:
            document = measurements.read(path)
        except DocumentError as e:
            report.faults.append(str(e))
            continue
        if document["sha256"] != entry["content_sha256"]:
            report.faults.append(f"{entry['file']}: its content has another digest than the lock says")
        sources.append(Source(name=path.name, content=data, document=document))
        if sources[-1].kind == "evaluation":
            _check_predictions(target, path, document["measured"]["predictions"], report)
    return sources


def _check_predictions(target: Path, document: Path, said: dict[str, Any], report: CheckReport) -> None:
    """Those of an evaluation, where they lie in the comparison's folder, as `--run` leaves them."""
    if said["file"] is None:
        return
    path = (document.parent / said["file"]).resolve()
    if path.is_relative_to(target.resolve()) and path.is_file():
        name = path.relative_to(target.resolve()).as_posix()
        _unchanged(path, {"file": name, "sha256": said["sha256"]}, report)


def _check_outputs(target: Path, lock: dict[str, Any], sources: Sequence[Source], report: CheckReport) -> None:
    """Files as the lock says, and as the documents give them."""
    present = {entry["file"]: _unchanged(target / entry["file"], entry, report) for entry in lock["outputs"]}
    missing = sorted({page.PAGE, page.MARKDOWN, page.CSV} - set(present))
    report.faults.extend(f"{name}: not in the lock" for name in missing)
    if lock["renderer"] != _renderer():
        report.notes.append("the page was made by another release of swiftdet or its libraries: not rendered again")
        return
    if len(sources) < len(lock["inputs"]):
        report.notes.append("not all documents are there: the page was not rendered again")
        return
    again = _rendered(Content(title=lock["title"], sources=sources, skipped=lock["skipped"]))
    for name, data in present.items():
        if data is not None and data != again[name]:
            report.faults.append(f"{name}: the documents give another content")


def _check_models(lock: dict[str, Any], report: CheckReport) -> None:
    """Files of models that are where they were."""
    models = {(entry["file_of_model"], entry["model_sha256"]) for entry in lock["inputs"] if not entry["synthetic"]}
    for name, sha256 in sorted((name, sha256) for name, sha256 in models if name is not None):
        if not Path(name).is_file():
            report.notes.append(f"{name}: the model is not there any more")
            continue
        try:
            found = model_sha256(Path(name))
        except ModelError as e:
            report.faults.append(str(e))
            continue
        report.files += 1
        if found != sha256:
            report.faults.append(f"{name}: the model changed after it was measured")


def model_sha256(path: Path) -> str:
    """As `Detector.provenance` has it: of everything that is read of a model."""
    suffix = path.suffix.lower()
    if suffix == ".onnx":
        from swiftdet.model_files.onnx_file import read_onnx  # noqa: PLC0415 - loads onnx

        return read_onnx(path).finish().sha256
    if suffix == ".xml":
        from swiftdet.model_files.openvino_ir import read_openvino_ir  # noqa: PLC0415

        return read_openvino_ir(path).sha256
    return _sha256(read_bounded(path))


def _unchanged(path: Path, entry: dict[str, Any], report: CheckReport) -> bytes | None:
    """A file's content; None, and a fault, if it is not what the lock says."""
    try:
        data = path.read_bytes()
    except OSError as e:
        report.faults.append(f"{entry['file']}: cannot be read ({e.strerror or e})")
        return None
    report.files += 1
    if _sha256(data) != entry["sha256"]:
        report.faults.append(f"{entry['file']}: changed after the page was made")
        return None
    return data


@functools.cache
def _schema() -> dict[str, Any]:
    schemas = importlib.resources.files("swiftdet.comparison") / "schemas"
    schema: dict[str, Any] = json.loads((schemas / "lock-1.json").read_text("utf-8"))
    return schema


def _canonical(document: dict[str, Any]) -> bytes:
    return (json.dumps(document, indent=1, ensure_ascii=True) + "\n").encode()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
