"""Finds the tensors before a non-maximum suppression that an export put into its graph.

Such a graph fixes thresholds and needs plugins; its network ends where the suppression begins. Sources: the official
exports of YOLOv7 (`--end2end`, `--include-nms`, `--end2end --max-wh`) and DAMO-YOLO (`--end2end`, for TensorRT 7, 8
and onnxruntime).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from swiftdet.errors import ModelError

if TYPE_CHECKING:
    from swiftdet.model_files.graph import Graph, Node
    from swiftdet.spec import BoxFormat

_RESHAPING = ("Identity", "Cast", "Squeeze", "Unsqueeze", "Reshape")
_BEST_CLASS = ("ReduceMax", "TopK")
_CLASS_INDEX = ("ArgMax", "TopK")
# Right-multiplied to rows (cx, cy, w, h) gives (x1, y1, x2, y2).
_CENTRE_TO_CORNERS = np.array([[1, 0, 1, 0], [0, 1, 0, 1], [-0.5, 0, 0.5, 0], [0, -0.5, 0, 0.5]])


@dataclass(frozen=True)
class NmsCut:
    """Where to end the network.

    Attributes:
        op: the suppressing operation that was found.
        boxes: tensor [N, P, 4] or [N, P, 1, 4].
        scores: tensor [N, P, C], or [N, C, P] where `scores_class_major`.
        box_format: what the graph takes the boxes for - which DAMO-YOLO's exports get wrong.
        box_format_is_claim: the format was only claimed, by `box_coding` or by a conversion to corners, so that a
            family whose exports are known to be wrong may overrule it.
        scores_are_logits: the sigmoid was the suppression's to apply.
        scores_class_major: the scores are [N, C, P].
    """

    op: str
    boxes: str
    scores: str
    box_format: BoxFormat
    box_format_is_claim: bool
    scores_are_logits: bool = False
    scores_class_major: bool = False

    @property
    def outputs(self) -> tuple[str, str]:
        """Scores, then boxes: the order of the layout `scores_boxes`."""
        return self.scores, self.boxes


def find_nms(graph: Graph) -> NmsCut | None:
    """The suppression in the main graph, or None.

    Raises:
        ModelError: several suppressions, or one that does not read boxes and scores in a form that is known.
    """
    found = [node for node in graph.nodes if "NMS" in node.op or node.op == "NonMaxSuppression"]
    if not found:
        return None
    if len(found) > 1:
        raise ModelError(
            f"the graph holds {len(found)} non-maximum suppressions ({', '.join(n.op for n in found[:4])}), expected "
            "at most one; export the network without them"
        )
    node = found[0]
    if len([name for name in node.inputs if name]) < 2:
        raise ModelError(f"{node.op}: expected boxes and scores as inputs, got {list(node.inputs)}")
    if node.op == "NonMaxSuppression":
        return _cut_onnx_nms(graph, node)
    if node.op in {"EfficientNMS_TRT", "EfficientNMS_ONNX_TRT"}:
        return _cut_efficient_nms(graph, node)
    if node.op in {"BatchedNMS_TRT", "BatchedNMSDynamic_TRT"}:
        return _cut_batched_nms(graph, node)
    raise ModelError(f"{node.op}: a suppression that swiftdet does not know; export the network without it")


def _cut_efficient_nms(graph: Graph, node: Node) -> NmsCut:
    if len(node.inputs) > 2:
        raise ModelError(
            f"{node.op}: boxes relative to anchors (a third input) are not supported; export decoded boxes"
        )
    coding = _integer(node, "box_coding", 0)
    activation = _integer(node, "score_activation", 0)
    boxes, converted = _before_conversion(graph, node.inputs[0])
    return NmsCut(
        op=node.op,
        boxes=boxes,
        scores=node.inputs[1],
        box_format="cxcywh" if converted or coding == 1 else "xyxy",
        box_format_is_claim=converted or coding == 1,
        scores_are_logits=activation == 1,
    )


def _cut_batched_nms(graph: Graph, node: Node) -> NmsCut:
    if _integer(node, "isNormalized", 0) == 1:
        raise ModelError(f"{node.op}: boxes in units of the image (isNormalized) are not supported; export pixels")
    if _integer(node, "shareLocation", 1) != 1:
        raise ModelError(f"{node.op}: a box per class (shareLocation 0) is not supported")
    _, unsqueezed = graph.upstream(node.inputs[0], ("Identity", "Cast"))
    tensor = node.inputs[0]
    if unsqueezed is not None and unsqueezed.op in {"Unsqueeze", "Reshape"}:
        tensor = graph.data_input(unsqueezed)
    before, converted = _before_conversion(graph, tensor)
    return NmsCut(
        op=node.op,
        boxes=before if converted else node.inputs[0],
        scores=node.inputs[1],
        box_format="cxcywh" if converted else "xyxy",
        box_format_is_claim=converted,
    )


def _cut_onnx_nms(graph: Graph, node: Node) -> NmsCut:
    """ONNX's operator: boxes [N, P, 4], scores [N, C, P].

    YOLOv7's export reduces the scores to the best class before it, and shifts the boxes by class * max_wh, so that
    one call serves all classes: the tensors before both are the head.
    """
    boxes, scores, class_major = node.inputs[0], node.inputs[1], True
    _, producer = graph.upstream(scores, _RESHAPING)
    if producer is not None and producer.op == "Transpose" and producer.attributes.get("perm") == (0, 2, 1):
        scores, class_major = graph.data_input(producer), False
        _, producer = graph.upstream(scores, _RESHAPING)
    if producer is not None and producer.op in _BEST_CLASS:
        scores, class_major = producer.inputs[0], False
        boxes = _without_class_offset(graph, boxes)
    boxes, converted = _before_conversion(graph, boxes)
    centred = _integer(node, "center_point_box", 0) == 1
    return NmsCut(
        op=node.op,
        boxes=boxes,
        scores=scores,
        box_format="cxcywh" if converted or centred else "xyxy",
        box_format_is_claim=converted or centred,
        scores_class_major=class_major,
    )


def _without_class_offset(graph: Graph, boxes: str) -> str:
    """The boxes before `boxes + class * max_wh`; `boxes` itself where there is no such sum."""
    _, node = graph.upstream(boxes, ("Identity", "Cast"))
    if node is None or node.op != "Add":
        return boxes
    plain = [name for name in node.inputs if not _is_class_offset(graph, name)]
    return plain[0] if len(plain) == 1 else boxes


def _is_class_offset(graph: Graph, tensor: str) -> bool:
    _, node = graph.upstream(tensor, ("Mul", *_RESHAPING))
    return node is not None and node.op in _CLASS_INDEX


def _before_conversion(graph: Graph, boxes: str) -> tuple[str, bool]:
    """The boxes before a product with the matrix that turns centres into corners, and whether there was one."""
    _, node = graph.upstream(boxes, ("Identity",))
    if node is None or node.op != "MatMul" or len(node.inputs) != 2:
        return boxes, False
    matrix = graph.read_constant(node.inputs[1])
    if matrix is None or matrix.shape != (4, 4) or not np.array_equal(matrix, _CENTRE_TO_CORNERS):
        return boxes, False
    return node.inputs[0], True


def _integer(node: Node, name: str, default: int) -> int:
    """An integer attribute; the official exports store some as lists of one."""
    value = node.attributes.get(name, default)
    if isinstance(value, tuple) and len(value) == 1:
        value = value[0]
    if not isinstance(value, int):
        raise ModelError(f"{node.op}: attribute {name}: expected an integer, got {value!r:.40}")
    return value
