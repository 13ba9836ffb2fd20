"""Ingest: files of any accepted format become document shards, with a validation split and without exact duplicates."""

from stages.ingest.files.inputs import InputFile
from stages.ingest.files.sources import digest_inputs, find_inputs
from stages.ingest.run import VERSION, IngestOutcome, run
from stages.ingest.settings import IngestSettings

__all__ = ["VERSION", "IngestOutcome", "IngestSettings", "InputFile", "digest_inputs", "find_inputs", "run"]
