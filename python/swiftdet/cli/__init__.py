"""The command line: `swiftdet predict`, `val`, `benchmark`, `verify`, `compare`, `export`, `build` and more."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

import swiftdet
from swiftdet.cli import output
from swiftdet.cli.arguments import rewrite_key_values

# Under other names: the functions must not hide the modules that they come from.
from swiftdet.cli.benchmark import benchmark as _benchmark
from swiftdet.cli.build import build as _build
from swiftdet.cli.cache import cache as _cache
from swiftdet.cli.compare import compare as _compare
from swiftdet.cli.doctor import doctor as _doctor
from swiftdet.cli.export import export as _export
from swiftdet.cli.models import models as _models
from swiftdet.cli.predict import predict as _predict
from swiftdet.cli.val import val as _val
from swiftdet.cli.verify import verify as _verify

__all__ = ["main"]

# Newer releases of Typer carry Click inside themselves, older ones depend on it; this base class is that of
# whichever is in use, and has format_message().
_UsageError: type[Any] = typer.BadParameter.__mro__[1]

_app = typer.Typer(
    name="swiftdet",
    help="Low-latency object detection.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_VERBS: dict[str, Callable[..., None]] = {
    "predict": _predict,
    "val": _val,
    "benchmark": _benchmark,
    "verify": _verify,
    "compare": _compare,
    "export": _export,
    "build": _build,
    "models": _models,
    "doctor": _doctor,
}
for _name, _function in _VERBS.items():
    _app.command(_name)(_function)
_GROUPS = {"cache": _cache}
for _name, _group in _GROUPS.items():
    _app.add_typer(_group, name=_name)


def _print_version(value: bool) -> None:  # noqa: FBT001 - Typer calls it so
    if value:
        typer.echo(f"swiftdet {swiftdet.__version__}")
        raise typer.Exit


@_app.callback()
def _root(
    *,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Low-latency object detection. Each verb has --help."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line.

    Args:
        argv: the arguments without the program's name; None: those of the process.

    Returns:
        The exit code: 0 done, 1 the work failed, 2 wrong usage, 130 interrupted.
    """
    args = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    try:
        command = typer.main.get_command(_app)
        code = command.main(rewrite_key_values(args, command), prog_name="swiftdet", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader went away, for instance `| head`. Python flushes stdout once more at its exit; not to that pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return output.ExitCode.FAILED
    except _UsageError as e:
        verb = next((arg for arg in args if not arg.startswith("-")), "")
        known = verb in _VERBS or verb in _GROUPS
        output.print_error(f"{e.format_message()} (see: swiftdet {verb + ' ' if known else ''}--help)")
        return output.ExitCode.USAGE
    except (KeyboardInterrupt, typer.Abort):
        output.print_error("interrupted")
        return output.ExitCode.INTERRUPTED
    return code if isinstance(code, int) else output.ExitCode.OK
