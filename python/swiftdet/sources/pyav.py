"""The one place that knows whether PyAV, an extra, is installed."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType

from swiftdet.errors import BackendUnavailable


def require_pyav(what: str) -> None:
    """Makes sure that videos can be read, without importing anything.

    Raises:
        BackendUnavailable: PyAV is not installed; the message names the command.
    """
    if importlib.util.find_spec("av") is None:
        raise _missing(what)


def load_pyav(what: str) -> ModuleType:
    """The module `av`. Importing it turns FFmpeg's own printing off for the process, as PyAV always does.

    Raises:
        BackendUnavailable: PyAV is not installed, or cannot be loaded.
    """
    try:
        return importlib.import_module("av")
    except ImportError as e:
        raise _missing(what, e) from e


def _missing(what: str, error: ImportError | None = None) -> BackendUnavailable:
    cause = "" if error is None or error.name == "av" else f" ({error})"
    return BackendUnavailable(
        f"{what}: videos, streams and cameras need PyAV{cause}: pip install 'swiftdet[video]'  (or: pip install av)"
    )
