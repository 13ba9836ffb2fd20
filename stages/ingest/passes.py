"""Pass 1 of ingest: reads one shard's files and writes staged documents, signatures, quarantine and account.

Every Parquet file is written in row groups of bounded size, and completely or not at all.
"""

import errno
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from rewarm.stages.core.errors import StageError, UsageError
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.documents import DOCUMENT_SCHEMA, QUARANTINE_SCHEMA, document_id, shard_writer
from rewarm.stages.ingest.account import READ, Account
from rewarm.stages.ingest.dedup.staged import SignatureSink
from rewarm.stages.ingest.format import Piece
from rewarm.stages.ingest.readers import read_piece
from rewarm.stages.ingest.records import Document, Refusal
from rewarm.stages.ingest.settings import IngestSettings
from rewarm.stages.ingest.shards import Shard

GROUP_ROWS = 8192
GROUP_BYTES = 32 * 2**20


def quarantine_rows(refused: Sequence[tuple[str, Refusal]]) -> pa.RecordBatch:
    """Return quarantine rows for file names and refusals; built by column, because a broken arrival has millions."""
    columns = {
        "file": [file for file, _ in refused],
        "location": [refusal.location for _, refusal in refused],
        "step": [refusal.step for _, refusal in refused],
        "reason": [str(refusal.reason) for _, refusal in refused],
        "value": [refusal.value for _, refusal in refused],
        "detail": [refusal.detail for _, refusal in refused],
        "excerpt": [refusal.excerpt for _, refusal in refused],
    }
    return pa.record_batch(columns, schema=QUARANTINE_SCHEMA)


class ShardSink:
    """Parquet shard that appears when the block succeeds. Without rows it is written only if ``always``."""

    def __init__(self, folder: Folder, name: str, schema: pa.Schema, always: bool = False) -> None:
        self.folder, self.name, self.schema, self.always = folder, name, schema, always
        self.rows = 0
        self.held: list[pa.RecordBatch] = []
        self.held_rows = self.held_bytes = 0
        self.writer: pq.ParquetWriter | None = None
        self.stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def add(self, batch: pa.RecordBatch) -> None:
        """Append rows; the sizes of the batches do not affect the row groups."""
        self.rows += batch.num_rows
        self.held.append(batch)
        self.held_rows += batch.num_rows
        self.held_bytes += batch.nbytes
        if self.held_rows >= GROUP_ROWS or self.held_bytes >= GROUP_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write the buffered rows as one group."""
        if self.writer is None:
            scratch = self.stack.enter_context(self.folder.writing(self.name))
            self.writer = self.stack.enter_context(shard_writer(scratch, self.schema))
        if self.held_rows:
            self.writer.write_table(pa.Table.from_batches(self.held, self.schema), row_group_size=self.held_rows)
        self.held, self.held_rows, self.held_bytes = [], 0, 0

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        if kind is None and (self.held_rows or self.always):
            self.flush()
        return self.stack.__exit__(kind, error, trace)


STAGED_SCHEMA = DOCUMENT_SCHEMA.append(pa.field("file", pa.string())).append(pa.field("location", pa.string()))
BATCH_ROWS = 512  # records held as Python objects …
BATCH_BYTES = 16 * 2**20  # … and their text
ATTEMPTS = 3
PAUSE = 1.0  # seconds before the second attempt, twice as long before the third
FATAL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}  # no other shard would fare better


def steps_of(settings: IngestSettings) -> list[Any]:
    """Return the cleaning and quality steps in the order in which they are applied; each has a ``name``."""
    from rewarm.stages.ingest.filters.steps import after_rules, before_rules, rule_steps

    return [*before_rules(settings.clean), *rule_steps(settings.rules), *after_rules(settings.clean)]


def read_shard(record: dict[str, Any], out: Folder, staging: Folder, settings: IngestSettings) -> dict[str, Any]:
    """Read a shard, with at most three attempts; its account is written last and marks it done.

    Return ``{"number", "error", "files"}`` for a shard that cannot be read: the caller decides whether to accept that.

    Raises:
        StageError: the disk is full or read-only, or a file has changed since it was listed.
    """
    shard = Shard.from_json(record)
    name = f"{shard.number:05d}"
    if staging.exists(f"{name}.read.json"):
        done: dict[str, Any] = staging.read_json(f"{name}.read.json")
        return done
    files = list(dict.fromkeys(piece.file.name for piece in shard.pieces))
    for attempt in range(ATTEMPTS):
        try:
            account = stage(shard, name, out, staging, settings)
        except (StageError, UsageError):
            raise
        except OSError as error:
            if error.errno in FATAL:
                raise StageError(
                    f"{error.filename or out}: {error.strerror}; free some space and run the same command again: "
                    "finished shards are kept"
                ) from error
            failure = str(error)
        except Exception as error:  # raised by a reader's library for unforeseen bytes
            failure = f"{type(error).__name__}: {error}"
        else:
            made = {"number": shard.number, **account}
            staging.write_json(f"{name}.read.json", made)
            return made
        if attempt + 1 < ATTEMPTS:
            time.sleep(PAUSE * 2**attempt)
    return {"number": shard.number, "error": failure, "files": files}


def stage(shard: Shard, name: str, out: Folder, staging: Folder, settings: IngestSettings) -> dict[str, Any]:
    """Write one shard's staging and quarantine; return its counts."""
    steps = steps_of(settings)
    account = Account.of([READ, *(step.name for step in steps)])
    with (
        ShardSink(staging, f"{name}.parquet", STAGED_SCHEMA, always=True) as documents,
        ShardSink(out / "quarantine", f"{name}.parquet", QUARANTINE_SCHEMA) as quarantine,
        SignatureSink(staging, name, settings.duplicates) as sketches,
    ):
        for batch in in_batches(shard.pieces, settings, account.steps[READ].passed_over):
            kept, refused = [], []
            for file, place, record in batch:
                result = account.follow(record, steps)
                if isinstance(result, Refusal):
                    refused.append((file, replace(result, location=place)))
                else:
                    kept.append(staged_row(result, file, place))
            add_rows(documents, kept)
            if refused:
                quarantine.add(quarantine_rows(refused))
            columns = ("doc_id", "url", "timestamp", "text")
            sketches.add(*([row[name] for row in kept] for name in columns))
    account.steps[READ].bytes_in = shard.num_bytes
    return {"documents": documents.rows, "quarantined": quarantine.rows, "account": account.to_json()}


