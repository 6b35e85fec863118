"""DAMO-YOLO: the variants as structure lists, and the layers that they expand to.

Backbone (TinyNAS: residual, cross-stage or mobile blocks), neck (GiraffeNeckV2), head (ZeroHead). Facts restated from
the project (github.com/tinyvision/DAMO-YOLO at 319572e), whose module paths are the keys of a checkpoint.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from swiftdet.zoo.network import Activation, Network, Tensor

if TYPE_CHECKING:
    from swiftdet.zoo.parameters import State

STRIDES = (8, 16, 32)
CLASS_WEIGHT = "head.gfl_cls.0.weight"
"""Its first dimension is the number of classes."""

# --- Variants ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stage:
    """One row of a structure list.

    Attributes:
        out: channels of every block of the stage.
        bottleneck: channels inside a block; 0 in mobile blocks, which derive theirs.
        stride: of the first block; the others have 1.
        blocks: their number.
    """

    out: int
    bottleneck: int
    stride: int
    blocks: int


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """One variant.

    Attributes:
        backbone: the kind of block: "residual" (T, S), "cross-stage" (M, L), "mobile" (the nano ones).
        stem: channels after the stem.
        stages: of the backbone, after the stem.
        neck: channels of the neck's three outputs; None: those of its inputs.
        neck_blocks: blocks of each merging stage.
        hidden_ratio: width inside a merging block.
        activation: of backbone and neck, where a block does not fix its own.
        focus_stem: 2x2 pixels to channels and a 3x3; else a 3x3 of stride 2.
        reg_max: bins of a box's side, minus one.
        head_size: kernel of the head's convolutions.
        iou: threshold of the NMS that the authors evaluate with.
    """

    backbone: Literal["residual", "cross-stage", "mobile"]
    stem: int
    stages: tuple[Stage, ...]
    neck: tuple[int, int, int] | None = None
    neck_blocks: int
    hidden_ratio: float = 1.0
    activation: Activation
    focus_stem: bool = True
    reg_max: int = 16
    head_size: int = 3
    iou: float = 0.7


def _nano(
    stem: int,
    stages: Sequence[tuple[int, int, int]],
    *,
    neck: tuple[int, int, int] | None = None,
    focus_stem: bool = False,
    head_size: int = 1,
) -> Architecture:
    """`stages`: (channels, stride, blocks)."""
    return Architecture(
        backbone="mobile",
        stem=stem,
        stages=tuple(Stage(out, 0, stride, blocks) for out, stride, blocks in stages),
        neck=neck,
        neck_blocks=2,
        activation="silu",
        focus_stem=focus_stem,
        reg_max=7,
        head_size=head_size,
        iou=0.65,
    )


ARCHITECTURES: dict[str, Architecture] = {
    "damo-yolo-t": Architecture(
        backbone="residual",
        stem=24,
        stages=(
            Stage(64, 24, 2, 2),
            Stage(96, 64, 2, 2),
            Stage(192, 96, 2, 2),
            Stage(192, 152, 1, 2),
            Stage(384, 192, 2, 1),
        ),
        neck=(64, 128, 256),
        neck_blocks=3,
        activation="relu",
    ),
    "damo-yolo-s": Architecture(
        backbone="residual",
        stem=32,
        stages=(
            Stage(128, 24, 2, 1),
            Stage(128, 88, 2, 5),
            Stage(256, 128, 2, 3),
            Stage(256, 120, 1, 2),
            Stage(512, 144, 2, 1),
        ),
        neck_blocks=3,
        hidden_ratio=0.75,
        activation="relu",
    ),
    "damo-yolo-m": Architecture(
        backbone="cross-stage",
        stem=32,
        stages=(
            Stage(128, 64, 2, 2),
            Stage(128, 64, 2, 4),
            Stage(256, 256, 2, 4),
            Stage(256, 256, 1, 4),
            Stage(512, 256, 2, 3),
        ),
        neck_blocks=4,
        activation="silu",
    ),
    "damo-yolo-l": Architecture(
        backbone="cross-stage",
        stem=32,
        stages=(
            Stage(128, 96, 2, 3),
            Stage(128, 96, 2, 5),
            Stage(256, 384, 2, 5),
            Stage(256, 384, 1, 5),
            Stage(512, 384, 2, 4),
        ),
        neck_blocks=6,
        activation="silu",
    ),
    "damo-yolo-ns": _nano(16, [(24, 2, 1), (40, 2, 2), (64, 2, 2), (80, 1, 2), (160, 2, 2)]),
    "damo-yolo-nm": _nano(16, [(40, 2, 2), (64, 2, 2), (112, 2, 2), (128, 1, 2), (256, 2, 1)]),
    "damo-yolo-nl": _nano(24, [(48, 2, 1), (80, 2, 2), (160, 2, 2), (160, 1, 3), (320, 2, 2)]),
    "damo-yolo-n": _nano(
        16,
        [(40, 2, 2), (80, 2, 2), (112, 2, 2), (112, 1, 2), (160, 2, 1)],
        neck=(64, 128, 256),
        focus_stem=True,
        head_size=3,
    ),
    "demo-damo-yolo": Architecture(  # the plan of T at about a third of its width
        backbone="residual",
        stem=16,
        stages=(
            Stage(24, 16, 2, 1),
            Stage(48, 24, 2, 2),
            Stage(80, 40, 2, 2),
            Stage(80, 48, 1, 1),
            Stage(128, 64, 2, 1),
        ),
        neck=(40, 64, 96),
        neck_blocks=2,
        activation="relu",
    ),
}

# --- From structure lists to layers -----------------------------------------------------------------------------------


def network(architecture: Architecture, *, num_classes: int) -> Network:
    """The layers of a variant, down to the raw maps.

    These are `cls_p3` ... [N, num_classes, h, w] and `reg_p3` ... [N, 4 * (reg_max + 1), h, w], three levels each.
    """
    net = _Damo(architecture)
    c3, c4, c5 = net.backbone()
    net.head(net.neck(c3, c4, c5), num_classes)
    net.ignored = ("head.integral.project",)
    return net


def without_last_class(state: State) -> State:
    """The checkpoint with one class less at the end of its head."""
    return {key: array[:-1] if key.startswith("head.gfl_cls.") else array for key, array in state.items()}


class _Damo(Network):
    """A network with the project's blocks."""

    _EXPANSION_IN_BACKBONE = (3.5, 4.0, 4.5, 5.0, 5.5)
    _EXPANSION_IN_NECK = 3.0

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self._arch = architecture
        self._act: Activation = architecture.activation

    # -- backbone ------------------------------------------------------------------------------------------------------

    def backbone(self) -> tuple[Tensor, Tensor, Tensor]:
        """The features at strides 8, 16 and 32."""
        staged = "csp_stage" if self._arch.backbone == "cross-stage" else "block_list"
        features = [self._stem(f"backbone.{staged}.0.conv")]
        if self._arch.backbone == "cross-stage":
            for index, joined in enumerate(_joined_stages(self._arch.stages), start=1):
                features.append(self._cross_stage(features[-1], f"backbone.csp_stage.{index}", joined, last=index == 4))
            return features[2], features[3], features[4]
        for index, stage in enumerate(self._arch.stages, start=1):
            features.append(self._stage(features[-1], index, stage))
        return features[2], features[4], features[5]

    def _stem(self, key: str) -> Tensor:
        if self._arch.focus_stem:
            phases = self.space_to_depth(self.input, f"{key}.focus")
            return self._conv_bn_act(phases, key, self._arch.stem, 3)
        return self._conv_kx_bn(self.input, key, self._arch.stem, 3, stride=2, activation=self._act)

    def _stage(self, x: Tensor, index: int, stage: Stage) -> Tensor:
        """A stage of residual or mobile blocks; the last stage has a spatial pyramid behind its first block."""
        key = f"backbone.block_list.{index}.block_list"
        item = 0
        for block in range(stage.blocks):
            stride = stage.stride if block == 0 else 1
            if self._arch.backbone == "mobile":
                hidden = _divisible_by_8(math.ceil(stage.out * self._EXPANSION_IN_BACKBONE[index - 1]))
                convs = (f"{key}.{item}.conv.{i}" for i in (0, 1, 3, 4, 7, 8))
                x = self._mobile_block(x, f"{key}.{item}", convs, hidden=hidden, out=stage.out, stride=stride)
            else:
                x = self._residual_block(
                    x, f"{key}.{item}", stage.out, bottleneck=stage.bottleneck, first_size=1, stride=stride
                )
            item += 1
            if index == len(self._arch.stages) and block == 0:
                x = self._spatial_pyramid(x, f"{key}.{item}")
                item += 1
        return x

    def _cross_stage(self, x: Tensor, key: str, stage: _CrossStage, *, last: bool) -> Tensor:
        """Half of the channels through residual blocks, half past them. Its own convolutions are ReLU always."""
        out, half = stage.out, stage.out // 2
        x = self._conv_kx_bn(x, f"{key}.downsampler.conv", out, 3, stride=2, activation="relu")
        if last:
            x = self._spatial_pyramid(x, f"{key}.spp")
        past = self._conv_kx_bn(x, f"{key}.conv_shortcut.conv", half, 1, activation="relu")
        through = self._conv_kx_bn(x, f"{key}.conv_start.conv", half, 1, activation="relu")
        for j, bottleneck in enumerate(stage.bottlenecks):
            through = self._residual_block(through, f"{key}.convstem.{j}", half, bottleneck=bottleneck, first_size=3)
        joined = self.concat([through, past], f"{key}.joined")
        return self._conv_kx_bn(joined, f"{key}.conv_fuse.conv", out, 1, activation="relu")

    def _residual_block(
        self, x: Tensor, key: str, out: int, *, bottleneck: int, first_size: Literal[1, 3], stride: int = 1
    ) -> Tensor:
        """Blocks of stride 2 have no shortcut, and then the activation stands behind the RepConv alone."""
        y = self._conv_kx_bn(x, f"{key}.conv1", bottleneck, first_size, activation=self._act)
        if stride == 2:
            return self._rep_conv(y, f"{key}.conv2", out, stride=2, activation=self._act)
        y = self._rep_conv(y, f"{key}.conv2", out, activation=None)
        return self.add(y, x, key, activation=self._act)

    def _mobile_block(
        self, x: Tensor, key: str, convs: Iterable[str], *, hidden: int, out: int, stride: int = 1
    ) -> Tensor:
        """1x1 up, depthwise 5x5, linear 1x1 down; a shortcut where the shape stays."""
        up, up_bn, depthwise, depthwise_bn, down, down_bn = convs
        y = self.conv(x, up, hidden, 1, norm=up_bn, activation=self._act)
        y = self.conv(y, depthwise, hidden, 5, stride=stride, groups=hidden, norm=depthwise_bn, activation=self._act)
        y = self.conv(y, down, out, 1, norm=down_bn, activation=None)
        return self.add(x, y, key) if stride == 1 and x.channels == out else y

    def _spatial_pyramid(self, x: Tensor, key: str) -> Tensor:
        """SiLU in every variant: the project never passes the configured activation on to it."""
        y = self._conv_bn_act(x, f"{key}.conv1", x.channels // 2, 1, activation="silu")
        pools = [self.max_pool(y, f"{key}.pool{size}", size, stride=1) for size in (5, 9, 13)]
        return self._conv_bn_act(
            self.concat([y, *pools], f"{key}.pools"), f"{key}.conv2", x.channels, 1, activation="silu"
        )

    # -- neck ----------------------------------------------------------------------------------------------------------

    def neck(self, c3: Tensor, c4: Tensor, c5: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Fuses the features in both directions; names are the project's (x2 = c3, x1 = c4, x0 = c5)."""
        o3, o4, o5 = self._arch.neck or (c3.channels, c4.channels, c5.channels)
        x3 = self._merge("merge_3", [c5, self._down(c4, "bu_conv13")], c5.channels)
        x4 = self._merge("merge_4", [c4, self._down(c3, "bu_conv24"), self._up(x3, "x3")], c4.channels)
        x5 = self._merge("merge_5", [c3, self._up(x4, "x4")], o3)
        x7 = self._merge("merge_7", [x4, self._down(x5, "bu_conv57")], o4)
        x6 = self._merge("merge_6", [x3, self._down(x4, "bu_conv46"), self._down(x7, "bu_conv76")], o5)
        return x5, x7, x6

    def _up(self, x: Tensor, name: str) -> Tensor:
        return self.upsample(x, f"neck.upsample.{name}")

    def _down(self, x: Tensor, name: str) -> Tensor:
        key = f"neck.{name}"
        if self._arch.backbone != "mobile":
            return self._conv_bn_act(x, key, x.channels, 3, stride=2)
        y = self.conv(
            x,
            f"{key}.depthwise",
            x.channels,
            3,
            stride=2,
            groups=x.channels,
            norm=f"{key}.dwnorm",
            activation=self._act,
        )
        return self.conv(y, f"{key}.pointwise", x.channels, 1, norm=f"{key}.pwnorm", activation=self._act)

    def _merge(self, name: str, sources: Sequence[Tensor], out: int) -> Tensor:
        """CSPStage: concat of a 1x1 and of every block behind another 1x1, which itself is left out; then a 1x1."""
        key = f"neck.{name}"
        x = self.concat(sources, f"{key}.in")
        past = self._conv_bn_act(x, f"{key}.conv1", out // 2, 1)
        y = self._conv_bn_act(x, f"{key}.conv2", out - out // 2, 1)
        blocks = []
        for j in range(self._arch.neck_blocks):
            y = self._neck_block(y, f"{key}.convs.{j}")
            blocks.append(y)
        return self._conv_bn_act(self.concat([past, *blocks], f"{key}.blocks"), f"{key}.conv3", out, 1)

    def _neck_block(self, x: Tensor, key: str) -> Tensor:
        if self._arch.backbone == "mobile":
            hidden = _divisible_by_8(math.ceil(x.channels * self._EXPANSION_IN_NECK))
            convs = (f"{key}.conv.conv.{i}" for i in (0, 1, 3, 4, 6, 7))
            return self._mobile_block(x, key, convs, hidden=hidden, out=x.channels)
        hidden = int(x.channels * self._arch.hidden_ratio)
        y = self._rep_conv(x, f"{key}.conv2", hidden, activation=self._act)
        y = self._conv_bn_act(y, f"{key}.conv1", x.channels, 3)
        return self.add(x, y, key)

    # -- head ----------------------------------------------------------------------------------------------------------

    def head(self, features: Sequence[Tensor], num_classes: int) -> None:
        """ZeroHead: one convolution for the classes, one for the box distributions, on each feature."""
        size, bins = self._arch.head_size, self._arch.reg_max + 1
        for i, x in enumerate(features):
            self.conv(x, f"head.gfl_cls.{i}", num_classes, size, norm=None, activation=None, name=f"cls_p{i + 3}")
            self.conv(
                x,
                f"head.gfl_reg.{i}",
                4 * bins,
                size,
                norm=None,
                activation=None,
                name=f"reg_p{i + 3}",
                scaled_after=f"head.scales.{i}.scale",
                scale_is_scalar=True,
            )
        self.outputs = [f"{kind}_p{i + 3}" for kind in ("cls", "reg") for i in range(len(features))]

    # -- convolutions, by the project's three ways to name them --------------------------------------------------------

    def _conv_bn_act(
        self, x: Tensor, key: str, out: int, size: int, *, stride: int = 1, activation: Activation | None = None
    ) -> Tensor:
        return self.conv(
            x, f"{key}.conv", out, size, stride=stride, norm=f"{key}.bn", activation=activation or self._act
        )

    def _conv_kx_bn(
        self, x: Tensor, key: str, out: int, size: int, *, stride: int = 1, activation: Activation
    ) -> Tensor:
        return self.conv(x, f"{key}.conv1", out, size, stride=stride, norm=f"{key}.bn1", activation=activation)

    def _rep_conv(self, x: Tensor, key: str, out: int, *, stride: int = 1, activation: Activation | None) -> Tensor:
        return self.rep_conv(
            x,
            key,
            out,
            dense=("rbr_dense.conv", "rbr_dense.bn"),
            pointwise=("rbr_1x1.conv", "rbr_1x1.bn"),
            stride=stride,
            activation=activation,
        )


@dataclass(frozen=True)
class _CrossStage:
    """A cross-stage stage: its channels and the bottlenecks of its residual blocks."""

    out: int
    bottlenecks: tuple[int, ...]


def _joined_stages(stages: Sequence[Stage]) -> list[_CrossStage]:
    """A stage of stride 1 continues the one before it; the first block of a stage of stride 2 is the down-sampling."""
    joined: list[_CrossStage] = []
    for stage in stages:
        if stage.stride == 2:
            joined.append(_CrossStage(stage.out, (stage.bottleneck,) * (stage.blocks - 1)))
        else:
            joined[-1] = _CrossStage(stage.out, joined[-1].bottlenecks + (stage.bottleneck,) * stage.blocks)
    return joined


def _divisible_by_8(channels: int) -> int:
    """The nearest multiple of 8, at least 8, and not under 90 % of `channels`."""
    rounded = max(8, (channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded
