"""Ingest: files of any accepted format become document shards, with a validation split and without exact duplicates."""

from stages.ingest.run import VERSION, IngestOutcome, run
from stages.ingest.settings import IngestSettings
from stages.ingest.sources import InputFile, digest_inputs, find_inputs

__all__ = ["VERSION", "IngestOutcome", "IngestSettings", "InputFile", "digest_inputs", "find_inputs", "run"]
