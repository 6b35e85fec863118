"""What an engine is built for: precision, batch sizes, the builder's means."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from swiftdet import checks
from swiftdet.errors import InvalidArgument

Precision = Literal["fp32", "fp16"]
Shape4 = tuple[int, int, int, int]


@dataclass(frozen=True)
class Batches:
    """Numbers of images per call that an engine takes: from `least` to `most`, fastest at `best`."""

    least: int = 1
    best: int = 1
    most: int = 1

    def __post_init__(self) -> None:
        for name in ("least", "best", "most"):
            checks.whole(f"batch ({name})", getattr(self, name))
        if not self.least <= self.best <= self.most:
            raise InvalidArgument(
                f"batch: expected least <= best <= most, got {self.least}, {self.best} and {self.most}"
            )


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """How an engine is built.

    Attributes:
        precision: of the graph, which the engine follows node by node. With "fp32" tensor cores do not round to TF32.
        batches: the optimisation profile.
        size: (height, width) px of the input.
        workspace_bytes: most scratch memory that a layer may use on the GPU; 0 is TensorRT's choice, all of it.
        timing_cache: file that keeps measured timings of layers between builds; None: none.
    """

    precision: Precision
    batches: Batches
    size: tuple[int, int]
    workspace_bytes: int = 0
    timing_cache: Path | None = None

    def __post_init__(self) -> None:
        checks.choice("precision", self.precision, ("fp32", "fp16"))
        if self.workspace_bytes < 0:
            raise InvalidArgument(f"workspace: expected a size or 0, got {self.workspace_bytes}")

    def shapes(self) -> tuple[Shape4, Shape4, Shape4]:
        """Smallest, best and largest input, [N, 3, H, W]."""
        batches, (height, width) = self.batches, self.size
        least, best, most = ((n, 3, height, width) for n in (batches.least, batches.best, batches.most))
        return least, best, most
