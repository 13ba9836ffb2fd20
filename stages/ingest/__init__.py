"""Ingest: files of any format become document shards: filtered, without duplicates, with a validation split."""

from stages.ingest.decontaminate import Guards, write_guard
from stages.ingest.files.inputs import InputFile
from stages.ingest.files.sources import digest_inputs, find_inputs
from stages.ingest.run import ACCOUNT, GUARD, VERSION, IngestOutcome, run
from stages.ingest.settings import IngestSettings

__all__ = [
    "ACCOUNT",
    "GUARD",
    "VERSION",
    "Guards",
    "IngestOutcome",
    "IngestSettings",
    "InputFile",
    "digest_inputs",
    "find_inputs",
    "run",
    "write_guard",
]
