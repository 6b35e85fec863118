"""YOLOv7: the variants as lists of blocks, and the numbered layers that the blocks expand to.

A checkpoint names its parameters after the number of the layer in the official configuration (`model.<i>.conv.weight`),
so blocks must expand to the official layers in the official order. Facts restated from the project's configurations
(github.com/WongKinYiu/yolov7 at a207844, cfg/deploy and cfg/training).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from swiftdet.recognition.anchor_maps import ANCHORS_P6, ANCHORS_TINY, ANCHORS_YOLOV7, Anchors
from swiftdet.zoo.network import Activation, Network, Tensor

if TYPE_CHECKING:
    from swiftdet.zoo.parameters import State

ANCHORS_PER_CELL = 3

# --- Blocks -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Conv:
    """Convolution, batch norm, activation."""

    out: int
    size: int = 3
    stride: int = 1


@dataclass(frozen=True)
class ReOrg:
    """2x2 pixels to channels, on the image."""


@dataclass(frozen=True)
class Pool:
    """Max-pool 2x2."""


@dataclass(frozen=True, kw_only=True)
class Elan:
    """Two 1x1 branches p, q; a chain of 3x3 on q; concat of the chain (last first), q, p; 1x1.

    Attributes:
        hidden: channels of p and q.
        chain: number of 3x3 convolutions.
        out: channels of the last 1x1.
        width: channels of the chain; None: `hidden`.
        every: 2 joins every second convolution of the chain only, counted from its end.
        twin: two such blocks on one input, summed.
        label: by which later blocks find the result.
    """

    hidden: int
    chain: int
    out: int
    width: int | None = None
    every: int = 2
    twin: bool = False
    label: str = ""


@dataclass(frozen=True)
class Transition:
    """Halves the size: concat of (1x1, 3x3 stride 2) and (pool, 1x1), each `out` wide, and of the map `joined`."""

    out: int
    joined: str = ""


@dataclass(frozen=True)
class DownC:
    """Halves the size: concat of (1x1, 3x3 stride 2) and (pool, 1x1), each `out / 2` wide, under one layer's number."""

    out: int


@dataclass(frozen=True)
class Join:
    """Concat with the map `label`."""

    label: str


@dataclass(frozen=True)
class SpatialPyramid:
    """SPPCSPC: pools of 5, 9, 13 between convolutions, a 1x1 beside them, under one layer's number."""

    out: int
    label: str


@dataclass(frozen=True)
class TinySpatialPyramid:
    """The same idea spelled out in layers of its own."""

    out: int
    label: str


@dataclass(frozen=True)
class Lateral:
    """Up the pyramid: concat of a 1x1 on the finer map `finer` and the upsampled 1x1, each `out` wide."""

    out: int
    finer: str


Block: TypeAlias = (
    Conv | ReOrg | Pool | Elan | Transition | DownC | Join | SpatialPyramid | TinySpatialPyramid | Lateral
)


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """One variant.

    Attributes:
        blocks: backbone and neck.
        head: (source, channels) of the 3x3 convolution before each level's 1x1, finest first.
        anchors: (width, height) px, three per level.
        rep_head: the convolutions of `head` are RepConvs.
        has_auxiliary_head: the training form has as many layers more before the head as there are levels.
    """

    blocks: tuple[Block, ...]
    head: tuple[tuple[str, int], ...]
    anchors: Anchors
    activation: Activation = "silu"
    rep_head: bool = False
    has_auxiliary_head: bool = False

    @property
    def strides(self) -> tuple[int, ...]:
        """Of the levels, px per cell."""
        return tuple(8 << level for level in range(len(self.head)))


# --- Variants ---------------------------------------------------------------------------------------------------------


