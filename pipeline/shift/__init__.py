"""The shift between an arrival and the lineage: its measures, their judgement, and the settings chosen by it."""
