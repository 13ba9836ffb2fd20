"""Anneal: from the trunk, on a branch, the learning rate goes down to η_min, and a release comes out."""

from stages.anneal.run import AnnealOutcome, AnnealSettings, copy_model, run

__all__ = ["AnnealOutcome", "AnnealSettings", "copy_model", "run"]
