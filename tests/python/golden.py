"""Golden outputs of the official networks, and the rule that fills a checkpoint with the numbers behind them.

Each file in tests/data/golden records what the official code computed, in float32 on the CPU, from a checkpoint and an
image that are both made of pseudo-random numbers named after their key; no trained weights are involved.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parents[1] / "data" / "golden"
FILES = sorted(path.stem for path in FOLDER.glob("*.json"))
ANCHORS_PER_CELL = 3


def unit(name: str, n: int) -> np.ndarray:
    """SplitMix64 from the CRC-32 of a name: n doubles in [0, 1)."""
    with np.errstate(over="ignore"):
        z = np.uint64(zlib.crc32(name.encode())) + np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return (z >> np.uint64(11)).astype(np.float64) * 2.0**-53


@dataclass(frozen=True)
class Golden:
    """One file."""

    name: str
    content: dict[str, Any]

    @property
    def variant(self) -> str:
        return self.content["variant"].removesuffix("-training")

    @property
    def is_training_form(self) -> bool:
        return self.content["form"] == "training" and self.variant.startswith("yolov7")

    @property
    def outputs(self) -> dict[str, dict[str, Any]]:
        return self.content["outputs"]

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return tuple(self.content["input"]["shape"][2:])

    def fill(self, key: str, shape: tuple[int, ...]) -> np.ndarray:
        """float32 array of one checkpoint entry."""
        gain, beta, rep = (self.content["fill"][name] for name in ("gain", "beta", "rep"))
        leaf = key.rsplit(".", 1)[-1]
        bounds = {
            "running_mean": (-0.1, 0.1),
            "running_var": (0.6, 1.4),
            "implicit": (-0.2, 0.2) if ".ia." in key else (0.8, 1.2),
            "scale": (0.8, 1.2),
            "bias": (-beta, beta),
        }
        if leaf == "weight" and len(shape) == 4:
            bound = gain * np.sqrt(3.0 / np.prod(shape[1:]))
            low, high = -bound, bound
        elif leaf == "weight":
            factor = rep if ".rbr_" in key else 1.0
            low, high = 0.8 * factor, 1.2 * factor
        else:
            low, high = bounds[leaf]
        count = int(np.prod(shape, dtype=np.int64))
        return (low + (high - low) * unit(key, count)).reshape(shape).astype(np.float32)

    def image(self) -> np.ndarray:
        """float32 [1, 3, H, W], fed as it is."""
        height, width = self.size
        k = np.arange(1.0, 4.0)[:, None, None]
        y, x = np.arange(float(height))[None, :, None], np.arange(float(width))[None, None, :]
        wave = 0.5 + 0.25 * np.sin(0.05 * k * y + 0.3) * np.cos(0.07 * k * x)
        noise = unit("input", 3 * height * width).reshape(3, height, width) - 0.5
        return (wave + 0.5 * noise)[None].astype(np.float32)

    def worst(self, name: str, values: np.ndarray) -> float:
        """Largest deviation from the recorded samples of an output."""
        expected = self.outputs[name]
        assert list(values.shape) == expected["shape"]
        samples = expected["samples"]
        return float(np.abs(values.ravel()[samples["index"]] - np.array(samples["value"])).max())

    def projection(self, name: str, values: np.ndarray) -> tuple[float, float]:
        """One number that depends on every element and its position: computed, recorded."""
        flat = values.ravel().astype(np.float64)
        weights = 2.0 * unit(f"proj:{name}", flat.size) - 1.0
        return float(flat @ weights / np.sqrt(flat.size)), self.outputs[name]["proj"]


def load(name: str) -> Golden:
    return Golden(name, json.loads((FOLDER / f"{name}.json").read_text()))


def official_layout(name: str, raw: np.ndarray) -> np.ndarray:
    """A raw map of ours as the goldens have it: YOLOv7's as [1, 3, h, w, 85]."""
    if not name.startswith("p"):
        return raw
    batch, channels, height, width = raw.shape
    split = raw.reshape(batch, ANCHORS_PER_CELL, channels // ANCHORS_PER_CELL, height, width)
    return np.ascontiguousarray(split.transpose(0, 1, 3, 4, 2))


def official_name(output: str) -> str:
    """`p4` is `raw1`, `cls_p3` is `cls_logits0`, `reg_p5` is `reg2`."""
    kind, level = output[:-1].rstrip("_p"), int(output[-1]) - 3
    return {"": f"raw{level}", "cls": f"cls_logits{level}", "reg": f"reg{level}"}[kind]
