"""TensorRT engines: built from models, kept on disk, verified before they are loaded."""

from __future__ import annotations

from swiftdet.engines.tensorrt.cache import EngineCache, EngineKey, Entry
from swiftdet.engines.tensorrt.engines import Target, build, cached, options_for, target
from swiftdet.engines.tensorrt.options import Batches, BuildOptions
from swiftdet.engines.tensorrt.plan_files import Manifest, Plan, manifest_path, read_plan, write_plan
from swiftdet.engines.tensorrt.progress import BuildProgress

__all__ = [
    "Batches",
    "BuildOptions",
    "BuildProgress",
    "EngineCache",
    "EngineKey",
    "Entry",
    "Manifest",
    "Plan",
    "Target",
    "build",
    "cached",
    "manifest_path",
    "options_for",
    "read_plan",
    "target",
    "write_plan",
]
