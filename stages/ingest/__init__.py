"""Ingest: files of any format become document shards: filtered, without duplicates, with a validation split."""

from typing import TYPE_CHECKING

from rewarm.stages.core.lazy import import_lazily

if TYPE_CHECKING:
    from rewarm.stages.ingest.decontaminate import Guards, write_guard
    from rewarm.stages.ingest.identity import Known, Read, digest_inputs, identify
    from rewarm.stages.ingest.locations import InputFile
    from rewarm.stages.ingest.outcome import IngestOutcome
    from rewarm.stages.ingest.run import ACCOUNT, GUARD, VERSION, run
    from rewarm.stages.ingest.settings import IngestSettings
    from rewarm.stages.ingest.sources import find_inputs
else:
    import_lazily(__name__)

__all__ = [
    "ACCOUNT",
    "GUARD",
    "VERSION",
    "Guards",
    "IngestOutcome",
    "IngestSettings",
    "InputFile",
    "Known",
    "Read",
    "digest_inputs",
    "find_inputs",
    "identify",
    "run",
    "write_guard",
]
