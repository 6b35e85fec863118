"""Our deploy graph of a variant and the same network as the official exports have it, compiled alike."""

from __future__ import annotations

from typing import Any

import numpy as np

from swiftdet import engines, zoo

SIDES = {"swiftdet": True, "official graph": False}
NOISE = 1.03
"""How much longer ours may take, as measured."""
LARGE = 40e6
"""Parameters from which a variant takes seconds a run at its own size."""


def sessions_of(name: str, size: tuple[int, int]) -> dict[str, Any]:
    """A session of either graph with the same image in it; one thread each, and equal outputs."""
    image = np.random.default_rng(0).random((1, 3, *size), dtype=np.float32)
    image *= 1.0 if zoo.info(name).family == "yolov7" else 255.0
    backends = {
        side: engines.compile(
            zoo.build(name, imgsz=size, batch=1, deploy=deploy).SerializeToString(), engine="openvino", num_threads=1
        )
        for side, deploy in SIDES.items()
    }
    for ours, official in zip(*(backend.infer(image) for backend in backends.values()), strict=True):
        np.testing.assert_allclose(ours, official, rtol=0, atol=1e-4)
    sessions = {side: backend.create_session(image.shape) for side, backend in backends.items()}
    for session in sessions.values():
        session.input[...] = image
    return sessions
