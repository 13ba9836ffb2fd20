"""Layout of an arrival's files as shards of similar size: small files are grouped, large ones are split.

    a.jsonl (300 MB)  b.txt  c.txt  d.parquet (200 MB)
    └───┬───┴───┬───┴───┬───┴───────────┬──────┬─────┘
      0 a       1 a     2 a             3 b, c 4 d …         consecutive, in the order of the files

The layout depends only on the files and settings, not on the workers.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from rewarm.stages.ingest.format import Piece
from rewarm.stages.ingest.locations import InputFile
from rewarm.stages.ingest.readers import FORMATS
from rewarm.stages.ingest.settings import InputSettings

MAX_FILES = 10_000  # per shard: opening a file takes about 1 ms, or 100 ms if it is remote
AT_ONCE = 32


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
    return FORMATS[file.format].cut(file, settings)
