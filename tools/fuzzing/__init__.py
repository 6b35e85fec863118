"""Fuzzing of every door through which input comes: `python tools/fuzz.py` runs it, docs/reliability.md tells of it."""
