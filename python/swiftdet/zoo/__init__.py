"""The official detectors that swiftdet knows: their names, sizes and published accuracy."""

from __future__ import annotations

import difflib

from swiftdet.errors import InvalidArgument
from swiftdet.zoo.catalog import VARIANTS, PublishedAP, VariantInfo

__all__ = ["PublishedAP", "VariantInfo", "info", "names"]

_BY_NAME = {key: variant for variant in VARIANTS for key in (variant.name, *variant.aliases)}


def names() -> list[str]:
    """The official variants, family by family; aliases are left out."""
    return [variant.name for variant in VARIANTS]


def info(name: str) -> VariantInfo:
    """Size, cost and published accuracy of an official variant, by its name or alias.

    Raises:
        InvalidArgument: no such variant; the message names the nearest ones.
    """
    variant = _BY_NAME.get(name)
    if variant is None:
        near = difflib.get_close_matches(name.lower(), _BY_NAME, n=3) or names()
        raise InvalidArgument(f"unknown model {name!r}; did you mean {', '.join(near)}?")
    return variant
