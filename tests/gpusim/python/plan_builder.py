"""A package `tensorrt` whose builder makes plans for the stand-in library, put where Python finds packages.

install(folder) writes it; with `folder` in sys.path, swiftdet finds, asks and imports it as it would NVIDIA's.
"""

from __future__ import annotations

import importlib.machinery
from pathlib import Path

import plans
from fake_tensorrt import FakeTensorRT

VERSION = "10.14.1.48"  # of the release that the stand-in library says it is

_PACKAGE = "import sys\nimport plan_builder\nsys.modules[__name__] = plan_builder.TensorRT(__spec__)\n"
_METADATA = f"Metadata-Version: 2.1\nName: tensorrt\nVersion: {VERSION}\n"


class TensorRT(FakeTensorRT):
    """The fake module, but for what comes out of its builder."""

    def __init__(self, spec: importlib.machinery.ModuleSpec) -> None:
        super().__init__(VERSION)
        self.__spec__ = spec

    def _build(self, builder, network, config):
        if super()._build(builder, network, config) is None:
            return None
        image = network.get_input(0)
        profile = config.profiles[0].shapes[image.name] if config.profiles else (image.shape,) * 3
        return plans.plan_of(network.content, profile)


def install(folder: Path) -> None:
    """Writes the package and its metadata."""
    (folder / "tensorrt").mkdir(parents=True)
    (folder / "tensorrt/__init__.py").write_text(_PACKAGE)
    metadata = folder / f"tensorrt-{VERSION}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(_METADATA)
