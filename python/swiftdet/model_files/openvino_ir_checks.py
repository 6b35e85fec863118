"""What the layers of an OpenVINO IR must be before OpenVINO sees them: on some that are damaged it crashes."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import Counter

from swiftdet.errors import ModelError
from swiftdet.model_files.names import printable

# Operations that OpenVINO 2026.4 does not count the inputs of before it reads them, and how many they have at least.
# All others were seen to end in an error of its own; a slow test tries each on the OpenVINO that is installed.
_UNCOUNTED = {"broadcast": 2, "maxpool": 1}  # OpenVINO takes names in any case
# They keep what one call leaves to the next, which no call of a detector may see. OpenVINO crashes without their names.
_STATEFUL = frozenset({"assign", "readvalue"})


def check_layers(root: ET.Element) -> None:
    """Checks the layers of a network, those in the bodies of its loops and branches too.

    Raises:
        ModelError: names the layer.
    """
    for network in root.iter():
        layers = network.findall("layers/layer")
        if not layers:
            continue
        # An input is there if an edge leads to it, whatever ports the layer lists.
        reached = {(edge.get("to-layer"), edge.get("to-port")) for edge in network.iterfind("edges/edge")}
        edges = Counter(layer for layer, _ in reached)
        for layer in layers:
            _check_layer(layer, given=min(len(layer.findall("input/port")), edges[layer.get("id")]))


def _check_layer(layer: ET.Element, *, given: int) -> None:
    kind = layer.get("type", "")
    name, shown = printable(layer.get("name", "")[:80]), printable(kind[:80])
    needed = _UNCOUNTED.get(kind.lower(), 0)
    if given < needed:
        raise ModelError(
            f"layer {name!r}: {shown} needs at least {needed} inputs, got {given};"
            " the file is damaged: export or download it again"
        )
    if kind.lower() in _STATEFUL:
        raise ModelError(
            f"layer {name!r}: {shown} keeps a state from one call to the next; expected a network whose answer depends"
            " on its image alone: export it without a state"
        )
