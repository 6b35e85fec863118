"""What was measured, as documents that can be repeated, compared and checked: docs/measurements.md has their fields."""

from __future__ import annotations

from swiftdet.measurements.document import FORMATS, Document, content_sha256, read, seal, write
from swiftdet.measurements.provenance import collect

__all__ = ["FORMATS", "Document", "collect", "content_sha256", "read", "seal", "write"]
