"""Outcome of ingest, as a step commits it and an update's record keeps it."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class IngestOutcome:
    """Outcome of an arrival; the full account is in ``account.json``."""

    documents: int  # for training
    num_bytes: int  # of their text in UTF-8
    validation_documents: int
    validation_bytes: int
    quarantined: int
    reasons: dict[str, int]  # quarantined records by reason
    duplicates: int  # documents dropped as exact or near-duplicates of an earlier document of this arrival
    duplicates_earlier: int  # documents dropped as exact or near-duplicates of a document of an earlier dataset
    digest: str  # xxh3-128 over the ids of the documents, then of the validation documents, in order
    lost_shards: int = 0  # shards that could not be read, within the limit of ``lost_shards``
    cut_documents: int = 0  # training documents that lost passages shared with held-out text
    cut_bytes: int = 0  # of these passages and their surroundings
    removals: list[dict[str, Any]] = field(default_factory=list)  # steps that removed much: ``Removal.to_json``
