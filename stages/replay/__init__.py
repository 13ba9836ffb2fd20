"""Replay: earlier data in every batch, so that the model does not forget; from there on a run's data order is fixed.

The ledger reads off a mixture which documents it trains, when and how often: nothing of that is stored.
"""

from stages.replay.domains import Domains, read_domains
from stages.replay.ledger import Found, Reads, Wanted, document_reads, find_reads, source_reads
from stages.replay.lineage import Carried, locate, sequences_of, tokens_of
from stages.replay.run import MIXTURE, ReplayOutcome, check, run, token_sets
from stages.replay.settings import ReplaySettings
from stages.replay.weights import Earlier

__all__ = [
    "MIXTURE",
    "Carried",
    "Domains",
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
    "source_reads",
    "token_sets",
    "tokens_of",
]
