"""Network engines: which one runs a model, and what a model's inputs and outputs are."""

from swiftdet.engines.signature import Port, Signature

__all__ = ["Port", "Signature"]
