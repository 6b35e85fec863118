"""Peers that several benchmarks set up, so that each of them meets the same one.

Imported by sides whose memory is told: the peers' packages are imported where they are used.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

OPENVINO_HINTS = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
"""What swiftdet asks of OpenVINO unless told otherwise."""


def save_for_ultralytics(model: Path, folder: Path) -> Path:
    """Writes the YOLOv8s of the fixture `real_model` as the folder that ultralytics' OpenVINO backend reads."""
    import openvino

    exported = folder / "yolov8s_openvino_model"
    exported.mkdir()
    openvino.save_model(openvino.Core().read_model(model), exported / "yolov8s.xml", compress_to_fp16=False)
    (exported / "metadata.yaml").write_text(
        "stride: 32\ntask: detect\nbatch: 1\nimgsz: [640, 640]\nnames: {0: Normal, 1: Fall}\nargs: {}\n"
    )
    return exported


def ultralytics_on_openvino(ultralytics, exported: Path, frame, wrapped=lambda compiled: compiled):
    """An `ultralytics.YOLO` of that folder, warm, whose network is compiled with our hints.

    Its own leave the precision to the plugin. `wrapped` may put something around the compiled network.
    """
    import openvino

    model = ultralytics.YOLO(exported, task="detect")
    model.predict(frame, imgsz=640, verbose=False)  # loads the model, which the next lines replace
    compiled = openvino.Core().compile_model(exported / "yolov8s.xml", "CPU", OPENVINO_HINTS)
    model.predictor.model.backend.ov_compiled_model = wrapped(compiled)
    return model


def check_same_detections(ours, theirs):
    """Both results of one image hold the same boxes: the network is the same, and so is the work around it."""
    assert len(ours) == len(theirs) > 0
    np.testing.assert_allclose(ours.boxes.conf.cpu().numpy(), theirs.boxes.conf.cpu().numpy(), atol=1e-3)
    np.testing.assert_array_equal(ours.boxes.cls.cpu().numpy(), theirs.boxes.cls.cpu().numpy())
    np.testing.assert_allclose(ours.boxes.xyxy.cpu().numpy(), theirs.boxes.xyxy.cpu().numpy(), atol=0.5)
