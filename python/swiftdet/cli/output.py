"""What every verb shares: exit codes, one-line errors, JSON documents, consoles."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import platform
import sys
import traceback
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

import swiftdet
from swiftdet.errors import InvalidArgument, InvalidType, SwiftdetError
from swiftdet.model_files.names import printable


class ExitCode(IntEnum):
    """What the process returns."""

    OK = 0
    FAILED = 1
    USAGE = 2
    INTERRUPTED = 130


JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else.")]
DebugFlag = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def console(*, stderr: bool = False) -> Console:
    """Rich on the stdout or stderr of this moment; plain text where that is no terminal."""
    return Console(stderr=stderr, highlight=False)


def one_line(text: object) -> str:
    """The text with every run of white space as one blank, and nothing that a terminal would take for a command."""
    return printable(" ".join(str(text).split()))


def print_error(message: object) -> None:
    """One line on stderr, never wrapped."""
    sys.stdout.flush()
    typer.echo(f"error: {one_line(message)}", err=True)


def print_note(message: object) -> None:
    """One line on stderr about something that is no error but must not be overlooked."""
    sys.stdout.flush()
    typer.echo(f"note: {one_line(message)}", err=True)


def print_progress(message: object) -> None:
    """One line on stderr about what is going on, for work that takes minutes."""
    sys.stdout.flush()
    typer.echo(one_line(message), err=True)


@contextlib.contextmanager
def reported_errors(*, debug: bool) -> Iterator[None]:
    """Turns an error of a verb into its line on stderr and its exit code.

    Raises:
        typer.Exit: 2 for an argument outside its contract, 1 for anything else that failed.
    """
    try:
        yield
    except SwiftdetError as e:
        show_error(e, str(e), debug=debug)
        usage = isinstance(e, InvalidArgument | InvalidType)
        raise typer.Exit(ExitCode.USAGE if usage else ExitCode.FAILED) from e
    except (OSError, MemoryError) as e:
        if isinstance(e, BrokenPipeError):
            raise
        show_error(e, _of_the_system(e), debug=debug)
        raise typer.Exit(ExitCode.FAILED) from e
    except (typer.Exit, typer.Abort, typer.BadParameter):
        raise
    except Exception as e:
        # A defect of ours: still one line, with the way to what a bug report needs.
        hint = "" if debug else " (this is a bug in swiftdet; --debug shows where)"
        show_error(e, f"{type(e).__name__}: {e}{hint}", debug=debug)
        raise typer.Exit(ExitCode.FAILED) from e


def _of_the_system(error: OSError | MemoryError) -> str:
    """What the system refused, and of which file, in words of its own but without numbers."""
    if not isinstance(error, OSError):
        return str(error) or "out of memory"
    said = error.strerror or str(error)
    if not isinstance(error.filename, str | bytes):
        return said
    path = Path(os.fsdecode(error.filename))
    if isinstance(error, NotADirectoryError):  # one of its parents is to blame
        path = next((parent for parent in path.parents if parent.exists() and not parent.is_dir()), path)
    if isinstance(error, NotADirectoryError | FileExistsError):
        return f"{path}: expected a folder, and there is something else; name another one"
    if isinstance(error, IsADirectoryError):
        return f"{path}: expected a file, and there is a folder; name another one"
    return f"{path}: {said}"


def show_error(error: BaseException, message: str, *, debug: bool) -> None:
    """The error's line on stderr, behind its traceback where that was asked for."""
    if debug:
        traceback.print_exception(error, file=sys.stderr)
    print_error(message)


def json_text(document: object) -> str:
    """A JSON document for machines and people: indented, UTF-8, no NaN."""
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
    # Names of files may hold bytes that are no text; they are written as JSON's own escapes, which Python reads back.
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def print_json(document: object) -> None:
    """The document on stdout, unstyled and unwrapped."""
    typer.echo(json_text(document))


def write_json(document: object, path: Path) -> None:
    """The document as a file; its folder is made where needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json_text(document) + "\n", encoding="utf-8")


def provenance() -> dict[str, Any]:
    """What made a result: versions, machine, time."""
    return {
        "created": dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
        "swiftdet": swiftdet.__version__,
        "build": swiftdet.build_config(),
        "python": platform.python_version(),
        "platform": f"{platform.system()}-{platform.release()}-{platform.machine()}",  # platform() runs a program
    }
