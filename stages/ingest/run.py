"""The ingest stage in three passes: read every file, decide about every document, write what stays.

    files ──read──▶ staging shards, quarantine ──decide (hashes only)──▶ fates ──settle──▶ documents, validation, index

One input file makes one shard of each kind, under its position in the list. The passes over files are Ray Data jobs;
the staging folder remembers what they finished, so a job that died goes on, and its result is the same to the byte.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from stages.documents import DOCUMENT_SCHEMA, QUARANTINE_SCHEMA, document_id
from stages.errors import StageError, UsageError
from stages.ingest.files.inputs import InputFile
from stages.ingest.files.pieces import Piece
from stages.ingest.read.readers import read_piece
from stages.ingest.records import Document, Refusal
from stages.ingest.settings import IngestSettings
from stages.ingest.sink import ShardSink, quarantine_rows
from stages.progress import Progress
from stages.shards import map_shards
from stages.split import (
    TRAIN,
    VALIDATE,
    Split,
    content_digest,
    read_hashes,
    read_index,
    split_documents,
    write_index,
)
from stages.storage import Folder

VERSION = 1  # of what ingest makes of the same files and settings: part of a step's fingerprint
STAGING = ".staging"
PLAN = "plan.json"
BATCH_ROWS = 512  # records held as Python objects …
BATCH_BYTES = 16 * 2**20  # … and their text


@dataclass(frozen=True)
class IngestOutcome:
    """What became of an arrival; every record read is counted in exactly one of the counts of records."""

    documents: int  # for training
    num_bytes: int  # of their text in UTF-8
    validation_documents: int
    validation_bytes: int
    quarantined: int
    reasons: dict[str, int]  # quarantined records by reason
    duplicates: int  # records whose text an earlier record of this arrival has
    duplicates_earlier: int  # records whose text an earlier dataset has
    digest: str  # xxh3-128 over the ids of the documents, then of the validation documents, in order


def run(
    inputs: list[InputFile],
    out: Folder,
    settings: IngestSettings,
    earlier: list[Folder],
    index: Folder,
    progress: Progress,
) -> IngestOutcome:
    """Read ``inputs`` into ``out/{documents,validation,quarantine}/NNNNN.parquet``; Ray must be initialised.

    ``index`` receives the content hashes of this dataset; ``earlier`` are the index folders of earlier datasets, whose
    documents (validation included) are dropped here. The caller writes the manifest that makes ``out`` whole.

    Raises ``UsageError`` where no document remains, ``StageError`` where a file or an index cannot be read any more.
    """
    staging = out / STAGING
    prepare(inputs, out, settings, earlier)
    shards = [{**asdict(file), "number": number, "bytes": file.size} for number, file in enumerate(inputs)]
    read = map_shards(partial(read_shard, out=out, settings=settings), shards, progress, "reading", "bytes")
    reasons = sum((Counter(account["reasons"]) for account in read), Counter[str]())

    hashes, split = decide(read, staging, settings, earlier, progress)
    if not len(split.kept):
        discard(staging)
        counts = [(count, reason) for reason, count in sorted(reasons.items())]
        counts += [(split.duplicates, "duplicate inside"), (split.duplicates_earlier, "already in an earlier dataset")]
        listing = ", ".join(f"{count} × {reason}" for count, reason in counts if count) or "no records"
        raise UsageError(
            f"no new document remains of {inputs[0].path} … ({listing}); see {out / 'quarantine'} for what was refused"
        )

    shards = [{"number": account["number"], "documents": account["documents"]} for account in read]
    settled = map_shards(partial(settle_shard, out=out), shards, progress, "writing", "documents")
    write_index(index, split.kept)
    discard(staging)
    sums = {name: sum(account[name] for account in settled) for name in settled[0]}
    return IngestOutcome(
        **sums,
        quarantined=reasons.total(),
        reasons=dict(sorted(reasons.items())),
        duplicates=split.duplicates,
        duplicates_earlier=split.duplicates_earlier,
        digest=content_digest(hashes, split.fates),
    )


def prepare(inputs: list[InputFile], out: Folder, settings: IngestSettings, earlier: list[Folder]) -> None:
    """Keep what a run with the same plan left in ``out``; clear what any other left."""
    plan = [VERSION, settings.identity(), [asdict(file) for file in inputs], [folder.uri for folder in earlier]]
    digest = xxhash.xxh3_128_hexdigest(orjson.dumps(plan))
    staging = out / STAGING
    if staging.exists(PLAN) and staging.read_json(PLAN) == digest:
        return
    discard(staging)
    for name in ("documents", "validation", "quarantine"):
        out.delete(name)
    staging.write_json(PLAN, digest)


def discard(staging: Folder) -> None:
    """Delete the staging folder, its plan first: without a plan nothing in it is trusted."""
    staging.delete(PLAN)
    staging.delete()


# -- pass 1: read ------------------------------------------------------------------------------------------------


def read_shard(shard: dict[str, Any], out: Folder, settings: IngestSettings) -> dict[str, Any]:
    """Read one file into a staging shard and its quarantine; the account is written last and marks it done."""
    name, staging = f"{shard['number']:05d}", out / STAGING
    if staging.exists(f"{name}.read.json"):
        account: dict[str, Any] = staging.read_json(f"{name}.read.json")
        return account
    reasons: Counter[str] = Counter()
    file = InputFile(**{field.name: shard[field.name] for field in fields(InputFile)})
    records = read_piece(Piece(file), settings)
    try:
        with (
            ShardSink(staging, f"{name}.parquet", DOCUMENT_SCHEMA, always=True) as documents,
            ShardSink(out / "quarantine", f"{name}.parquet", QUARANTINE_SCHEMA) as quarantine,
        ):
            for batch in in_batches(records):
                refused = [record for record in batch if isinstance(record, Refusal)]
                reasons.update(str(refusal.reason) for refusal in refused)
                add_rows(documents, [document_row(record) for record in batch if isinstance(record, Document)])
                if refused:
                    quarantine.add(quarantine_rows([(shard["name"], refusal) for refusal in refused]))
    except OSError as error:
        raise StageError(
            f"{shard['path']}: could not be read or stored ({error}); mend it and run the same command again"
        ) from error
    account = {"number": shard["number"], "documents": documents.rows, "reasons": dict(reasons)}
    staging.write_json(f"{name}.read.json", account)
    return account


def in_batches(records: Iterator[Document | Refusal]) -> Iterator[list[Document | Refusal]]:
    """Records in lists of bounded number and size."""
    batch: list[Document | Refusal] = []
    size = 0
    for record in records:
        batch.append(record)
        size += len(record.text) if isinstance(record, Document) else 0
        if len(batch) >= BATCH_ROWS or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def add_rows(sink: ShardSink, rows: list[dict[str, Any]]) -> None:
    """Append rows given as dictionaries."""
    if rows:
        sink.add(pa.RecordBatch.from_pylist(rows, schema=sink.schema))


def document_row(document: Document) -> dict[str, Any]:
    """A row of contract 1; ``quality`` is for later filters to fill."""
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
    }


# -- pass 2: decide ----------------------------------------------------------------------------------------------


def decide(
    read: list[dict[str, Any]], staging: Folder, settings: IngestSettings, earlier: list[Folder], progress: Progress
) -> tuple[npt.NDArray[np.bytes_], Split]:
    """The hashes of all rows in input order and the fate of each, which is left in staging for the third pass."""
    progress.begin("looking for duplicates", len(read), "files")
    parts = []
    for account in read:
        parts.append(read_hashes(staging, f"{account['number']:05d}.parquet"))
        progress.advance()
    hashes = np.concatenate([np.empty(0, "S16"), *parts])
    split = split_documents(hashes, [read_index(folder) for folder in earlier], settings.validation_share)
    row = 0
    for account, part in zip(read, parts, strict=True):
        staging.write(f"{account['number']:05d}.fates", split.fates[row : row + len(part)].tobytes())
        row += len(part)
    return hashes, split


# -- pass 3: settle ----------------------------------------------------------------------------------------------


def settle_shard(shard: dict[str, Any], out: Folder) -> dict[str, Any]:
    """Write one file's documents and validation documents by their fates; the account marks it done."""
    name, staging = f"{shard['number']:05d}", out / STAGING
    if staging.exists(f"{name}.settled.json"):
        account: dict[str, Any] = staging.read_json(f"{name}.settled.json")
        return account
    fates = np.frombuffer(staging.read(f"{name}.fates"), np.uint8)
    num_bytes = Counter({TRAIN: 0, VALIDATE: 0})
    filesystem, path = staging.filesystem()
    with (
        filesystem.open_input_file(f"{path}/{name}.parquet") as stream,
        pq.ParquetFile(stream) as staged,
        ShardSink(out / "documents", f"{name}.parquet", DOCUMENT_SCHEMA, always=True) as documents,
        ShardSink(out / "validation", f"{name}.parquet", DOCUMENT_SCHEMA) as validation,
    ):
        row = 0
        for batch in staged.iter_batches(batch_size=BATCH_ROWS):
            part = fates[row : row + batch.num_rows]
            row += batch.num_rows
            for fate, sink in ((TRAIN, documents), (VALIDATE, validation)):
                chosen = batch.filter(pa.array(part == fate))
                num_bytes[fate] += sum(chosen["num_bytes"].to_pylist())
                sink.add(chosen.cast(DOCUMENT_SCHEMA))
    account = {
        "documents": documents.rows,
        "num_bytes": num_bytes[TRAIN],
        "validation_documents": validation.rows,
        "validation_bytes": num_bytes[VALIDATE],
    }
    staging.write_json(f"{name}.settled.json", account)
    return account
