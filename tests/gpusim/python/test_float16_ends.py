"""Engines with float16 input or outputs, as other tools build them, against the same steps done one by one."""

from __future__ import annotations

import numpy as np
import pytest

import swiftdet
from conftest import picture
from swiftdet import engines, ops


def one_by_one(loaded, image, *, half_input, half_output, conf, iou=0.7):
    """Letterbox, network, decode, NMS and mapping back, each by its own function; the ends rounded to float16."""
    spec = loaded.spec
    tensor, meta = ops.letterbox(image, spec.imgsz)
    tensor = tensor.astype(np.float16).astype(np.float32) if half_input else tensor
    network = engines.compile(loaded.model, loaded.weights, input_shape=loaded.input_shape)
    outputs = network.infer(np.ascontiguousarray(tensor[None]))
    if half_output:
        outputs = [output.astype(np.float16).astype(np.float32) for output in outputs]
    named = {name: output for (name, _), output in zip(network.outputs, outputs, strict=True)}
    boxes, scores, classes = ops.decode([named[name] for name in spec.head.outputs], spec, conf)
    keep = ops.nms(boxes, scores, classes, iou, max_det=300)
    height, width = image.shape[:2]
    pads = np.array([meta.pad_left, meta.pad_top] * 2, np.float32)
    scales = np.array([meta.scale_x, meta.scale_y] * 2).astype(np.float32)
    limits = np.array([width, height] * 2, np.float32)
    return np.clip((boxes[keep] - pads) / scales, np.float32(0), limits), scores[keep], classes[keep]


@pytest.mark.parametrize(("half_input", "half_output"), [(False, True), (True, False), (True, True)])
@pytest.mark.parametrize("layout", ["ultralytics-columns", "yolov7-raw"])
def test_equal_to_the_steps(cuda, read_model, write_plan, layout, half_input, half_output):
    loaded = read_model(layout)
    types = {"input_type": "f16" if half_input else "f32", "output_type": "f16" if half_output else "f32"}
    found = 0
    with swiftdet.Detector(write_plan(loaded, **types), device="cuda", conf=0.05) as gpu:
        for seed, size in enumerate([(64, 96), (97, 41), (200, 300)]):
            image = picture(*size, seed)
            result = gpu(image)
            boxes, scores, classes = one_by_one(
                loaded, image, half_input=half_input, half_output=half_output, conf=0.05
            )
            np.testing.assert_array_equal(result.conf, scores)
            np.testing.assert_array_equal(result.cls, classes)
            np.testing.assert_array_equal(result.xyxy, boxes)
            found += len(result)
    assert found > 0
