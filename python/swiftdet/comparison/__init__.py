"""Results side by side: tables whose columns hold like things only, one page, and the proof of what it was made from.

    documents  ->  rows  ->  tables, panels, stages  ->  index.html, compare.md, compare.csv, report.lock.json

`rows` pairs what was measured through one pipeline, `columns` says what may share a column, `published_tables` brings
what others published, `page` and `csv_file` write what `tables`, `panels` and `stages` lay out, and `folder` keeps,
locks and checks the whole. `measuring` measures a list of models first, within the time that `schedule` shares out.
"""

from __future__ import annotations

from swiftdet.comparison.folder import CheckReport, check, write
from swiftdet.comparison.measuring import Options, Outcome, measure
from swiftdet.comparison.rows import read_sources

__all__ = ["CheckReport", "Options", "Outcome", "check", "measure", "read_sources", "write"]
