"""Rewriting of ONNX graphs in place: other outputs, float32 at the boundary."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import onnx
from google.protobuf.internal.containers import RepeatedCompositeFieldContainer

from swiftdet.errors import ModelError


def cut_graph(proto: onnx.ModelProto, outputs: Sequence[str]) -> None:
    """Makes the tensors `outputs` the outputs of the graph and drops everything that only served others.

    Raises:
        ModelError: a tensor is not computed by a node of the graph.
    """
    graph = proto.graph
    nodes = list(graph.node)
    producers = {name: i for i, node in enumerate(nodes) for name in node.output if name}
    types = {v.name: v.type.SerializeToString() for v in graph.value_info if v.name in outputs}
    kept, needed, queue = set[int](), set(outputs), list(outputs)
    while queue:
        name = queue.pop()
        if name not in producers:
            if name in outputs:
                raise ModelError(f"tensor {name!r} is not computed by the network")
            continue
        index = producers[name]
        if index not in kept:
            kept.add(index)
            fresh = tensors_read(nodes[index]) - needed
            needed |= fresh
            queue.extend(fresh)
    nodes = [node for i, node in enumerate(nodes) if i in kept]
    produced = {name for node in nodes for name in node.output}
    _drop(graph.node, [i not in kept for i in range(len(graph.node))])
    _drop(graph.initializer, [t.name not in needed for t in graph.initializer])
    _drop(graph.sparse_initializer, [t.values.name not in needed for t in graph.sparse_initializer])
    _drop(graph.value_info, [v.name not in produced or v.name in outputs for v in graph.value_info])
    del graph.output[:]
    for name in outputs:
        declared = graph.output.add(name=name).type
        declared.tensor_type.elem_type = onnx.TensorProto.FLOAT
        if name in types:  # else without a shape, which engines infer
            declared.ParseFromString(types[name])
    domains = {"", *(node.domain for node in nodes), *(f.domain for f in proto.functions)}
    domains |= {node.domain for f in proto.functions for node in f.node}
    _drop(proto.opset_import, [o.domain not in domains for o in proto.opset_import])


def use_float32_boundary(proto: onnx.ModelProto, image: onnx.ValueInfoProto, *, outputs_cut: bool) -> bool:
    """Puts casts behind a float16 input and before float16 outputs: engines are fed and read in float32.

    Args:
        proto: changed in place.
        image: its input, changed in place.
        outputs_cut: the outputs are inner tensors, whose types are not known.

    Returns:
        True if anything was changed.
    """
    graph, half, single = proto.graph, onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT
    changed = image.type.tensor_type.elem_type == half
    half_inside = changed or any(tensor.data_type == half for tensor in graph.initializer)
    if changed:
        inner = _fresh_name(graph, image.name)
        _rename(graph.node, image.name, inner)
        image.type.tensor_type.elem_type = single
        graph.node.insert(0, onnx.helper.make_node("Cast", [image.name], [inner], to=half))
    for output in graph.output:
        if output.type.tensor_type.elem_type == half or (half_inside and outputs_cut):
            inner = _fresh_name(graph, output.name)
            _rename(graph.node, output.name, inner)
            graph.node.append(onnx.helper.make_node("Cast", [inner], [output.name], to=single))
            output.type.tensor_type.elem_type = single
            changed = True
    return changed


def _fresh_name(graph: onnx.GraphProto, name: str) -> str:
    taken = {tensor for node in graph.node for tensor in (*node.input, *node.output)}
    candidate = f"{name}/float16"
    while candidate in taken:
        candidate += "_"
    return candidate


def tensors_read(node: onnx.NodeProto) -> set[str]:
    """Names that a node reads, those of its branches' outer scope included."""
    names = {name for name in node.input if name}
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                names |= tensors_read(inner)
            names |= {output.name for output in graph.output}
    return names


def _rename(nodes: Iterable[onnx.NodeProto], old: str, new: str) -> None:
    """Renames a tensor of the outer graph wherever it is written or read."""
    for node in nodes:
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                if name == old:
                    names[i] = new
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                _rename(graph.node, old, new)
                for output in graph.output:
                    if output.name == old:
                        output.name = new


def _drop(repeated: RepeatedCompositeFieldContainer[Any], unwanted: Sequence[bool]) -> None:
    """Deletes the marked items in place, without copying the (large) others."""
    for i in reversed(range(len(repeated))):
        if unwanted[i]:
            del repeated[i]
