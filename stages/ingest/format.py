"""An input format as one record: its names, and how its files are read, split and sampled.

A reader's module defines the formats that it reads, and ``readers/__init__.py`` lists them all.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from rewarm.stages.ingest.locations import InputFile
from rewarm.stages.ingest.opening import open_raw
from rewarm.stages.ingest.records import Document, Refusal
from rewarm.stages.ingest.settings import IngestSettings, InputSettings

Records = Iterator[Document | Refusal]


@dataclass(frozen=True)
class Piece:
    """A file or a part of it: a range of bytes (plain JSON lines, tables), row groups (Parquet), batches (Arrow) or
    documents (tokens).

    A line belongs to the piece in which it begins.
    """

    file: InputFile
    start: int | None = None
    stop: int | None = None  # exclusive


@dataclass(frozen=True)
class Sampling:
    """A request for parts of a large file."""

    offsets: list[int]  # bytes of the file at which parts are wanted
    size: int  # bytes of a part
    copy: Path  # where a part can be written as a file of its own


def keep_whole(file: InputFile, settings: InputSettings) -> list[tuple[Piece, int]]:
    """Return the file as one piece."""
    return [(Piece(file), file.size)]


def sample_beginning(file: InputFile, wanted: Sampling, settings: IngestSettings) -> list[tuple[Piece, float]]:
    """Return the beginning of a file, which cannot be entered in the middle."""
    head = beginning(file, len(wanted.offsets) * wanted.size, wanted.copy)
    return [(Piece(head), head.size)]


def sample_whole(file: InputFile, wanted: Sampling, settings: IngestSettings) -> list[tuple[Piece, float]]:
    """Return all of a file, which is a single document."""
    return [(Piece(file), file.size)]


def beginning(file: InputFile, size: int, path: Path) -> InputFile:
    """Copy the first ``size`` stored bytes of a file to ``path``; a reader sees a truncated file."""
    with open_raw(file) as stream:
        data = stream.read(size)
    path.write_bytes(data)
    return replace(file, path=str(path), size=len(data), version="")


@dataclass(frozen=True)
class Format:
    """One input format.

    ``read`` yields the records of a piece in order; its counter receives records that are not expected to be
    documents. ``cut`` splits a file of more than ``shard_bytes`` into pieces with their numbers of bytes, and
    ``sample`` returns some parts of a large file, with the number of the file's bytes that each covers.
    """

    name: str  # a value of ``ingest.format``
    title: str  # in messages
    suffixes: tuple[str, ...]  # without that of the compression; none for a format known by a file's contents
    read: Callable[[Piece, IngestSettings, Counter[str] | None], Records]
    cut: Callable[[InputFile, InputSettings], list[tuple[Piece, int]]] = keep_whole
    sample: Callable[[InputFile, Sampling, IngestSettings], list[tuple[Piece, float]]] = sample_beginning
    compressible: bool = True  # also as .gz, .zst or .bz2
    sequential: bool = True  # the beginning of a file can be read by itself
    companion: str = ""  # suffix of the file that is required beside it
    text_ratio: float = 1.0  # bytes of text per byte of a file; an upper estimate
