"""Select: the documents of an arrival to train on, chosen at random or by quality."""

from rewarm.stages.select.run import SELECTED, Judge, ScoreOutcome, SelectOutcome, run, score
from rewarm.stages.select.settings import SelectSettings

__all__ = ["SELECTED", "Judge", "ScoreOutcome", "SelectOutcome", "SelectSettings", "run", "score"]
