"""Distilled replay: where D0's data is gone, the model writes the text that later updates replay."""

from rewarm.stages.distill.run import NAME, VERSION, DistillOutcome, check_model, discard_drafts, run
from rewarm.stages.distill.settings import DistillSettings

__all__ = ["NAME", "VERSION", "DistillOutcome", "DistillSettings", "check_model", "discard_drafts", "run"]
