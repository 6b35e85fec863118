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
        size: (height, width) px of the input; the one that it is fastest at, where it may differ.
        smallest: the least that the input may be; None: `size`.
        largest: the most; None: `size`.
        workspace_bytes: most scratch memory that a layer may use on the GPU; 0 is TensorRT's choice, all of it.
        timing_cache: file that keeps measured timings of layers between builds; None: none.
    """

    precision: Precision
    batches: Batches
    size: tuple[int, int]
    smallest: tuple[int, int] | None = None
    largest: tuple[int, int] | None = None
    workspace_bytes: int = 0
    timing_cache: Path | None = None

    def __post_init__(self) -> None:
        checks.choice("precision", self.precision, ("fp32", "fp16"))
        least, best, most = self.sizes()
        if any(not a <= b <= c for a, b, c in zip(least, best, most, strict=True)):
            told = ", ".join(f"{height}x{width}" for height, width in (least, best, most))
            raise InvalidArgument(f"imgsz: expected smallest <= best <= largest, in height and in width, got {told}")
        if self.workspace_bytes < 0:
            raise InvalidArgument(f"workspace: expected a size or 0, got {self.workspace_bytes}")

    def sizes(self) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
        """Smallest, best and largest (height, width)."""
        return self.smallest or self.size, self.size, self.largest or self.size

    def shapes(self) -> tuple[Shape4, Shape4, Shape4]:
        """Smallest, best and largest input, [N, 3, H, W]."""
        batches = (self.batches.least, self.batches.best, self.batches.most)
        least, best, most = ((n, 3, *size) for n, size in zip(batches, self.sizes(), strict=True))
        return least, best, most
