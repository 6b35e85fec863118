"""TensorRT's messages: into Python's logging, the worst of them into our errors."""

from __future__ import annotations

import collections
import logging
import threading
from typing import Any

_LOG = logging.getLogger("swiftdet.tensorrt")
_LEVELS = {
    "INTERNAL_ERROR": logging.ERROR,
    "ERROR": logging.ERROR,
    "WARNING": logging.WARNING,
    "INFO": logging.INFO,
    "VERBOSE": logging.DEBUG,
}
_KEPT = 8


class Messages:
    """The one logger of a TensorRT library; the library keeps a pointer to it for as long as the process lives."""

    def __init__(self, library: Any) -> None:
        self._lock = threading.Lock()
        self._errors: collections.deque[str] = collections.deque(maxlen=_KEPT)
        record = self._record

        class Logger(library.ILogger):  # type: ignore[misc] # the base is only known when TensorRT is loaded
            def __init__(self) -> None:
                library.ILogger.__init__(self)  # bindings refuse super() here

            def log(self, severity: Any, msg: str) -> None:
                record(severity.name, msg)

        self.logger = Logger()

    def take_errors(self) -> str:
        """The latest errors, oldest first, in one line; they are forgotten here."""
        with self._lock:
            text = "; ".join(self._errors)
            self._errors.clear()
        return text

    def _record(self, severity: str, message: str) -> None:
        level = _LEVELS.get(severity, logging.INFO)
        if level >= logging.ERROR:
            with self._lock:
                self._errors.append(" ".join(message.split())[:500])
        _LOG.log(level, "%s", message)


_of_library: dict[Any, Messages] = {}
_lock = threading.Lock()


def of(library: Any) -> Messages:
    """The messages of a TensorRT library: one object for the whole process."""
    with _lock:
        if library not in _of_library:
            _of_library[library] = Messages(library)
        return _of_library[library]
