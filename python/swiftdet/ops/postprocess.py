"""From raw outputs to boxes: decoding of every head layout, and non-maximum suppression."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from swiftdet import _core, checks
from swiftdet.errors import InvalidArgument, InvalidType, SwiftdetError
from swiftdet.ops.device import chosen
from swiftdet.spec import Head, ModelSpec

Float32Array = npt.NDArray[np.float32]
Int32Array = npt.NDArray[np.int32]
Int64Array = npt.NDArray[np.int64]


_MOST_CLASSES = 1 << 20


def nms(
    boxes: npt.ArrayLike,
    scores: npt.ArrayLike,
    classes: npt.ArrayLike,
    iou_threshold: float,
    *,
    class_agnostic: bool = False,
    max_det: int | None = None,
    device: str = "cpu",
) -> Int64Array:
    """Greedy non-maximum suppression.

    Walks down the boxes by score (ties: lower class first, then lower index). A box survives unless a survivor
    before it, of its own class or with `class_agnostic` of any, overlaps it with `intersection / union >
    iou_threshold`; all arithmetic and the comparison itself are float32. A union of zero suppresses nothing. Boxes
    with a NaN or infinite score or coordinate are dropped.

    Args:
        boxes: float32 [K, 4], x1 y1 x2 y2, any unit. Copied only if not contiguous.
        scores: float32 [K], any finite value.
        classes: integers [K] within int32.
        iou_threshold: 0 to 1.
        class_agnostic: boxes of different classes suppress one another too.
        max_det: stop after so many survivors; None = no limit.
        device: "cpu", or "cuda" or "cuda:N" for the same result from a GPU: a tool for comparison and convenience, as
            each call brings its arrays there and back and keeps nothing.

    Returns:
        int64 indices of the survivors in the order of the walk.

    Raises:
        InvalidType: another dtype than float32 or integers; an option of the wrong type.
        InvalidArgument: shapes that do not belong together, a threshold outside 0 to 1, a negative max_det.
        BackendUnavailable: a GPU was asked for, and driver, GPU or CUDA part is missing.
        CudaError, OutOfMemory: the GPU failed, or has no memory left.

    Example:
        >>> boxes = np.array([[0, 0, 10, 10], [1, 1, 10, 10], [20, 20, 30, 30]], dtype=np.float32)
        >>> nms(boxes, np.array([0.8, 0.9, 0.7], dtype=np.float32), np.zeros(3, dtype=np.int64), 0.5)
        array([1, 2])

    Thread-safe; releases the GIL while it works.
    """
    core, where = chosen(device)
    threshold = checks.fraction("iou_threshold", iou_threshold)
    limit = -1 if max_det is None else checks.whole("max_det", max_det, lowest=0)
    keep: Int64Array = core.nms(
        np.require(_as_array("boxes", boxes), requirements=("C", "A")),
        np.require(_as_array("scores", scores), requirements=("C", "A")),
        _as_int32("classes", classes),
        iou_threshold=threshold,
        class_agnostic=checks.switch("class_agnostic", class_agnostic),
        max_det=limit,
        **where,
    )
    return keep


def decode(
    outputs: Sequence[Any] | Mapping[str, Any],
    spec: ModelSpec | Head,
    conf: float,
    *,
    multi_label: bool = False,
    classes: Iterable[int] | None = None,
    max_candidates: int = 30000,
    image: int = 0,
    device: str = "cpu",
) -> tuple[Float32Array, Float32Array, Int32Array]:
    """Decodes a network's raw outputs into candidate boxes, before NMS.

    A candidate is a prediction with `score > conf` in float32 (and objectness > conf where the head has one); raw
    heads are compared in logit space with the same outcome. Candidates are ordered by score, ties by class, then by
    the head's own order of predictions. Scores and boxes that are NaN or infinite are dropped.

    Args:
        outputs: float32 C-contiguous arrays in the order of the head's outputs, or a mapping by tensor name (others in
            it are ignored). Borrowed for the call, never copied.
        spec: which layout they have: a `ModelSpec` or its `Head`.
        conf: 0 to 1.
        multi_label: every class over the threshold, not only a prediction's best.
        classes: class ids wanted; None = all. Without multi_label a prediction's best class among all decides first.
        max_candidates: the best so many stay.
        image: index in the batch.
        device: "cpu", or "cuda" or "cuda:N" for the same result from a GPU: a tool for comparison and convenience, as
            each call brings its arrays there and back and keeps nothing.

    Returns:
        boxes float32 [K, 4] x1 y1 x2 y2 in px of the network's input (not clipped), scores float32 [K], classes
        int32 [K].

    Raises:
        InvalidType: an output that is not a contiguous float32 array; an option of the wrong type.
        InvalidArgument: a missing output, a threshold, class id, image or limit outside its range.
        ModelError: the outputs' shapes are not those of the head; on a GPU also more than 64 anchors.
        BackendUnavailable: a GPU was asked for, and driver, GPU or CUDA part is missing.
        CudaError, OutOfMemory: the GPU failed, or has no memory left.

    Thread-safe; releases the GIL while it works.
    """
    core, where = chosen(device)
    threshold = checks.fraction("conf", conf)
    head = spec.head if isinstance(spec, ModelSpec) else spec
    if not isinstance(head, Head):
        raise InvalidType(f"spec: expected a ModelSpec or Head, got {type(spec).__name__}")
    described = _described(head)
    boxes, scores, ids = core.decode(
        _in_order(outputs, head),
        described,
        conf=threshold,
        multi_label=checks.switch("multi_label", multi_label),
        classes=_class_flags(classes, head.num_classes),
        max_candidates=checks.whole("max_candidates", max_candidates),
        image=checks.whole("image", image, lowest=0),
        **where,
    )
    return boxes, scores, ids


def _described(head: Head) -> _core.HeadSpec:
    """The head as the core takes it. A `Head` that did not come from a file may hold anything."""
    if not checks.is_integer(head.num_classes):
        raise InvalidType(f"spec: num_classes must be an integer, got {checks.shown(head.num_classes)}")
    if head.num_classes > _MOST_CLASSES:  # there is one flag for each; the core refuses too few
        raise InvalidArgument(
            f"spec: num_classes must be at most {_MOST_CLASSES}, got {checks.shown(head.num_classes)}"
        )
    try:
        return _core.HeadSpec(
            layout=head.layout,
            num_classes=head.num_classes,
            outputs=list(head.outputs),
            box_format=head.box_format,
            has_objectness=head.has_objectness,
            scores_are_logits=head.scores_are_logits,
            scores_class_major=head.scores_class_major,
            strides=list(head.strides),
            anchors=list(head.anchors),
            reg_max=head.reg_max,
        )
    except SwiftdetError:  # some of which are TypeErrors too
        raise
    except TypeError as e:
        raise InvalidType(f"spec: a field of Head has another type than its documentation says: {head!r:.400}") from e


def _as_array(name: str, values: object) -> npt.NDArray[Any]:
    try:
        return np.asarray(values)
    except ValueError as e:  # lists of different lengths
        raise InvalidType(f"{name}: expected an array, got {checks.shown(values)}: {e}") from e


def _as_int32(name: str, values: npt.ArrayLike) -> Int32Array:
    array = _as_array(name, values)
    if array.dtype == np.int32:
        return np.require(array, requirements=("C", "A"))
    if array.dtype.kind not in "iu":
        raise InvalidType(f"{name}: expected integers, got {array.dtype} {list(array.shape)}")
    info = np.iinfo(np.int32)
    if array.size and (array.min() < info.min or array.max() > info.max):
        raise InvalidArgument(f"{name}: expected values within int32, got {array.min()} to {array.max()}")
    return np.ascontiguousarray(array, dtype=np.int32)


def _class_flags(classes: Iterable[int] | None, num_classes: int) -> list[int]:
    """One flag per class; an empty list means all."""
    if classes is None:
        return []
    if isinstance(classes, (str, bytes)) or not isinstance(classes, Iterable):
        raise InvalidType(f"classes: expected class ids, e.g. [0, 2], got {checks.shown(classes)}")
    try:
        ids = list(classes)
    except TypeError as e:  # an array without dimensions
        raise InvalidType(f"classes: expected class ids, e.g. [0, 2], got {checks.shown(classes)}") from e
    flags = [0] * num_classes
    for cls in ids:
        index = checks.whole("classes", cls, lowest=0)
        if index >= num_classes:
            raise InvalidArgument(f"classes: expected ids from 0 to {num_classes - 1}, got {index}")
        flags[index] = 1
    return flags


def _in_order(outputs: Sequence[Any] | Mapping[str, Any], head: Head) -> list[npt.NDArray[Any]]:
    """The head's own outputs as arrays, in its order."""
    if isinstance(outputs, Mapping):
        missing = [name for name in head.outputs if name not in outputs]
        if missing:
            raise InvalidArgument(
                f"outputs: expected {', '.join(head.outputs)}; {', '.join(missing)} missing "
                f"among {', '.join(map(str, outputs))}"
            )
        return [_as_array(f"output {name}", outputs[name]) for name in head.outputs]
    if isinstance(outputs, np.ndarray) or not isinstance(outputs, Sequence):
        raise InvalidType(
            f"outputs: expected a sequence of arrays or a mapping by name, got {type(outputs).__name__}; "
            "wrap a single output in a list"
        )
    if len(outputs) != len(head.outputs):
        raise InvalidArgument(f"outputs: expected {len(head.outputs)} ({', '.join(head.outputs)}), got {len(outputs)}")
    return [_as_array(f"output {name}", output) for name, output in zip(head.outputs, outputs, strict=True)]
