"""Anneal: a branch off the trunk on which the learning rate decays to η_min, giving a release."""

from typing import TYPE_CHECKING

from rewarm.stages.core.lazy import import_lazily

if TYPE_CHECKING:
    from rewarm.stages.anneal.branch_data import BEST, Reading, best_sources, reading
    from rewarm.stages.anneal.run import AnnealOutcome, anneal_from, copy_model, run, snapshot_steps
    from rewarm.stages.anneal.settings import AnnealSettings
else:
    import_lazily(__name__)

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
