"""Pass 1: one shard's files become staged documents, their signatures, its quarantine and its account."""

import errno
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from stages.documents import DOCUMENT_SCHEMA, QUARANTINE_SCHEMA, document_id
from stages.errors import StageError, UsageError
from stages.ingest.account import READ, Account
from stages.ingest.clean.steps import after_rules, before_rules
from stages.ingest.dedup.staged import SignatureSink
from stages.ingest.files.pieces import Piece, Shard
from stages.ingest.read.readers import read_piece
from stages.ingest.records import Document, Refusal
from stages.ingest.rules.steps import rule_steps
from stages.ingest.settings import IngestSettings
from stages.ingest.sink import ShardSink, quarantine_rows
from stages.storage import Folder

STAGED_SCHEMA = DOCUMENT_SCHEMA.append(pa.field("file", pa.string())).append(pa.field("location", pa.string()))
BATCH_ROWS = 512  # records held as Python objects …
BATCH_BYTES = 16 * 2**20  # … and their text
ATTEMPTS = 3
PAUSE = 1.0  # seconds before the second attempt, twice as long before the third
FATAL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}  # no other shard would fare better


def steps_of(settings: IngestSettings) -> list[Any]:
    """What a document passes, in its order; each has a ``name``."""
    return [*before_rules(settings.clean), *rule_steps(settings.rules), *after_rules(settings.clean)]


def read_shard(record: dict[str, Any], out: Folder, staging: Folder, settings: IngestSettings) -> dict[str, Any]:
    """Read a shard, three times at most; its account is written last and marks it done.

    A shard that cannot be read gives ``{"number", "error", "files"}``: the caller decides whether that may be.

    Raises:
        StageError: the disk is full or read-only, or a file is not the one that was planned for.
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
                    f"{error.filename or out}: {error.strerror}; make room and run the same command again: "
                    "what is finished is kept"
                ) from error
            failure = str(error)
        except Exception as error:  # of a reader's library, at bytes that no test foresaw
            failure = f"{type(error).__name__}: {error}"
        else:
            made = {"number": shard.number, **account}
            staging.write_json(f"{name}.read.json", made)
            return made
        if attempt + 1 < ATTEMPTS:
            time.sleep(PAUSE * 2**attempt)
    return {"number": shard.number, "error": failure, "files": files}


def stage(shard: Shard, name: str, out: Folder, staging: Folder, settings: IngestSettings) -> dict[str, Any]:
    """Write one shard's staging and quarantine; its counts."""
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
    """Records with their files and places, in lists of bounded number and size; ``passed`` as in ``read_piece``."""
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
    """A shard's staged rows with their fates, some hundred at a time; of the columns all, or those that are named."""
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
    """A row of contract 1 (``quality`` is for later to fill), and where it came from."""
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
