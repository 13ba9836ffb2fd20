"""Reads a file of a test as ingest does."""

from pathlib import Path
from typing import Any

from rewarm.stages.ingest.locations import InputFile
from rewarm.stages.ingest.readers import read_piece, recognise
from rewarm.stages.ingest.settings import IngestSettings
from rewarm.stages.ingest.shards import Piece


def as_input(path: Path) -> InputFile:
    known = recognise(path.name)
    assert known
    found = path.stat()
    return InputFile(str(path), path.name, found.st_size, *known, str(found.st_mtime_ns))


def read(path: Path, start: int | None = None, stop: int | None = None, **settings: Any) -> list[Any]:
    return list(read_piece(Piece(as_input(path), start, stop), IngestSettings(**settings)))


def reasons(records: list[Any]) -> list[str]:
    return [str(record.reason) for record in records]
