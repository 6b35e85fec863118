"""What detector a model file holds, judged by its shapes, names, metadata and structure.

`recognise` answers with a `ModelSpec` or refuses with an explanation; it never guesses between two readings that
would give different boxes.
"""

from swiftdet.recognition.dispatch import recognise
from swiftdet.recognition.evidence import Evidence
from swiftdet.recognition.shapes import check_outputs

__all__ = ["Evidence", "check_outputs", "recognise"]
