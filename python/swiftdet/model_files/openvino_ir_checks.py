"""What the layers of an OpenVINO IR must be before OpenVINO sees them: on some that are damaged it crashes."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from swiftdet.errors import ModelError
from swiftdet.model_files.names import printable

# Operations that OpenVINO 2026.4 does not count the inputs of before it reads them, and how many they have at least.
# All others end in an error of its own, which a slow test tries on the OpenVINO that is installed.
_UNCOUNTED = {"Broadcast": 2, "MaxPool": 1}
# They keep what one call leaves to the next, which no call of a detector may see. OpenVINO crashes without their names.
_STATEFUL = frozenset({"Assign", "ReadValue"})


def check_layers(root: ET.Element) -> None:
    """Checks the layers of a network, those in the bodies of its loops and branches too.

    Raises:
        ModelError: names the layer.
    """
    for layer in root.iter("layer"):
        kind = layer.get("type", "")
        given = len(layer.findall("input/port"))
        name = printable(layer.get("name", "")[:80])
        if given < _UNCOUNTED.get(kind, 0):
            raise ModelError(
                f"layer {name!r}: {kind} needs at least {_UNCOUNTED[kind]} inputs, got {given};"
                " the file is damaged: export or download it again"
            )
        if kind in _STATEFUL:
            raise ModelError(
                f"layer {name!r}: {kind} keeps a state from one call to the next; expected a network whose answer"
                " depends on its image alone: export it without a state"
            )
