"""Staged columns of every document for the decision: ids, URL hash, time and signature, written by pass 1.

There is one file per shard in addition to the staging Parquet, with rows in the same order. A task of the decision
reads one column of all shards, memory-mapped if staging is a local folder. URLs are compared after syntactic
normalisation (RFC 3986, section 6.2).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Self
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

from rewarm.stages.core.storage import Folder
from rewarm.stages.data.normal_forms import folded_ids
from rewarm.stages.data.split import Hashes
from rewarm.stages.ingest.dedup.columns import (
    BLOCK_ROWS,
    WIDE,
    Column,
    ColumnSink,
    blocks,
    open_columns,
    read_columns,
    to_numpy,
    write_columns,
)
from rewarm.stages.ingest.dedup.minhash import Signatures, signatures
from rewarm.stages.ingest.settings import DuplicateSettings

PORTS = {"http": 80, "https": 443}


def normalised(url: str) -> str:
    """Return the URL without fragment, scheme http or https, default port and trailing slash of the path.

    Scheme and host are lower-cased; the path's case and the query are kept, because they may identify another page.
    Anything other than a web address, such as a file name, is unchanged.
    """
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError:
        return url
    if parts.scheme not in PORTS or not parts.hostname:
        return url
    host = parts.hostname if port in (None, PORTS[parts.scheme]) else f"{parts.hostname}:{port}"
    query = f"?{parts.query}" if parts.query else ""
    return f"{host}{parts.path.rstrip('/')}{query}"


def url_hashes(urls: Sequence[str | None]) -> npt.NDArray[np.uint64]:
    """Return xxh3-64 of the normalised URLs; 0 if there is none."""
    hashes = (xxhash.xxh3_64_intdigest(normalised(url).encode()) or 1 if url else 0 for url in urls)
    return np.fromiter(hashes, np.uint64, len(urls))


SUFFIX = ".signatures"
UNTIMED = np.iinfo(np.int64).min  # older than any time
ID, FOLDED, URL, TIMESTAMP, SKETCH, BAND = range(6)  # positions in the schema; band b is at BAND + b
DROPPED_SCHEMA = pa.schema([pa.field("row", pa.int64(), nullable=False)])


def staged_schema(settings: DuplicateSettings) -> pa.Schema:
    """Return the columns of a shard; without ``near`` there are no signatures."""
    exact = [("id", WIDE), ("folded", WIDE), ("url", pa.uint64()), ("timestamp", pa.int64())]
    near = [("sketch", WIDE), *((f"band_{band:02d}", pa.uint64()) for band in range(settings.bands))]
    return pa.schema([pa.field(*field, nullable=False) for field in (exact + near if settings.near else exact)])


class SignatureSink:
    """Writer of a shard's file, document by document; see ``add``."""

    def __init__(self, staging: Folder, name: str, settings: DuplicateSettings) -> None:
        self.settings = settings
        self.sink = ColumnSink(staging, name + SUFFIX, staged_schema(settings))

    def __enter__(self) -> Self:
        self.sink.__enter__()
        return self

    def __exit__(self, *error: object) -> bool | None:
        return self.sink.__exit__(*error)  # type: ignore[arg-type]

    def add(
        self,
        doc_ids: Sequence[str],
        urls: Sequence[str | None],
        timestamps: Sequence[datetime | None],
        texts: Sequence[str],
    ) -> None:
        """Append documents: ids of 32 hex digits, URLs, times, and texts, whose signatures are computed here."""
        ids = np.frombuffer(bytes.fromhex("".join(doc_ids)), "S16")
        times = [UNTIMED if time is None else int(time.timestamp() * 1_000_000) for time in timestamps]
        made = signatures(texts, self.settings) if self.settings.near else None
        self.add_arrays(ids, url_hashes(urls), np.array(times, np.int64), made, folded_ids(ids, texts))

    def add_arrays(
        self,
        ids: Hashes,
        urls: npt.NDArray[np.uint64],
        timestamps: npt.NDArray[np.int64],
        made: Signatures | None,
        folded: Hashes | None = None,
    ) -> None:
        """Append rows: ids S16, URL hashes (0: none), times in µs (``UNTIMED``: none), signatures with near.

        ``folded``: ids of the folded texts, by default ``ids``.
        """
        columns: list[Column] = [ids, ids if folded is None else folded, urls, timestamps]
        if made is not None:
            columns += [np.ascontiguousarray(made.sketches).view("S16").reshape(-1), *made.keys.T]
        self.sink.add(columns)


