"""Replay: earlier data in every batch, so that the model does not forget. This stage fixes a run's data order.

The reads module derives from a mixture which documents it trains, when and how often; none of that is stored.
"""

from typing import TYPE_CHECKING

from rewarm.stages.core.lazy import import_lazily

if TYPE_CHECKING:
    from rewarm.stages.replay.lineage import Carried, locate, sequences_of, tokens_of
    from rewarm.stages.replay.reads import (
        Found,
        Reads,
        Wanted,
        document_reads,
        find_reads,
        sequences_of_steps,
        source_reads,
        step_reads,
    )
    from rewarm.stages.replay.run import MIXTURE, Arrival, Budget, Draw, ReplayOutcome, check, run, token_sets
    from rewarm.stages.replay.settings import ReplaySettings
    from rewarm.stages.replay.shares import Domains, Earlier, read_domains
else:
    import_lazily(__name__)

__all__ = [
    "MIXTURE",
    "Arrival",
    "Budget",
    "Carried",
    "Domains",
    "Draw",
    "Earlier",
    "Found",
    "Reads",
    "ReplayOutcome",
    "ReplaySettings",
    "Wanted",
    "check",
    "document_reads",
    "find_reads",
    "locate",
    "read_domains",
    "run",
    "sequences_of",
    "sequences_of_steps",
    "source_reads",
    "step_reads",
    "token_sets",
    "tokens_of",
]
