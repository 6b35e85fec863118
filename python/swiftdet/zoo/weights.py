"""Which variant a user means, and the weights for it: a checkpoint, our own for a demo, or made-up ones on request."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swiftdet import checks, demo, zoo
from swiftdet.errors import InvalidArgument, ModelError
from swiftdet.zoo import building
from swiftdet.zoo.catalog import DEMOS, VARIANTS, VariantInfo

if TYPE_CHECKING:
    import onnx

    from swiftdet.zoo.parameters import State

SYNTHETIC = "synthetic"
CHECKPOINT_SUFFIXES = frozenset({".pt", ".pth", ".safetensors"})

_NAMES = {name for variant in (*VARIANTS, *DEMOS) for name in (variant.name, *variant.aliases)}
_TINY = ("yolov7-tiny", "yolov7-tiny-silu")
_RELEASES = {
    "yolov7": "the release v0.1 of github.com/WongKinYiu/yolov7 has {name}.pt",
    "damo-yolo": "the README of github.com/tinyvision/DAMO-YOLO links its .pth",
}


@dataclass(frozen=True)
class Weights:
    """A variant and what fills it.

    Attributes:
        variant: of the zoo.
        state: arrays by official key; None for made-up ones.
        names: of the classes, where the checkpoint has them.
        path: of the checkpoint; None for made-up weights.
        sha256: of the checkpoint, in hexadecimal; empty for made-up weights.
    """

    variant: VariantInfo
    state: State | None
    names: tuple[str, ...] | None = None
    path: Path | None = None
    sha256: str = ""

    def build(self, **options: Any) -> onnx.ModelProto:
        """`zoo.build` with these weights and class names.

        Raises:
            ModelError: the checkpoint is not one of the variant, or contradicts itself.
            InvalidArgument: an option outside its range.
        """
        try:
            return zoo.build(self.variant.name, self.state, names=self.names, **options)
        except ModelError as e:
            raise ModelError(f"checkpoint {self.path}: {e}" if self.path else str(e)) from e
        except InvalidArgument as e:
            if self.state is None or self.names is None:
                raise
            if len(self.names) == (classes := building.class_count(self.variant.name, self.state)):
                raise
            raise ModelError(
                f"checkpoint {self.path}: it names {len(self.names)} classes, but its head has {classes}; pass its "
                "arrays and the right names to zoo.build"
            ) from e


def is_zoo_model(model: str | os.PathLike[str]) -> bool:
    """Whether `model` is the name of a variant, or a checkpoint: something that `build` makes a network for.

    A file of that name goes before a name of the zoo, and so does a folder with a model in it, but not one that merely
    has the name, such as of results.
    """
    path = Path(model)
    if path.suffix.lower() in CHECKPOINT_SUFFIXES:
        return True
    return os.fspath(model) in _NAMES and not path.is_file() and not any(path.glob("*.xml"))


def find(model: str | os.PathLike[str], weights: str | os.PathLike[str] | None = None) -> Weights:
    """The variant that `model` names, or that the checkpoint `model` is of, with its weights.

    Args:
        model: the name of a variant; or a checkpoint, whose keys then tell the variant.
        weights: a checkpoint, or "synthetic"; only with a name. None: a demo brings its own.

    Raises:
        ModelError: a name without weights, an unreadable checkpoint, or one that is of no known variant.
        InvalidArgument: weights beside a checkpoint.
        InvalidType: weights that are no path.
    """
    if weights is not None:
        weights = checks.path("weights", weights)
    if Path(model).suffix.lower() in CHECKPOINT_SUFFIXES:
        if weights is not None:
            raise InvalidArgument(f"weights: {os.fspath(model)!r} holds weights already; name a variant instead of it")
        return _of_checkpoint(Path(model), None)
    variant = zoo.info(os.fspath(model))
    if weights is None and variant in DEMOS:
        return _of_checkpoint(demo.weights(variant.name), variant)
    if weights is None:
        release = _RELEASES[variant.family].format(name=variant.name)
        raise ModelError(
            f"model {variant.name!r} is a name without weights, and swiftdet downloads none: {release}; pass it as "
            f"weights=FILE (--weights FILE). weights='{SYNTHETIC}' is enough to measure latency"
        )
    if weights == SYNTHETIC and not Path(weights).exists():
        return Weights(variant, None)
    return _of_checkpoint(Path(weights), variant)


def _of_checkpoint(path: Path, variant: VariantInfo | None) -> Weights:
    from swiftdet import checkpoints  # noqa: PLC0415 - not needed for a name alone

    checkpoint = checkpoints.read(path)
    if variant is None:
        variant = _recognised(path, checkpoint.state, checkpoint.config)
    elif variant.name in _TINY and _tiny_by_config(checkpoint.config) not in {None, variant.name}:
        raise ModelError(
            f"checkpoint {path}: asked for as {variant.name}, but its own description is that of "
            f"{_tiny_by_config(checkpoint.config)}, which has another activation"
        )
    return Weights(variant, checkpoint.state, checkpoint.names, path, checkpoint.sha256)


def _recognised(path: Path, state: State, config: dict[str, Any] | None) -> VariantInfo:
    """The variant whose keys and shapes a checkpoint has; the two tiny ones are told apart by its description."""
    fitting = zoo.identify(state)
    if not fitting:
        name, differences = zoo.nearest(state)
        raise ModelError(
            f"checkpoint {path}: the weights of no variant that swiftdet knows; the nearest is {name}, with "
            f"{differences}. Name the variant if this should be one, or export the network as ONNX"
        )
    by_config = _tiny_by_config(config)
    return zoo.info(by_config if by_config in fitting else fitting[0])


def _tiny_by_config(config: dict[str, Any] | None) -> str | None:
    """Which tiny variant YOLOv7's description of the layers is of, if it is of one: their keys are the same."""
    if config is None or "backbone" not in config:
        return None
    return _TINY[0] if "LeakyReLU" in json.dumps(config) else _TINY[1]