def write_signatures(
    staging: Folder,
    name: str,
    ids: Hashes,
    urls: npt.NDArray[np.uint64],
    timestamps: npt.NDArray[np.int64],
    made: Signatures | None,
    settings: DuplicateSettings,
) -> None:
    """Write a whole shard's file at once."""
    with SignatureSink(staging, name, settings) as sink:
        sink.add_arrays(ids, urls, timestamps, made)


@dataclass(frozen=True)
class Staged:
    """All shards of an arrival as one table; rows are numbered over the shards in order."""

    staging: Folder
    names: tuple[str, ...]
    documents: tuple[int, ...]  # in each shard

    @cached_property
    def offsets(self) -> npt.NDArray[np.int64]:
        """First row of each shard, and the number of rows."""
        return np.cumsum([0, *self.documents], dtype=np.int64)

    @property
    def num_rows(self) -> int:
        """Number of documents of all shards."""
        return int(self.offsets[-1])

    def blocks(self, fields: Sequence[int], without: str | None = None) -> Iterator[tuple[Column, ...]]:
        """Yield rows and their values block by block; ``fields`` ascend; ``without`` names a file of rows to omit."""
        gone = dropped_rows(self.staging, without) if without else np.empty(0, np.int64)
        for name, offset in zip(self.names, self.offsets[:-1].tolist(), strict=True):
            row = offset
            for columns in blocks(self.staging, name + SUFFIX, fields):
                rows = np.arange(row, row + len(columns[0]))
                row += len(rows)
                first, last = np.searchsorted(gone, (rows[0], row))
                if first == last:
                    yield rows, *columns
                    continue
                stays = np.ones(len(rows), bool)
                stays[gone[first:last] - rows[0]] = False
                yield rows[stays], *(column[stays] for column in columns)

    def hashes(self, shard: int) -> Hashes:
        """Return the ids of one shard."""
        parts = blocks(self.staging, self.names[shard] + SUFFIX, [ID])
        return np.concatenate([np.empty(0, "S16"), *(columns[0] for columns in parts)])


class SketchReader:
    """Reader of the sketches of any rows; from an object store, only the required blocks are fetched."""

    def __init__(self, staged: Staged) -> None:
        self.staged = staged
        self.open = lru_cache(64)(self._open)

    def _open(self, shard: int) -> pa.ipc.RecordBatchFileReader:
        return open_columns(self.staged.staging, self.staged.names[shard] + SUFFIX, [SKETCH])

    def take(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
        """Return the sketches of ``rows`` in order, repeated rows allowed; uint64 [n, 2]."""
        wanted, back = np.unique(rows, return_inverse=True)
        found = np.empty(len(wanted), "S16")
        shards = np.searchsorted(self.staged.offsets, wanted, "right") - 1
        local = wanted - self.staged.offsets[shards]
        block = local // BLOCK_ROWS
        starts = np.flatnonzero(np.diff(shards, prepend=-1) | np.diff(block, prepend=-1))
        for start, stop in pairwise([*starts.tolist(), len(wanted)]):
            values = to_numpy(self.open(int(shards[start])).get_batch(int(block[start])).column(0))
            found[start:stop] = values[local[start:stop] - block[start] * BLOCK_ROWS]
        return found.view(np.uint64).reshape(-1, 2)[back]


def write_dropped(staging: Folder, name: str, rows: npt.NDArray[np.int64]) -> None:
    """Write the sorted rows that later tasks omit."""
    write_columns(staging, name, DROPPED_SCHEMA, [rows])


def dropped_rows(staging: Folder, name: str) -> npt.NDArray[np.int64]:
    """Return the sorted rows that later tasks omit."""
    return read_columns(staging, name, DROPPED_SCHEMA)[0]
