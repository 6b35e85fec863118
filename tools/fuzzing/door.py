"""What every door offers to the runner."""

from __future__ import annotations

import abc
import random
from pathlib import Path


class Door(abc.ABC):
    """One place where input comes in. A case is bytes, made from a generator and put to the library by `run`.

    Attributes:
        folder: for the files of a case; nothing outside may be written.
    """

    hang_s = 60.0
    """A case that takes longer is a finding. Far above what any takes, as the machine may be busy."""
    memory_mib = 512
    """A case during which the process needs more, beyond what it held before, is a finding."""
    may_import = True
    """Modules may be loaded, code made and files of the interpreter read on the way."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @abc.abstractmethod
    def prepare(self) -> None:
        """Makes the valid input that cases start from. Without engines: the runner forks after it."""

    def warm_up(self) -> None:  # noqa: B027 - most doors load nothing
        """Loads what is loaded once, before anything is watched."""

    def allowed_mib(self, case: bytes) -> float:  # noqa: ARG002 - a door may go by the size of a case
        """The memory that a case may take."""
        return self.memory_mib

    @abc.abstractmethod
    def case(self, rng: random.Random) -> bytes:
        """A case; the same for generators in the same state."""

    @abc.abstractmethod
    def run(self, case: bytes) -> str:
        """Puts the case to the library; what became of it in a word or two.

        Raises:
            SwiftdetError: it was refused, as it should be.
            Exception: anything else is a finding.
        """
