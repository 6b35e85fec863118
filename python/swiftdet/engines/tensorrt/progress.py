"""The builder's progress, handed on to whoever shows it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Protocol

_LOG = logging.getLogger("swiftdet.tensorrt")


class BuildProgress(Protocol):
    """Hears what a build is doing. Called from the builder's own threads, several at once."""

    def start(self, phase: str, parent: str | None, steps: int) -> None:
        """A phase of so many steps begins, inside another or by itself."""

    def step(self, phase: str, done: int) -> bool:
        """So many steps of a phase are done; False asks the builder to give up."""

    def finish(self, phase: str) -> None:
        """A phase is over, its steps done or skipped."""


def monitor(library: Any, listener: BuildProgress) -> Any:
    """The listener as TensorRT's `IProgressMonitor`. Its `interruption` is what broke into a callback: Ctrl-C."""

    class Monitor(library.IProgressMonitor):  # type: ignore[misc] # the base is only known when TensorRT is loaded
        def __init__(self) -> None:
            library.IProgressMonitor.__init__(self)  # bindings refuse super() here
            self.interruption: BaseException | None = None

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._call(listener.start, phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            goes_on = self._call(listener.step, phase_name, step + 1) is not False
            return goes_on and self.interruption is None

        def phase_finish(self, phase_name: str) -> None:
            self._call(listener.finish, phase_name)

        def _call(self, function: Callable[..., Any], *args: Any) -> Any:
            """Calls; nothing may leave a callback of the builder, which is C++."""
            try:
                return function(*args)
            except Exception:  # noqa: BLE001 - a defect of who listens spoils no engine
                _LOG.exception("showing the progress of a build failed")
            except BaseException as e:  # noqa: BLE001 - raised again when the builder has stopped
                self.interruption = e
            return None

    return Monitor()
