"""Finding the state dict in what was saved: under its wrapper, as a dict of tensors or as a tree of modules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from swiftdet.checkpoints.records import Record, kind_of, mapping_of
from swiftdet.checkpoints.tensors import Tensor
from swiftdet.errors import ModelError
from swiftdet.model_files.names import printable

WRAPPERS = ("ema", "model", "state_dict", "model_state_dict")
"""Keys under which a model lies, the first that holds one is taken: averaged weights before the raw ones."""

_PREFIXES = ("module.", "_orig_mod.")  # added by DataParallel and by torch.compile
_MAX_WRAPPERS = 4
_MAX_DEPTH = 64
_MAX_MODULES = 1 << 15
_MAX_TENSORS = 1 << 15
_MAX_NAME_CHARS = 256


@dataclass(frozen=True)
class Found:
    """Where the weights are.

    Attributes:
        tensors: by official name, in the order of the file.
        wrapper: keys that lead to it, joined by "."; empty where the file is the state dict or module itself.
        module: the model, where it is a tree of modules and not a state dict.
        outer: the mapping that holds the model, for what is written beside it.
    """

    tensors: dict[str, Tensor]
    wrapper: str
    module: Record | None
    outer: dict[object, object]


def find_state_dict(root: object) -> Found:
    """The tensors that belong to the model.

    Raises:
        ModelError: there are none; or their names are none; or the tree of modules is no tree.
    """
    path: list[str] = []
    outer: dict[object, object] = {}
    node = root
    while len(path) <= _MAX_WRAPPERS:
        if isinstance(node, Record) and "_modules" in node.attributes():
            tensors = _without_prefix(_collect(_walk(node)))
            return Found(tensors, ".".join(path), node, outer)
        entries = mapping_of(node)
        if entries is None:
            break
        key = next((key for key in WRAPPERS if _holds_something(entries.get(key))), None)
        if key is None:
            tensors = _without_prefix(_collect(entries.items()))
            return Found(tensors, ".".join(path), None, outer)
        path.append(key)
        outer, node = entries, entries[key]
    where = f"under {'.'.join(path)!r}" if path else "in the file"
    raise ModelError(
        f"expected a state dict or a module {where}, found {kind_of(node)}; save the weights with "
        "torch.save(model.state_dict(), path)"
    )


def _holds_something(value: object) -> bool:
    return (isinstance(value, Record) and bool(value.attributes() or value.items)) or (
        isinstance(value, dict) and bool(value)
    )


def _collect(entries: Iterable[tuple[object, object]]) -> dict[str, Tensor]:
    """The entries that are tensors, their names checked."""
    tensors: dict[str, Tensor] = {}
    others: list[str] = []
    for name, value in entries:
        if not isinstance(value, Tensor):
            if len(others) < 8:
                others.append(printable(name[:40]) if isinstance(name, str) else kind_of(name))
            continue
        if not isinstance(name, str) or len(name) > _MAX_NAME_CHARS or printable(name) != name:
            raise ModelError(f"a tensor whose name is no text of at most {_MAX_NAME_CHARS} printable characters")
        tensors[name] = value
        if len(tensors) > _MAX_TENSORS:
            raise ModelError(f"more than {_MAX_TENSORS} tensors; no detector has so many")
    if not tensors:
        found = f"only {', '.join(others)}" if others else "nothing"
        raise ModelError(
            f"expected a model's weights (a module or a state dict, bare or under {', '.join(WRAPPERS)}), found {found}"
        )
    return tensors


def _walk(root: Record) -> Iterator[tuple[object, object]]:
    """What `root.state_dict()` would list: parameters, persistent buffers, then the modules within, depth first."""
    visited = 0
    pending: list[tuple[str, Record, int]] = [("", root, 0)]
    while pending:
        prefix, module, depth = pending.pop()
        visited += 1
        if visited > _MAX_MODULES or depth > _MAX_DEPTH:
            raise ModelError(
                f"a tree of more than {_MAX_MODULES} modules or {_MAX_DEPTH} levels: modules that contain themselves?"
            )
        attributes = module.attributes()
        passing = attributes.get("_non_persistent_buffers_set")
        passing = {n for n in passing if isinstance(n, str)} if isinstance(passing, list) else set()
        for kind, left_out in (("_parameters", set()), ("_buffers", passing)):
            for name, value in (mapping_of(attributes.get(kind)) or {}).items():
                if isinstance(name, str) and name not in left_out and value is not None:
                    yield prefix + name, value
        children = []
        for name, child in (mapping_of(attributes.get("_modules")) or {}).items():
            if isinstance(name, str) and isinstance(child, Record):
                if len(prefix) + len(name) > _MAX_NAME_CHARS:
                    raise ModelError(f"a module whose name has more than {_MAX_NAME_CHARS} characters")
                children.append((f"{prefix}{name}.", child, depth + 1))
        pending += reversed(children)


def _without_prefix(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names without what wrappers of the whole model put before each."""
    while True:
        prefix = next((p for p in _PREFIXES if all(name.startswith(p) for name in tensors)), None)
        if prefix is None:
            return tensors
        tensors = {name[len(prefix) :]: tensor for name, tensor in tensors.items()}
