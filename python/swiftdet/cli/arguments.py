"""Reads options as users write them: `key=value` beside GNU flags, sizes, lists of classes."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Sequence
from typing import Any

import typer

_KEY_VALUE = re.compile(r"([A-Za-z][A-Za-z0-9_-]*)=(.*)", re.DOTALL)
_TRUE = frozenset({"true", "1", "yes", "on"})
_FALSE = frozenset({"false", "0", "no", "off"})


def rewrite_key_values(args: Sequence[str], group: Any) -> list[str]:
    """The arguments with each `key=value` as the flag that it means: `--key=value`, or `--key` for a switch.

    Only options of the verb are rewritten, so that a file may have "=" in its name (`./conf=0.5` always is a file);
    the value of a flag and everything behind `--` stay as they are.

    Args:
        args: without the program's name.
        group: the Click group that Typer made, whose commands know their options.

    Raises:
        typer.BadParameter: `key=value` with a key that is no option and no file.
    """
    command, verb = group, -1
    while hasattr(command, "commands"):  # a verb of verbs, as `cache ls`
        verb = next((i for i, arg in enumerate(args) if i > verb and not arg.startswith("-")), len(args))
        command = command.commands.get(args[verb]) if verb < len(args) else None
    if command is None:
        return list(args)
    options = {flag: p for p in command.params for flag in p.opts if flag.startswith("-")}
    positional = {p.name for p in command.params if p.param_type_name == "argument"}
    rewritten = list(args[: verb + 1])
    rest = iter(args[verb + 1 :])
    for arg in rest:
        if arg == "--":
            return [*rewritten, arg, *rest]
        if arg in options and not options[arg].is_flag:
            rewritten += [arg, *([value] if (value := next(rest, None)) is not None else [])]
            continue
        match = _KEY_VALUE.fullmatch(arg)
        if match is None:
            rewritten.append(arg)
            continue
        key, value = match[1], match[2]
        flag = "--" + key.replace("_", "-")
        if key in positional:
            rewritten.append(value)
        elif flag not in options:
            rewritten.append(_file_or_refuse(arg, key, options, positional))
        elif not options[flag].is_flag:
            rewritten.append(f"{flag}={value}")
        elif value.lower() in _TRUE:
            rewritten.append(flag)
        elif value.lower() not in _FALSE:
            raise typer.BadParameter(f"expected true or false, got {value!r}", param_hint=f"'{key}'")
    return rewritten


def _file_or_refuse(arg: str, key: str, options: dict[str, Any], positional: set[str]) -> str:
    if os.path.exists(arg):  # noqa: PTH110 - pathlib raises for what is too long for a name
        return arg
    keys = [
        *positional,
        *(flag.removeprefix("--").replace("-", "_") for flag in options if flag.startswith("--")),
    ]
    near = difflib.get_close_matches(key.replace("-", "_"), keys, n=1)
    hint = f"; did you mean {near[0]}=?" if near else ""
    raise typer.BadParameter(f"{arg!r} is neither an option of this verb nor a file{hint}")


def parse_imgsz(text: str) -> tuple[int, int]:
    """`640` or `HEIGHTxWIDTH` (also `H,W` and `[H, W]`) as (height, width) px.

    Raises:
        typer.BadParameter: anything else, or a side under 1 px.
    """
    match = re.fullmatch(r"(\d{1,9})(?:\s*[x,]\s*(\d{1,9}))?", text.strip("[]() ").lower())
    sides = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if min(sides) < 1:
        raise typer.BadParameter(f"expected a size such as 640 or 480x640 (height x width), got {text!r}")
    return sides


def parse_numbers(text: str, kind: type[int | float], option: str) -> list[Any]:
    """`1,2,4` (also in brackets) as numbers of a kind, for an option whose name an error gives.

    Raises:
        typer.BadParameter: something that is no such number.
    """
    try:
        return [kind(part) for part in text.strip("[]() ").split(",")]
    except ValueError:
        wanted = "whole numbers such as 1,4" if kind is int else "numbers such as 10,30"
        raise typer.BadParameter(f"expected {wanted}, got {text!r:.60}", param_hint=option) from None


def parse_classes(text: str, names: dict[int, str]) -> list[int]:
    """`0,2` or `person,bus` (also in brackets) as class ids.

    Args:
        text: ids and names of classes, separated by commas.
        names: of the model.

    Raises:
        typer.BadParameter: an id or a name that the model does not have.
    """
    ids = {name: i for i, name in names.items()}
    classes = []
    for part in (piece.strip(" '\"") for piece in text.strip("[]() ").split(",")):
        if part in ids:
            classes.append(ids[part])
        elif part.isdecimal() and len(part) < 10 and int(part) in names:
            classes.append(int(part))
        else:
            near = difflib.get_close_matches(part, ids, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise typer.BadParameter(
                f"{part!r} is none of the model's {len(names)} classes{hint}", param_hint="'--classes'"
            )
    return classes