def _tiny(activation: Activation) -> Architecture:
    return Architecture(
        blocks=(
            Conv(32, stride=2),
            Conv(64, stride=2),
            Elan(hidden=32, chain=2, out=64, every=1),
            Pool(),
            Elan(hidden=64, chain=2, out=128, every=1, label="c3"),
            Pool(),
            Elan(hidden=128, chain=2, out=256, every=1, label="c4"),
            Pool(),
            Elan(hidden=256, chain=2, out=512, every=1),
            TinySpatialPyramid(256, label="n5"),
            Lateral(128, finer="c4"),
            Elan(hidden=64, chain=2, out=128, every=1, label="n4"),
            Lateral(64, finer="c3"),
            Elan(hidden=32, chain=2, out=64, every=1, label="p3"),
            Conv(128, stride=2),
            Join("n4"),
            Elan(hidden=64, chain=2, out=128, every=1, label="p4"),
            Conv(256, stride=2),
            Join("n5"),
            Elan(hidden=128, chain=2, out=256, every=1, label="p5"),
        ),
        head=(("p3", 128), ("p4", 256), ("p5", 512)),
        anchors=ANCHORS_TINY,
        activation=activation,
    )


_BASE = Architecture(
    blocks=(
        Conv(32),
        Conv(64, stride=2),
        Conv(64),
        Conv(128, stride=2),
        Elan(hidden=64, chain=4, out=256),
        Transition(128),
        Elan(hidden=128, chain=4, out=512, label="c3"),
        Transition(256),
        Elan(hidden=256, chain=4, out=1024, label="c4"),
        Transition(512),
        Elan(hidden=256, chain=4, out=1024),
        SpatialPyramid(512, label="n5"),
        Lateral(256, finer="c4"),
        Elan(hidden=256, chain=4, width=128, every=1, out=256, label="n4"),
        Lateral(128, finer="c3"),
        Elan(hidden=128, chain=4, width=64, every=1, out=128, label="p3"),
        Transition(128, joined="n4"),
        Elan(hidden=256, chain=4, width=128, every=1, out=256, label="p4"),
        Transition(256, joined="n5"),
        Elan(hidden=512, chain=4, width=256, every=1, out=512, label="p5"),
    ),
    head=(("p3", 256), ("p4", 512), ("p5", 1024)),
    anchors=ANCHORS_YOLOV7,
    rep_head=True,
)

_X = Architecture(
    blocks=(
        Conv(40),
        Conv(80, stride=2),
        Conv(80),
        Conv(160, stride=2),
        Elan(hidden=64, chain=6, out=320),
        Transition(160),
        Elan(hidden=128, chain=6, out=640, label="c3"),
        Transition(320),
        Elan(hidden=256, chain=6, out=1280, label="c4"),
        Transition(640),
        Elan(hidden=256, chain=6, out=1280),
        SpatialPyramid(640, label="n5"),
        Lateral(320, finer="c4"),
        Elan(hidden=256, chain=6, out=320, label="n4"),
        Lateral(160, finer="c3"),
        Elan(hidden=128, chain=6, out=160, label="p3"),
        Transition(160, joined="n4"),
        Elan(hidden=256, chain=6, out=320, label="p4"),
        Transition(320, joined="n5"),
        Elan(hidden=512, chain=6, out=640, label="p5"),
    ),
    head=(("p3", 320), ("p4", 640), ("p5", 1280)),
    anchors=ANCHORS_YOLOV7,
)


