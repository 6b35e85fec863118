"""What a checkpoint says about its model besides the weights: class names, their number, the YOLOv7 description."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from swiftdet.checkpoints.records import Record, mapping_of
from swiftdet.checkpoints.state_dict import Found
from swiftdet.model_files.names import printable

_MAX_CLASSES = 1 << 16
_MAX_NAME_CHARS = 256
_MAX_NODES = 20_000
_MAX_DEPTH = 16


@dataclass(frozen=True)
class ModelFacts:
    """As written in the file; nothing is derived, and the file may contradict itself.

    Attributes:
        names: class names in the order of their numbers.
        num_classes: what the model was made for; the number of names where the file says nothing else.
        config: YOLOv7's description of its layers (`yaml`), plain Python values.
    """

    names: tuple[str, ...] | None
    num_classes: int | None
    config: dict[str, Any] | None


def read_facts(found: Found) -> ModelFacts:
    """From the attributes of the module, and from what lies beside the state dict."""
    attributes = _model_attributes(found.module) if found.module else {}
    config = _plain(attributes.get("yaml", found.outer.get("yaml")))
    config = config if isinstance(config, dict) else None
    names = _names(attributes.get("names")) or _names(found.outer.get("names"))
    counts = (attributes.get("nc"), found.outer.get("nc"), (config or {}).get("nc"), names and len(names))
    number = next((n for n in counts if type(n) is int and 0 < n <= _MAX_CLASSES), None)
    return ModelFacts(names, number, config)


def names_in_notes(notes: Mapping[str, str]) -> tuple[str, ...] | None:
    """Class names in the notes of a safetensors file: the JSON list, or mapping of numbers, under `names`."""
    try:
        value = json.loads(notes.get("names", "null"))
    except (ValueError, RecursionError):
        return None
    return _names(value)


def _model_attributes(module: Record) -> dict[object, object]:
    """Of the model itself, where DataParallel is around it."""
    attributes = module.attributes()
    modules = mapping_of(attributes.get("_modules")) or {}
    inner = modules.get("module")
    if "names" not in attributes and len(modules) == 1 and isinstance(inner, Record):
        return inner.attributes()
    return attributes


def _names(value: object) -> tuple[str, ...] | None:
    """From a list of names or a mapping of 0, 1, ... to names."""
    if isinstance(value, dict):
        if len(value) > _MAX_CLASSES or value.keys() != set(range(len(value))):
            return None
        value = [value[i] for i in range(len(value))]
    if not isinstance(value, list | tuple) or not 0 < len(value) <= _MAX_CLASSES:
        return None
    names = [printable(name) for name in value if isinstance(name, str) and len(name) <= _MAX_NAME_CHARS]
    return tuple(names) if len(names) == len(value) else None


def _plain(value: object) -> Any:
    """A copy of nested lists and dicts of plain values; None where there is anything else in it, or too much."""
    left = _MAX_NODES

    def copy(node: object, depth: int) -> Any:
        nonlocal left
        left -= 1
        if left < 0 or depth > _MAX_DEPTH:
            raise ValueError("too large")
        if node is None or isinstance(node, bool | int | float | str):
            return node
        if isinstance(node, list | tuple):
            return [copy(item, depth + 1) for item in node]
        if isinstance(node, dict) and all(isinstance(key, str | int) for key in node):
            return {str(key): copy(item, depth + 1) for key, item in node.items()}
        raise ValueError("not plain")

    try:
        return copy(value, 0)
    except ValueError:
        return None
