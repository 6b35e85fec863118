"""Reads checkpoints (.pt, .pth, .safetensors) into arrays, without torch and without executing anything in them.

A pickled checkpoint is a program. Here it is read by a machine that can only build data (`unpickler`): names of classes
stay names, objects become inert records, and a call of anything outside a short list (`torch_names`) is an error that
names it. Sizes are checked against the file before memory is taken; only the one file is opened. Reading takes at most
the file's size and 64 MiB besides the arrays that are returned.

Forms: torch.save's ZIP archive (`torch_zip`, `zip_directory`) and its older form (`torch_legacy`), with a whole pickled
module as YOLOv7 ships it or with a state dict as DAMO-YOLO does (`state_dict`); safetensors (`safetensors_file`).

Functions are safe to call from several threads.

Example:
    >>> state = swiftdet.checkpoints.load("damoyolo_tinynasL25_S_477.pth")  # doctest: +SKIP
    >>> state["head.gfl_cls.0.weight"].shape  # doctest: +SKIP
    (80, 128, 3, 3)
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from swiftdet.checkpoints.checkpoint_file import CheckpointFile
from swiftdet.checkpoints.containers import Content
from swiftdet.checkpoints.model_facts import names_in_notes, read_facts
from swiftdet.checkpoints.safetensors_file import read_safetensors
from swiftdet.checkpoints.state_dict import find_state_dict
from swiftdet.checkpoints.tensors import read_arrays
from swiftdet.checkpoints.torch_legacy import read_torch_legacy
from swiftdet.checkpoints.torch_zip import read_torch_zip
from swiftdet.errors import ModelError

__all__ = ["Checkpoint", "load", "read"]

_HEAD_BYTES = 32


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The weights of a model and what the file says about them.

    Attributes:
        state: arrays by official key name, in the order of the file; row-major, each owning its memory. Dtypes are as
            stored (float16 stays float16), but bfloat16 is float32.
        names: class names, where the file has them; of a safetensors file, the JSON list in its note `names`.
        num_classes: number of classes that the file states, or of its names. Nothing is derived from shapes, and the
            file may contradict itself.
        config: YOLOv7's description of its layers (`model.yaml`), plain values.
        container: "torch zip", "torch legacy" or "safetensors".
        wrapper: the keys under which the weights lay, joined by ".": "ema", "model", "state_dict", ...; empty for a
            bare state dict or module.
        module_class: the class of a pickled module, such as "models.yolo.Model"; None for a state dict.
        metadata: notes of a safetensors file.
        path: as given.
        sha256: hex digest of the file.
    """

    state: dict[str, npt.NDArray[Any]]
    names: tuple[str, ...] | None
    num_classes: int | None
    config: dict[str, Any] | None
    container: str
    wrapper: str
    module_class: str | None
    metadata: Mapping[str, str]
    path: Path
    sha256: str


def load(path: str | os.PathLike[str]) -> dict[str, npt.NDArray[Any]]:
    """The weights in a checkpoint: arrays by official key name, as `read(path).state`.

    Args:
        path: a `.pt`, `.pth` or `.safetensors` file; recognised by its content.

    Raises:
        ModelError: missing, damaged, no checkpoint, or one that does what a checkpoint need not; nothing was executed.
    """
    return read(path).state


def read(path: str | os.PathLike[str]) -> Checkpoint:
    """The weights in a checkpoint, and what it says about them.

    Weights are taken from `ema` where it holds a model, else from `model`, else from `state_dict`, else from the file's
    own mapping. A `module.` before every name is removed.

    Args:
        path: a `.pt`, `.pth` or `.safetensors` file; recognised by its content.

    Raises:
        ModelError: missing, damaged, no checkpoint, or one that does what a checkpoint need not; nothing was executed.
    """
    path = Path(path)
    try:
        with CheckpointFile(path) as file:
            content = _read_content(file)
            found = find_state_dict(content.root)
            facts = read_facts(found)
            return Checkpoint(
                state=read_arrays(file, found.tensors),
                names=facts.names or names_in_notes(content.metadata),
                num_classes=facts.num_classes,
                config=facts.config,
                container=content.container,
                wrapper=found.wrapper,
                module_class=str(found.module.type) if found.module else None,
                metadata=content.metadata,
                path=path,
                sha256=file.sha256(),
            )
    except ModelError as e:
        raise ModelError(f"checkpoint {path}: {e}") from e
    except OSError as e:
        raise ModelError(f"checkpoint {path}: cannot be read ({e})") from e


def _read_content(file: CheckpointFile) -> Content:
    """The file by the form of its first bytes."""
    head = file.read(0, min(_HEAD_BYTES, file.size))
    if head.startswith(b"PK\x03\x04"):
        return read_torch_zip(file)
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= file.size:
        return read_safetensors(file)  # before pickles: the low byte of the header's length may be theirs
    if head.startswith(b"\x80"):
        return read_torch_legacy(file)
    raise ModelError(
        f"expected a checkpoint as torch.save or safetensors writes it, got {_guess(head)}; download it again, or give "
        "the file that training wrote"
    )


def _guess(head: bytes) -> str:
    if head.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS (run `git lfs pull`)"
    if head.lstrip()[:1] == b"<":
        return "a web page"
    return f"a file that begins with {head[:8]!r}"
