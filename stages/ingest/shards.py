"""Layout of an arrival's files as shards of similar size: small files are grouped, large ones are split.

    a.jsonl (300 MB)  b.txt  c.txt  d.parquet (200 MB)
    └───┬───┴───┬───┴───┬───┴───────────┬──────┬─────┘
      0 a       1 a     2 a             3 b, c 4 d …         consecutive, in the order of the files

The layout depends only on the files and settings, not on the workers.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import pyarrow as pa

from rewarm.stages.ingest.locations import InputFile, locate
from rewarm.stages.ingest.opening import open_random, open_raw
from rewarm.stages.ingest.readers.columns import batch_sizes, row_group_sizes
from rewarm.stages.ingest.readers.streams import HEAD, binary_of, encoding_of
from rewarm.stages.ingest.readers.tables import record_edges
from rewarm.stages.ingest.settings import InputSettings

MAX_FILES = 10_000  # per shard: opening a file takes about 1 ms, or 100 ms if it is remote
AT_ONCE = 32


@dataclass(frozen=True)
class Piece:
    """A file or a part of it: a range of bytes (plain JSON lines, tables), row groups (Parquet) or batches (Arrow).

    A line belongs to the piece in which it begins.
    """

    file: InputFile
    start: int | None = None
    stop: int | None = None  # exclusive


@dataclass(frozen=True)
class Shard:
    """One unit of work."""

    number: int  # from 0
    pieces: tuple[Piece, ...]
    num_bytes: int  # stored bytes of the files

    def to_json(self) -> dict[str, Any]:
        """Return the shard as plain JSON types."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Shard":
        """Restore a shard from its JSON form."""
        pieces = (Piece(InputFile(**one["file"]), one["start"], one["stop"]) for one in value["pieces"])
        return cls(value["number"], tuple(pieces), value["num_bytes"])


def make_shards(inputs: Sequence[InputFile], settings: InputSettings) -> list[Shard]:
    """Return shards of about ``shard_bytes`` and at most ``MAX_FILES`` pieces, in the order of the files.

    Reads the footers of large Parquet and Arrow files, and large plain CSV and TSV files completely.
    Raises ``OSError`` if that fails.
    """
    shards: list[Shard] = []
    pieces: list[Piece] = []
    size = 0
    for piece, num_bytes in cut_all(inputs, settings):
        if pieces and (size + num_bytes > settings.shard_bytes or len(pieces) == MAX_FILES):
            shards.append(Shard(len(shards), tuple(pieces), size))
            pieces, size = [], 0
        pieces.append(piece)
        size += num_bytes
    return [*shards, Shard(len(shards), tuple(pieces), size)] if pieces else shards


def cut_all(inputs: Sequence[InputFile], settings: InputSettings) -> Iterator[tuple[Piece, int]]:
    """Yield the pieces of all files in order, each with its number of bytes."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        waiting = [pool.submit(cut, file, settings) if file.size > settings.shard_bytes else None for file in inputs]
        for file, made in zip(inputs, waiting, strict=True):
            yield from [(Piece(file), file.size)] if made is None else made.result()


def cut(file: InputFile, settings: InputSettings) -> list[tuple[Piece, int]]:
    """Split a large file into pieces of about ``shard_bytes``; keep it whole if it cannot be split."""
    if file.format == "jsonl" and is_plain(file):
        count = -(-file.size // settings.shard_bytes)
        edges = [file.size * number // count for number in range(count + 1)]
        return [(Piece(file, start, stop), stop - start) for start, stop in pairwise(edges)]
    if file.format in ("csv", "tsv") and is_plain(file):
        with open_raw(file) as stream:
            edges = record_edges(stream, file.format, file.size, settings)
        return [(Piece(file, start, stop), stop - start) for start, stop in pairwise(edges)]
    ask = SIZES.get(file.format)
    sizes = part_sizes(file, settings, ask) if ask else []
    if len(sizes) < 2:
        return [(Piece(file), file.size)]
    pieces = []
    start, held = 0, 0
    for number, size in enumerate(sizes):
        if number > start and held + size > settings.shard_bytes:
            pieces.append((Piece(file, start, number), held))
            start, held = number, 0
        held += size
    return [*pieces, (Piece(file, start, len(sizes)), held)]


def is_plain(file: InputFile) -> bool:
    """Return whether a file of lines can be read from any position."""
    if file.compression or locate(file.path).is_web:
        return False
    with open_raw(file) as stream:
        head = stream.read(HEAD)
    return encoding_of(head) is None and binary_of(head) is None


SIZES: dict[str, Callable[[Any, InputSettings], list[int]]] = {"parquet": row_group_sizes, "arrow": batch_sizes}


def part_sizes(file: InputFile, settings: InputSettings, ask: Callable[[Any, InputSettings], list[int]]) -> list[int]:
    """Return the bytes of each part of a file; empty if it cannot be read, which its reader reports later."""
    try:
        with open_random(file) as stream:
            return ask(stream, settings)
    except pa.ArrowException:
        return []
    except OSError as error:
        if error.errno is not None:
            raise
        return []
