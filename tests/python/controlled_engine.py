"""An engine in Python that tests hold, let go and make fail, and detectors around it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import make_models
import numpy as np
import onnx

import swiftdet

SIZE = (64, 96)
WAIT = 60  # seconds, a guard against hanging


class ControlledEngine:
    """Outputs depend on the image alone, so results can be told apart; runs and their images are recorded.

    Attributes:
        seen: what each run saw: the value of the image, for images of one value.
        fails: called with that value, in the run; what it raises fails the run.
    """

    def __init__(self, model: Path) -> None:
        from swiftdet import engines

        signature = engines.inspect(model.read_bytes(), input_shape=(1, 3, *SIZE))
        self.inputs = [(port.name, port.shape) for port in signature.inputs]
        self.outputs = [(port.name, port.shape) for port in signature.outputs]
        rng = np.random.default_rng(5)
        self._base = [rng.uniform(0.0, 1.0, shape).astype(np.float32) for _, shape in self.outputs]
        self.seen: list[int] = []
        self.fails: Callable[[int], None] | None = None
        self._open = threading.Event()
        self._open.set()
        self._begun = threading.Semaphore(0)

    def run(self, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        value = round(float(next(iter(inputs.values())).mean()) * 255)
        self.seen.append(value)
        self._begun.release()
        assert self._open.wait(WAIT), "held for too long"
        if self.fails is not None:
            self.fails(value)
        return [base * np.float32(1.0 - value / 512) for base in self._base]

    def hold(self) -> None:
        """From now on runs begin and do not end."""
        self._open.clear()
        while self._begun.acquire(blocking=False):
            pass

    def let_go(self) -> None:
        """Ends the runs that are held, and holds no more."""
        self._open.set()

    def wait_for_a_run(self) -> None:
        """Returns when a run has begun that no such call was told of."""
        assert self._begun.acquire(timeout=WAIT), "no run began"


def write_model(folder: Path) -> Path:
    """The tiny network whose place the engine takes."""
    path = folder / "tiny.onnx"
    onnx.save(make_models.build("ultralytics-columns", size=SIZE, classes=3, seed=3), path)
    return path


def make_detector(model: Path, **options: object) -> tuple[swiftdet.Detector, ControlledEngine]:
    """A detector on a controlled engine."""
    engine = ControlledEngine(model)
    return swiftdet.Detector(model, engine=engine, conf=0.5, **options), engine


def picture(value: int) -> np.ndarray:
    """An image of the network's own size, all of one value, so that the engine sees the value."""
    return np.full((*SIZE, 3), value, np.uint8)


def until(condition):
    """Waits for something that another thread does."""
    end = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.001)
