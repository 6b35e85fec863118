"""Timings of layers, kept between builds: the second engine for a GPU is built in a fraction of the time."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from filelock import FileLock

from swiftdet.whole_files import write_whole

_LOG = logging.getLogger("swiftdet.tensorrt")


class TimingCache:
    """One file of timings in one builder configuration. Processes may share the file."""

    def __init__(self, config: Any, path: Path) -> None:
        """Gives the file's timings to the builder; those of another GPU or TensorRT are left aside."""
        self._config = config
        self._path = path
        self._read = _content(path)
        self._usable = self._install(self._read) or self._install(b"")
        if not self._usable:
            _LOG.warning("TensorRT takes no timing cache; %s is not used", path)

    def save(self) -> None:
        """Writes what the builder measured, joined with what others wrote meanwhile."""
        if not self._usable:
            return
        cache = self._config.get_timing_cache()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self._path}.lock"):
            newer = _content(self._path)
            if newer and newer != self._read:
                cache.combine(self._config.create_timing_cache(newer), ignore_mismatch=False)
            write_whole(self._path, bytes(cache.serialize()))

    def _install(self, content: bytes) -> bool:
        cache = self._config.create_timing_cache(content)
        installed = cache is not None and bool(self._config.set_timing_cache(cache, ignore_mismatch=False))
        if not installed and content:
            _LOG.warning("timing cache %s is of another GPU or TensorRT, or damaged; it is started anew", self._path)
        return installed


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
