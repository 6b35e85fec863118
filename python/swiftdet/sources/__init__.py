"""What a detector looks at: files, folders, patterns, videos, streams, cameras, lists and generators of these.

`expansion` says what a source names, `videos` decodes moving ones, `pipeline` keeps reading, inference and the caller
busy at the same time. What was skipped is logged under `swiftdet.sources`; nothing is printed.
"""

from __future__ import annotations

import logging

from swiftdet.sources.expansion import VIDEO_SUFFIXES, Video, expand, without_password
from swiftdet.sources.pipeline import DetectionStream, SourceOptions, run

__all__ = ["VIDEO_SUFFIXES", "DetectionStream", "SourceOptions", "Video", "expand", "run", "without_password"]

logging.getLogger("swiftdet.sources").addHandler(logging.NullHandler())  # who wants to hear sets logging up
