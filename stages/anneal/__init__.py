"""Anneal: from the trunk, on a branch, the learning rate goes down to η_min, and a release comes out."""

from stages.anneal.average import snapshot_steps
from stages.anneal.mixture import BEST, Reading, best_sources, reading
from stages.anneal.run import AnnealOutcome, copy_model, run
from stages.anneal.schedule import anneal_from
from stages.anneal.settings import AnnealSettings

__all__ = [
    "BEST",
    "AnnealOutcome",
    "AnnealSettings",
    "Reading",
    "anneal_from",
    "best_sources",
    "copy_model",
    "reading",
    "run",
    "snapshot_steps",
]
