"""What a case may not do on the way: write, print, open, connect, run, or take memory without bound."""

from __future__ import annotations

import os
import resource
import sys
import sysconfig
from pathlib import Path
from typing import Any

from typing_extensions import Self

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_NEVER = (
    "socket.", "subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.putenv",
    "os.unsetenv",
    "os.chdir", "os.kill", "signal.", "webbrowser.", "urllib.", "http.", "ftplib.", "smtplib.", "pty.", "syslog.",
    "pickle.find_class",
)  # fmt: skip
_CHANGING = (
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.mkdir",
    "os.link",
    "os.symlink",
    "os.chmod",
    "os.truncate",
    "shutil.",
)
_MAKING = ("import", "exec", "compile", "marshal.loads", "ctypes.", "cpython.")


class Watch:
    """Hears of what Python reports to audit hooks while a case runs, and refuses what writes elsewhere.

    Attributes:
        heard: what must not be, in words.
    """

    def __init__(self, folder: Path, *, may_import: bool) -> None:
        self.heard: list[str] = []
        self._folder = str(folder)
        self._may_import = may_import
        self._active = False
        paths = sysconfig.get_paths()
        self._code = tuple({paths["stdlib"], paths["platstdlib"], *filter(None, map(os.path.realpath, sys.path))})
        sys.addaudithook(self._listen)

    def __enter__(self) -> Self:
        self.heard = []
        self._active = True
        return self

    def __exit__(self, *_: object) -> None:
        self._active = False

    def _listen(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._active:
            return
        if event == "open":
            self._opened(*arguments)
        elif event.startswith(_NEVER):
            if event.endswith("env") and bytes(arguments[0]) == b"PYDANTIC_DISABLE_PLUGINS":
                return  # Typer sets it, and puts it back, while it reads the types of options
            self._forbid(event, arguments)
        elif event.startswith(_CHANGING):
            if event == "os.mkdir" and os.path.lexists(arguments[0]):
                return  # changes nothing: the system refuses it
            if not self._inside(arguments[0]) or (event in {"os.rename", "os.link"} and not self._inside(arguments[1])):
                self._forbid(event, arguments)
        elif not self._may_import and event.startswith(_MAKING):
            self._forbid(event, arguments)

    def _opened(self, path: Any, mode: Any, flags: Any) -> None:
        if isinstance(path, int) or self._inside(path) or os.path.realpath(os.fsdecode(path)) == "/dev/null":
            return
        writes = bool(set(mode or "") & set("wax+")) or bool((flags or 0) & _WRITING)
        if writes or not self._may_import:
            self._forbid("open", (path, mode, flags))

    def _inside(self, path: Any) -> bool:
        if isinstance(path, int):
            return True
        try:
            return os.path.realpath(os.fsdecode(path)).startswith(self._folder)
        except (TypeError, ValueError):
            return True  # which no system call takes

    def _forbid(self, event: str, arguments: tuple[Any, ...]) -> None:
        self.heard.append(f"{event} {arguments!r:.160}")
        raise PermissionError(f"the fuzzer does not let a case do this: {event} {arguments!r:.160}")


def reset_peak() -> None:
    """Forgets the peak of earlier cases, which would hide that of the next."""
    Path("/proc/self/clear_refs").write_bytes(b"5")  # see proc(5): 5 resets the peak and nothing else


def peak_mib() -> float:
    """The most memory that this process has had since `reset_peak`, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
