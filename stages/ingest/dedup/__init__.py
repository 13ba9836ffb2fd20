"""Deduplication: exact, near and by URL, within an arrival and against all earlier datasets."""
