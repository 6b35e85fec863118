"""What a graph must be before an engine's parser sees it: some crash, or never return from one that is damaged."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import onnx

from swiftdet.errors import ModelError
from swiftdet.model_files.names import printable
from swiftdet.model_files.onnx_surgery import tensors_read


def check_graph(proto: onnx.ModelProto) -> None:
    """Checks versions, inputs and outputs, and that every tensor is computed once and nothing from itself.

    Branches and functions are looked into.

    The order of the nodes is left to the engines: files that are not sorted, as ONNX wants them, can be read.

    Raises:
        ModelError: names the tensor, the function or the version.
    """
    for opset in (*proto.opset_import, *(o for function in proto.functions for o in function.opset_import)):
        if not 0 <= opset.version <= _NEWEST_OPSET:
            raise ModelError(f"operator set version {opset.version} does not exist; {_ADVICE}")
    _check(proto.graph)
    _check_operators(proto.graph.node, proto.opset_import)
    calls = dict[str, set[str]]()
    for function in proto.functions:
        _check_nodes(function.node, function.input)
        _check_operators(function.node, function.opset_import)
        name = f"{function.domain}::{function.name}"
        calls.setdefault(name, set()).update(f"{node.domain}::{node.op_type}" for node in _all_nodes(function.node))
    if circle := _in_a_circle({name: called & set(calls) for name, called in calls.items()}):
        raise ModelError(f"function {printable(circle[:80])!r} calls itself; {_ADVICE}")


# Far above all that will be; an engine was seen to count down from it to the newest that it knows.
_NEWEST_OPSET = 10_000
_ONNX_DOMAINS = ("", "ai.onnx")
_ADVICE = "the file is damaged: export or download it again"


def _check(graph: onnx.GraphProto) -> None:
    given = [*(item.name for item in graph.input), *(tensor.name for tensor in graph.initializer)]
    _check_nodes(graph.node, given)


def _check_nodes(nodes: Sequence[onnx.NodeProto], given: Iterable[str]) -> None:
    """Checks one scope of names, then those inside its nodes."""
    known = set(given)
    maker = dict[str, int]()
    for i, node in enumerate(nodes):
        for name in node.output:
            if name and (name in known or name in maker):
                raise ModelError(
                    f"tensor {printable(name[:80])!r} is computed twice, or is an input as well; {_ADVICE}"
                )
            if name:
                maker[name] = i
    needs = {str(i): {str(maker[n]) for n in tensors_read(node) if n in maker} for i, node in enumerate(nodes)}
    if circle := _in_a_circle(needs):
        names = ", ".join(nodes[int(circle)].output)
        raise ModelError(f"tensor {printable(names[:80])!r} is computed from itself; {_ADVICE}")
    for node in nodes:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                _check(inner)


def _check_operators(nodes: Sequence[onnx.NodeProto], opsets: Iterable[onnx.OperatorSetIdProto]) -> None:
    """Checks that ONNX's own operators have the inputs that each must have, and that all have an output."""
    version = next((opset.version for opset in opsets if opset.domain in _ONNX_DOMAINS), 1)
    for node in _all_nodes(nodes):
        if not node.output:  # OpenVINO 2026.4 reads the one that is not there
            raise ModelError(f"operator {printable(node.op_type[:80])} has no output; {_ADVICE}")
        needed = _fewest_inputs(node.op_type, version) if node.domain in _ONNX_DOMAINS else 0
        if len(node.input) < needed or not all(node.input[:needed]):
            given = sum(1 for name in node.input if name)
            raise ModelError(
                f"operator {printable(node.op_type[:80])} needs at least {needed} inputs, got {given}; {_ADVICE}"
            )


def _fewest_inputs(operator: str, version: int) -> int:
    """How many inputs an operator must have in an operator set, or in today's where that one does not have it."""
    newest = onnx.defs.onnx_opset_version()
    for wanted in (min(version, newest), newest):
        try:
            return onnx.defs.get_schema(operator, wanted).min_input
        except onnx.defs.SchemaError:
            continue
    return 0  # no operator of ONNX: the engine will say so


def _all_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterable[onnx.NodeProto]:
    """The nodes, and those in their branches."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _all_nodes(inner.node)


def _in_a_circle(needs: dict[str, set[str]]) -> str:
    """An item that needs itself, directly or by way of others; "" if none does. Takes linear time."""
    waiting = {name: len(needed) for name, needed in needs.items()}
    users = dict[str, list[str]]()
    for name, needed in needs.items():
        for other in needed:
            users.setdefault(other, []).append(name)
    ready = [name for name, count in waiting.items() if count == 0]
    while ready:
        name = ready.pop()
        del waiting[name]
        for user in users.get(name, ()):
            waiting[user] -= 1
            if waiting[user] == 0:
                ready.append(user)
    return next(iter(waiting), "")
