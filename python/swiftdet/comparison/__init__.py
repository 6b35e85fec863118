"""Results side by side: tables whose columns hold like things only, one page, and the proof of what it was made from.

    documents  ->  rows  ->  tables  ->  compare.md, compare.csv, index.html, report.lock.json

`rows` pairs what was measured through one pipeline, `columns` says what may share a column, `published_tables` brings
what others published, `tables` lays both out, `page`, `markdown` and `csv_file` write them, and `folder` keeps, locks
and checks the whole. `run` measures a list of models first.
"""

from __future__ import annotations

from swiftdet.comparison.folder import CheckReport, check, write

__all__ = ["CheckReport", "check", "write"]
