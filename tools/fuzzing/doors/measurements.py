"""Results that a file says were measured: evaluations, benchmarks, verifications."""

from __future__ import annotations

import contextlib
import importlib.resources
import json
import random
import re
from typing import Any

from fuzzing import mutations
from fuzzing.door import Door
from swiftdet import measurements

_RAW = ("1e999", "-1e999", "NaN", "1" * 5000, "1" + "0" * 400, '"\\ud800"', "1.0", "-0", "true")
_PARTS = ("subject", "measured", "provenance")
_VALUE = re.compile(r'(?<=: )(?:"[^"]*"|[\w.+-]+|\[\]|\{\})(?=[,}])')
_NAME = "max_a"  # where any will do
_TEXTS = {"^[0-9a-f]{64}$": "0" * 64, "^(cpu|cuda:[0-9]+)$": "cpu"}


class MeasurementsDoor(Door):
    """`swiftdet.measurements.read`: results in JSON, their schemas and their digest."""

    def prepare(self) -> None:
        """A document of every format, with every field that its schema describes."""
        self._seeds = [_sealed(kind) for kind in measurements.FORMATS]

    def warm_up(self) -> None:
        """Loads jsonschema."""
        for seed in self._seeds:
            self.run(json.dumps(seed).encode())

    def case(self, rng: random.Random) -> bytes:
        """Other values; most with the digest that belongs to them, as a forger would write it; some damaged as text."""
        document = rng.choice(self._seeds)
        if rng.random() < 0.3:
            document = mutations.of_json(document, rng)
        else:
            part = rng.choice(_PARTS)
            document = {**document, part: mutations.of_json(document[part], rng)}
        if isinstance(document, dict) and rng.random() < 0.7:
            with contextlib.suppress(ValueError):  # numbers that JSON lacks
                document = {**document, "sha256": measurements.content_sha256(document)}
        text = json.dumps(document)
        if rng.random() < 0.1:
            values = list(_VALUE.finditer(text))
            if values:
                start, end = rng.choice(values).span()
                text = text[:start] + (_deep(rng) if rng.random() < 0.5 else rng.choice(_RAW)) + text[end:]
        return mutations.of_bytes(text.encode(), rng) if rng.random() < 0.1 else text.encode()

    def run(self, case: bytes) -> str:
        """Reads it; what was read is written and read again."""
        path = self.folder / "case.json"
        path.write_bytes(case)
        document = measurements.read(path)
        measurements.write(document, path)
        if measurements.read(path) != document:
            raise AssertionError("a result does not survive being written")
        return "read"


def _deep(rng: random.Random) -> str:
    opening, closing = rng.choice((("[", "]"), ('{"a":', "}")))
    depth = rng.choice((100, 480, rng.randrange(900, 1000), 5000))  # CPython gives up at about 1000
    return opening * depth + "1" + closing * depth


def _sealed(kind: str) -> measurements.Document:
    name, _, version = measurements.FORMATS[kind].removeprefix("swiftdet.").partition("/")
    schemas = importlib.resources.files(measurements) / "schemas"
    whole = json.loads((schemas / "document.json").read_text("utf-8"))
    whole["properties"]["measured"] = json.loads((schemas / f"{name}-{version}.json").read_text("utf-8"))
    parts = _instance(whole, [whole])
    return measurements.seal(kind, **{part: parts[part] for part in _PARTS})


def _instance(schema: Any, roots: list[Any]) -> Any:
    """Something that a schema describes, by the keywords that ours use; `roots` are the documents around it."""
    if not isinstance(schema, dict):
        return {}
    if "$id" in schema:
        roots = [*roots, schema]
    if "$ref" in schema:
        return _instance(_referred(roots[-1], schema["$ref"]), roots)
    for several in ("oneOf", "anyOf"):
        if several in schema:
            return _instance(schema[several][-1], roots)
    if "const" in schema or "enum" in schema:
        return schema["const"] if "const" in schema else schema["enum"][0]
    types = schema.get("type", "object")
    kind = types if isinstance(types, str) else types[0]
    if kind == "object":
        more = schema.get("additionalProperties", True)
        names = schema.get("required") or ([_NAME] if isinstance(more, dict) else [])
        described = {**dict.fromkeys(names, more), **schema.get("properties", {})}
        return {name: _instance(of, roots) for name, of in described.items()}
    if kind == "array":
        items = [_instance(item, roots) for item in schema.get("prefixItems", [])]
        return items + [_instance(schema.get("items"), roots)] * (schema.get("minItems", 1) - len(items))
    if kind == "string":
        return _TEXTS.get(schema.get("pattern"), _NAME)
    if kind == "integer":
        return schema.get("minimum", 1)
    return {"number": schema.get("exclusiveMinimum", schema.get("minimum", 0)) + 0.5, "boolean": True}.get(kind)


def _referred(root: Any, pointer: str) -> Any:
    for key in pointer.removeprefix("#").strip("/").split("/"):
        root = root[key]
    return root