def in_batches(
    pieces: Sequence[Piece], settings: IngestSettings, passed: Counter[str]
) -> Iterator[list[tuple[str, str, Document | Refusal]]]:
    """Yield records with their files and locations in bounded batches; ``passed`` as in ``read_piece``."""
    batch: list[tuple[str, str, Document | Refusal]] = []
    size = 0
    for piece in pieces:
        for number, record in enumerate(read_piece(piece, settings, passed)):
            batch.append((piece.file.name, record.location or f"record {number}", record))
            size += len(record.text) if isinstance(record, Document) else len(record.excerpt)
            if len(batch) >= BATCH_ROWS or size >= BATCH_BYTES:
                yield batch
                batch, size = [], 0
    if batch:
        yield batch


def staged_rows(
    staging: Folder, name: str, columns: Sequence[str] | None = None
) -> Iterator[tuple[pa.RecordBatch, npt.NDArray[np.uint8]]]:
    """Yield a shard's staged rows with their fates, some hundred at a time; all columns, or the named ones."""
    fates = np.frombuffer(staging.read(f"{name}.fates"), np.uint8)
    filesystem, path = staging.filesystem()
    with filesystem.open_input_file(f"{path}/{name}.parquet") as stream, pq.ParquetFile(stream) as file:
        row = 0
        for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=columns):
            yield batch, fates[row : row + batch.num_rows]
            row += batch.num_rows


def add_rows(sink: ShardSink, rows: list[dict[str, Any]]) -> None:
    """Append rows given as dictionaries."""
    if rows:
        sink.add(pa.RecordBatch.from_pylist(rows, schema=sink.schema))


def staged_row(document: Document, file: str, place: str) -> dict[str, Any]:
    """Return a row of contract 1 (``quality`` is filled in later) with the document's file and location."""
    return {
        "doc_id": document_id(document.text),
        "text": document.text,
        "title": document.title,
        "url": document.url,
        "timestamp": document.timestamp,
        "language": document.language,
        "source": document.source,
        "quality": None,
        "num_bytes": len(document.text.encode()),
        "file": file,
        "location": place,
    }
