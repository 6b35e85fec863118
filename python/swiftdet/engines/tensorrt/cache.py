"""Engines kept on disk, found again by what they were built from and for."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from swiftdet.engines.tensorrt.plan_files import Manifest, Plan, manifest_path, read_manifest, read_plan, write_plan
from swiftdet.errors import InvalidArgument, ModelError

_LOG = logging.getLogger("swiftdet.cache")
_FOLDER = "tensorrt"
_KEY_VERSION = 1
_SHORTEST_PREFIX = 4


def default_folder() -> Path:
    """`cache_dir` where nobody names one: `swiftdet` in the user's cache folder. Building engines takes minutes."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base else Path.home() / ".cache") / "swiftdet"


@dataclass(frozen=True, kw_only=True)
class EngineKey:
    """Everything that a plan depends on; two builds with equal keys give engines that do the same.

    Attributes:
        graph_sha256: of the ONNX that the builder gets.
        precision: "fp32" or "fp16".
        shapes: smallest, best and largest input.
        workspace_bytes: what layers may use, which decides between their implementations.
        tensorrt: its version.
        gpu: its name.
        sm: its architecture.
        driver: its branch.
    """

    graph_sha256: str
    precision: str
    shapes: tuple[tuple[int, ...], ...]
    workspace_bytes: int
    tensorrt: str
    gpu: str
    sm: str
    driver: str

    def digest(self) -> str:
        """The key as 64 hexadecimal digits: the name of its files."""
        facts = {"version": _KEY_VERSION, **dataclasses.asdict(self)}
        return hashlib.sha256(json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@dataclass(frozen=True)
class Entry:
    """One kept engine.

    Attributes:
        digest: of its key.
        path: of the plan.
        plan_bytes: its size on disk; 0 where the plan is missing.
        manifest: None where it is missing or unreadable.
        problem: why it cannot be used, as far as looking at the manifest tells; empty for none.
    """

    digest: str
    path: Path
    plan_bytes: int
    manifest: Manifest | None
    problem: str


class EngineCache:
    """A folder of engines. Any number of threads and processes may share it.

    An engine is `<digest>.engine` with its manifest beside it, written whole; the first who wants one builds it under
    a lock of its own while the others wait for that, and builds of different engines do not wait for each other.
    """

    def __init__(self, folder: Path) -> None:
        """Uses `folder/tensorrt`; made at the first build.

        Args:
            folder: `cache_dir` of a detector.
        """
        self.folder = folder / _FOLDER

    def get_or_build(self, key: EngineKey, build: Callable[[], tuple[bytes, Manifest]]) -> Plan:
        """The kept engine, verified; else what `build` gives, kept from now on.

        An entry that fails its verification is removed with a warning, and built again.

        Raises:
            InvalidArgument: the folder belongs to another user or may be written by anyone.
            OSError: it cannot be written.
            Exception: what `build` raises; nothing is kept then.
        """
        path = self._path(key.digest())
        self._make_folder()
        if (plan := self._read(path)) is not None:
            return plan
        with FileLock(self._lock_path(path)):
            if (plan := self._read(path)) is not None:  # another was faster
                return plan
            _LOG.info("building an engine for %s; it takes minutes, once, and is kept as %s", key.gpu, path)
            data, manifest = build()
            write_plan(path, data, manifest)
        return read_plan(path)

    def timing_cache(self, tensorrt: str, sm: str) -> Path:
        """Where timings of layers are kept for one TensorRT and architecture."""
        return self.folder / f"timings-{tensorrt}-{sm}.cache"

    def entries(self) -> list[Entry]:
        """What is there, by digest; looks at the manifests alone."""
        names = {path.name.split(".", 1)[0] for path in self._files()}
        return [self._entry(name) for name in sorted(names)]

    def verify(self) -> list[Entry]:
        """The same after reading every plan: `problem` says what is wrong with it."""
        checked = []
        for entry in self.entries():
            problem = entry.problem
            if not problem:
                try:
                    read_plan(entry.path)
                except ModelError as e:
                    problem = str(e)
            checked.append(dataclasses.replace(entry, problem=problem))
        return checked

    def find(self, prefix: str) -> Entry:
        """The entry whose digest begins so.

        Raises:
            InvalidArgument: none does, or several, or the prefix is too short to mean one.
        """
        found = [entry for entry in self.entries() if entry.digest.startswith(prefix.lower())]
        if len(prefix) < _SHORTEST_PREFIX or len(found) != 1:
            count = f"{len(found)} engines begin so" if len(prefix) >= _SHORTEST_PREFIX else "it is too short"
            raise InvalidArgument(
                f"engine {prefix!r}: expected the first {_SHORTEST_PREFIX} digits or more of one that "
                f"`swiftdet cache ls` shows; {count}"
            )
        return found[0]

    def remove(self, entry: Entry) -> int:
        """Deletes an entry; bytes freed. A detector that has loaded the engine keeps running.

        Raises:
            OSError: the folder may not be written.
        """
        freed = 0
        with FileLock(self._lock_path(entry.path)):
            # The manifest goes first: a plan without one does not count.
            for file in (manifest_path(entry.path), entry.path):
                if file.exists():
                    freed += file.stat().st_size
                    file.unlink()
        return freed

    # -- inside ----------------------------------------------------------------------------------------------------

    def _path(self, digest: str) -> Path:
        return self.folder / f"{digest}.engine"

    def _lock_path(self, path: Path) -> Path:
        return path.with_suffix(".lock")

    def _files(self) -> Iterator[Path]:
        for pattern in ("*.engine", "*.engine.json"):
            yield from self.folder.glob(pattern)

    def _entry(self, digest: str) -> Entry:
        path = self._path(digest)
        size = path.stat().st_size if path.exists() else 0
        try:
            manifest = read_manifest(path)
        except ModelError as e:
            return Entry(digest, path, size, None, str(e))
        if manifest is None:
            return Entry(digest, path, size, None, "without a manifest: its build was interrupted")
        problem = "" if size == manifest.plan_bytes else f"{size} bytes instead of {manifest.plan_bytes}"
        return Entry(digest, path, size, manifest, problem)

    def _read(self, path: Path) -> Plan | None:
        if not path.exists() or not manifest_path(path).exists():
            return None
        try:
            return read_plan(path)
        except ModelError as e:
            _LOG.warning("%s; it is built again", e)
            return None

    def _make_folder(self) -> None:
        """Makes the folder for this user alone; refuses one into which others may put machine code."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not hasattr(os, "getuid"):
            return
        found = self.folder.stat()
        if found.st_uid not in {0, os.getuid()} or found.st_mode & stat.S_IWOTH:
            raise InvalidArgument(
                f"cache_dir: {self.folder} belongs to user {found.st_uid} with mode {stat.filemode(found.st_mode)}; "
                "engines are machine code, so it must be yours and not writable by everyone"
            )