def _p6(width: int, *, chain: int, down: type[Conv | DownC] = DownC, twin: bool = False) -> Architecture:
    """The four-level variants: one plan, `width` channels at stride 4 and 2, 4, 6, 8 times that below it."""

    def half(out: int) -> Block:
        return Conv(out, stride=2) if down is Conv else DownC(out)

    def backbone(hidden: int, out: int, label: str = "") -> Elan:
        return Elan(hidden=hidden, chain=chain, out=out, twin=twin, label=label)

    def neck(hidden: int, out: int, label: str) -> Elan:
        return Elan(hidden=hidden, chain=chain, width=hidden // 2, every=1, out=out, twin=twin, label=label)

    return Architecture(
        blocks=(
            ReOrg(),
            Conv(width // 2),
            half(width),
            backbone(64, width),
            half(2 * width),
            backbone(128, 2 * width, "c3"),
            half(4 * width),
            backbone(256, 4 * width, "c4"),
            half(6 * width),
            backbone(384, 6 * width, "c5"),
            half(8 * width),
            backbone(512, 8 * width),
            SpatialPyramid(4 * width, label="n6"),
            Lateral(3 * width, finer="c5"),
            neck(384, 3 * width, "n5"),
            Lateral(2 * width, finer="c4"),
            neck(256, 2 * width, "n4"),
            Lateral(width, finer="c3"),
            neck(128, width, "p3"),
            half(2 * width),
            Join("n4"),
            neck(256, 2 * width, "p4"),
            half(3 * width),
            Join("n5"),
            neck(384, 3 * width, "p5"),
            half(4 * width),
            Join("n6"),
            neck(512, 4 * width, "p6"),
        ),
        head=(("p3", 2 * width), ("p4", 4 * width), ("p5", 6 * width), ("p6", 8 * width)),
        anchors=ANCHORS_P6,
        has_auxiliary_head=True,
    )


_DEMO = Architecture(  # the base variant's blocks at about an eighth of their width, behind the stem of the tiny one
    blocks=(
        Conv(16, stride=2),
        Conv(24, stride=2),
        Elan(hidden=12, chain=4, out=40),
        Transition(24),
        Elan(hidden=24, chain=4, out=72, label="c3"),
        Transition(40),
        Elan(hidden=40, chain=4, out=128, label="c4"),
        Transition(64),
        Elan(hidden=48, chain=4, out=144),
        SpatialPyramid(64, label="n5"),
        Lateral(48, finer="c4"),
        Elan(hidden=48, chain=4, width=24, every=1, out=64, label="n4"),
        Lateral(32, finer="c3"),
        Elan(hidden=32, chain=4, width=16, every=1, out=40, label="p3"),
        Transition(32, joined="n4"),
        Elan(hidden=48, chain=4, width=24, every=1, out=64, label="p4"),
        Transition(48, joined="n5"),
        Elan(hidden=64, chain=4, width=32, every=1, out=96, label="p5"),
    ),
    head=(("p3", 64), ("p4", 96), ("p5", 128)),
    anchors=((16, 16), (27, 22), (26, 36), (46, 36), (44, 56), (66, 64), (96, 72), (80, 104), (136, 130)),
    rep_head=True,
)


ARCHITECTURES: dict[str, Architecture] = {
    "yolov7-tiny": _tiny("leaky"),
    "yolov7-tiny-silu": _tiny("silu"),
    "yolov7": _BASE,
    "yolov7x": _X,
    "yolov7-w6": _p6(128, chain=4, down=Conv),
    "yolov7-e6": _p6(160, chain=6),
    "yolov7-d6": _p6(192, chain=8),
    "yolov7-e6e": _p6(160, chain=6, twin=True),
    "demo-yolov7": _DEMO,
}


# --- From blocks to layers --------------------------------------------------------------------------------------------


def is_training_form(keys: Collection[str]) -> bool:
    """Whether a checkpoint's keys are those of the training form: its head has implicit terms."""
    return any(key.endswith(".ia.0.implicit") for key in keys)


def is_fused(keys: Collection[str]) -> bool:
    """Whether the project's own `fuse()` ran before saving: no batch norm is left, and its implicit terms are dead."""
    return not any(key.endswith(".bn.weight") for key in keys)


def anchors_in(state: State, architecture: Architecture, head: int) -> Anchors | None:
    """The anchors that a checkpoint holds, in px; None where it holds none, or none of a plausible shape.

    `anchor_grid` is in px, `anchors` in cells of its level. Custom training chooses its own.
    """
    levels = len(architecture.head)
    if (stored := state.get(f"model.{head}.anchor_grid")) is not None:
        strides: Sequence[int] = (1,) * levels
    elif (stored := state.get(f"model.{head}.anchors")) is not None:
        strides = architecture.strides
    else:
        return None
    if stored.size == 0 or stored.size % (2 * levels):
        return None
    px = np.asarray(stored, dtype=np.float64).reshape(levels, -1, 2) * np.reshape(strides, (levels, 1, 1))
    if not (np.isfinite(px).all() and (px > 0).all()):
        return None
    return tuple((float(width), float(height)) for width, height in px.reshape(-1, 2))


def head_index(architecture: Architecture, *, training: bool) -> int:
    """Number of the official layer that is the head."""
    layers = _Layers(Network(), architecture.activation)
    _expand(architecture, layers)
    shift = len(architecture.head) if training and architecture.has_auxiliary_head else 0
    return layers.count + shift


def network(
    architecture: Architecture,
    *,
    num_classes: int,
    anchors_per_cell: int = ANCHORS_PER_CELL,
    training: bool = False,
    implicit_is_merged: bool = False,
) -> Network:
    """The layers of a variant, down to the raw maps `p3`, `p4`, ... [N, anchors_per_cell * (5 + num_classes), h, w].

    Args:
        architecture: the variant.
        num_classes: of the head.
        anchors_per_cell: of the head; 3 in every official variant.
        training: the head has implicit terms and, in the variants with an auxiliary head, a later number.
        implicit_is_merged: those terms are still there but already merged into the head's convolutions.
    """
    net = Network()
    implicit = training and not implicit_is_merged
    layers = _Layers(net, architecture.activation)
    features = _expand(architecture, layers)
    head = head_index(architecture, training=training)
    for level, feature in enumerate(features):
        output = net.conv(
            feature,
            f"model.{head}.m.{level}",
            anchors_per_cell * (5 + num_classes),
            1,
            norm=None,
            activation=None,
            name=f"p{level + 3}",
            added_before=f"model.{head}.ia.{level}.implicit" if implicit else None,
            scaled_after=f"model.{head}.im.{level}.implicit" if implicit else None,
        )
        net.outputs.append(output.name)
    auxiliary = (f"model.{i}." for i in range(layers.count, head))
    merged = (f"model.{head}.ia.", f"model.{head}.im.") if implicit_is_merged else ()
    net.ignored = (f"model.{head}.m2.", f"model.{head}.anchor", *auxiliary, *merged)
    return net


def _expand(architecture: Architecture, layers: _Layers) -> list[Tensor]:
    """Backbone, neck and the head's own convolutions; the features that each level's 1x1 reads."""
    x = Network.input
    labelled: dict[str, Tensor] = {}
    for block in architecture.blocks:
        x = layers.add(block, x, labelled)
        label = getattr(block, "label", "")
        if label and not isinstance(block, Join):
            labelled[label] = x
    if architecture.rep_head:
        return [layers.rep_conv(labelled[label], out) for label, out in architecture.head]
    return [layers.conv(labelled[label], out, 3) for label, out in architecture.head]


class _Layers:
    """Numbers layers as the official configuration does, and expands blocks into them."""

    def __init__(self, net: Network, activation: Activation) -> None:
        self.count = 0
        self._net = net
        self._activation = activation

    def add(self, block: Block, x: Tensor, labelled: dict[str, Tensor]) -> Tensor:
        if isinstance(block, Conv):
            return self.conv(x, block.out, block.size, block.stride)
        if isinstance(block, ReOrg):
            return self._net.space_to_depth(x, self._next())
        if isinstance(block, Pool):
            return self._net.max_pool(x, self._next(), 2, stride=2)
        if isinstance(block, Elan):
            first = self._elan(x, block)
            return self._net.add(self._elan(x, block), first, self._next()) if block.twin else first
        if isinstance(block, Transition):
            return self._transition(x, block, labelled)
        if isinstance(block, DownC):
            return self._down_c(x, block)
        if isinstance(block, Join):
            return self._concat([x, labelled[block.label]])
        if isinstance(block, SpatialPyramid):
            return self._spatial_pyramid(x, block)
        if isinstance(block, TinySpatialPyramid):
            return self._tiny_spatial_pyramid(x, block)
        return self._lateral(x, block, labelled)

    def conv(self, x: Tensor, out: int, size: int, stride: int = 1) -> Tensor:
        return self._conv_at(self._next(), x, out, size, stride)

    def rep_conv(self, x: Tensor, out: int) -> Tensor:
        return self._net.rep_conv(
            x,
            self._next(),
            out,
            dense=("rbr_dense.0", "rbr_dense.1"),
            pointwise=("rbr_1x1.0", "rbr_1x1.1"),
            activation=self._activation,
        )

    def _next(self) -> str:
        self.count += 1
        return f"model.{self.count - 1}"

    def _conv_at(self, key: str, x: Tensor, out: int, size: int, stride: int = 1) -> Tensor:
        return self._net.conv(x, f"{key}.conv", out, size, stride=stride, norm=f"{key}.bn", activation=self._activation)

    def _concat(self, sources: Sequence[Tensor]) -> Tensor:
        return self._net.concat(sources, self._next())

    def _elan(self, x: Tensor, block: Elan) -> Tensor:
        p = self.conv(x, block.hidden, 1)
        q = self.conv(x, block.hidden, 1)
        chain = [q]
        for _ in range(block.chain):
            chain.append(self.conv(chain[-1], block.width or block.hidden, 3))
        joined = chain[block.chain : 0 : -block.every]
        return self.conv(self._concat([*joined, q, p]), block.out, 1)

    def _transition(self, x: Tensor, block: Transition, labelled: dict[str, Tensor]) -> Tensor:
        pooled = self.conv(self._net.max_pool(x, self._next(), 2, stride=2), block.out, 1)
        strided = self.conv(self.conv(x, block.out, 1), block.out, 3, 2)
        return self._concat([strided, pooled, *([labelled[block.joined]] if block.joined else [])])

    def _down_c(self, x: Tensor, block: DownC) -> Tensor:
        key = self._next()
        strided = self._conv_at(f"{key}.cv1", x, x.channels, 1)
        strided = self._conv_at(f"{key}.cv2", strided, block.out // 2, 3, 2)
        pooled = self._net.max_pool(x, f"{key}.mp", 2, stride=2)
        pooled = self._conv_at(f"{key}.cv3", pooled, block.out // 2, 1)
        return self._net.concat([strided, pooled], key)

    def _spatial_pyramid(self, x: Tensor, block: SpatialPyramid) -> Tensor:
        key, width = self._next(), block.out
        deep = self._conv_at(f"{key}.cv1", x, width, 1)
        deep = self._conv_at(f"{key}.cv3", deep, width, 3)
        deep = self._conv_at(f"{key}.cv4", deep, width, 1)
        pools = [self._net.max_pool(deep, f"{key}.m.{i}", size, stride=1) for i, size in enumerate((5, 9, 13))]
        deep = self._conv_at(f"{key}.cv5", self._net.concat([deep, *pools], f"{key}.pools"), width, 1)
        deep = self._conv_at(f"{key}.cv6", deep, width, 3)
        shallow = self._conv_at(f"{key}.cv2", x, width, 1)
        return self._conv_at(f"{key}.cv7", self._net.concat([deep, shallow], key), width, 1)

    def _tiny_spatial_pyramid(self, x: Tensor, block: TinySpatialPyramid) -> Tensor:
        shallow = self.conv(x, block.out, 1)
        deep = self.conv(x, block.out, 1)
        pools = [self._net.max_pool(deep, self._next(), size, stride=1) for size in (5, 9, 13)]
        deep = self.conv(self._concat([*reversed(pools), deep]), block.out, 1)
        return self.conv(self._concat([deep, shallow]), block.out, 1)

    def _lateral(self, x: Tensor, block: Lateral, labelled: dict[str, Tensor]) -> Tensor:
        coarse = self._net.upsample(self.conv(x, block.out, 1), self._next())
        return self._concat([self.conv(labelled[block.finer], block.out, 1), coarse])
