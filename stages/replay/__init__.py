"""Replay: earlier data in every batch, so that the model does not forget; from there on a run's data order is fixed."""

from stages.replay.run import MIXTURE, Earlier, ReplayOutcome, account, run
from stages.replay.settings import ReplaySettings

__all__ = ["MIXTURE", "Earlier", "ReplayOutcome", "ReplaySettings", "account", "run"]
