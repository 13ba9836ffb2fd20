"""Pass 3: by their fates, staged documents become validation and training documents.

Validation is written first, since training text that overlaps with any of it goes to quarantine.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from stages.documents import DOCUMENT_SCHEMA, QUARANTINE_SCHEMA
from stages.ingest.account import Account
from stages.ingest.decontaminate import Guards, Hit
from stages.ingest.dedup.fates import Fate
from stages.ingest.reading import BATCH_ROWS, add_rows
from stages.ingest.records import EXCERPT
from stages.ingest.sink import ShardSink
from stages.split import DROP, TRAIN, VALIDATE
from stages.storage import Folder

OVERLAP = "overlaps with"
CONTAMINATED = "decontaminate"


def settle_validation(shard: dict[str, Any], out: Folder, staging: Folder) -> dict[str, Any]:
    """Write one shard's validation documents, and count its documents and bytes by fate; the account marks it done."""
    name = f"{shard['number']:05d}"
    if staging.exists(f"{name}.validation.json"):
        done: dict[str, Any] = staging.read_json(f"{name}.validation.json")
        return done
    documents, num_bytes = np.zeros(len(Fate), np.int64), np.zeros(len(Fate), np.int64)
    with ShardSink(out / "validation", f"{name}.parquet", DOCUMENT_SCHEMA) as validation:
        for batch, fates in staged(staging, name):
            documents += np.bincount(fates, minlength=len(Fate))
            np.add.at(num_bytes, fates, batch["num_bytes"].to_numpy())
            chosen = batch.filter(pa.array(fates == VALIDATE)).select(DOCUMENT_SCHEMA.names)
            validation.add(chosen.cast(DOCUMENT_SCHEMA))
    account = {"documents": documents.tolist(), "bytes": num_bytes.tolist()}
    staging.write_json(f"{name}.validation.json", account)
    return account


def settle_training(
    shard: dict[str, Any], out: Folder, staging: Folder, guarded: list[tuple[str, Folder]]
) -> dict[str, Any]:
    """Write one shard's training documents but those that overlap with guarded text; the account marks it done.

    The fates that came of it are left in ``NAME.settled``, beside those that were decided.
    """
    name = f"{shard['number']:05d}"
    if staging.exists(f"{name}.settled.json"):
        done: dict[str, Any] = staging.read_json(f"{name}.settled.json")
        return done
    guards = Guards.open(guarded)
    account, removed = Account.of([]), Counter[str]()
    counts = Counter({"documents": 0, "bytes": 0, "removed": 0, "removed_bytes": 0})
    settled = [np.empty(0, np.uint8)]
    with (
        ShardSink(out / "documents", f"{name}.parquet", DOCUMENT_SCHEMA, always=True) as documents,
        ShardSink(out / "quarantine", f"{name}-overlap.parquet", QUARANTINE_SCHEMA) as quarantine,
    ):
        for batch, fates in staged(staging, name):
            chosen = batch.filter(pa.array(fates == TRAIN))
            hits = guards.hits(chosen["text"].to_pylist())
            clean = np.array([hit is None for hit in hits], bool)
            sizes = chosen["num_bytes"].to_numpy()
            counts.update(documents=int(clean.sum()), bytes=int(sizes[clean].sum()))
            counts.update(removed=int((~clean).sum()), removed_bytes=int(sizes[~clean].sum()))
            rows = chosen.filter(pa.array(~clean)).select(["text", "file", "location"]).to_pylist()
            found = [hit for hit in hits if hit is not None]
            removed.update(guard for hit in found for guard in hit.guards)
            add_rows(quarantine, [overlap_row(row, hit) for row, hit in zip(rows, found, strict=True)])
            kept = chosen.filter(pa.array(clean)).select(DOCUMENT_SCHEMA.names).cast(DOCUMENT_SCHEMA)
            account.describe(described(kept))
            documents.add(kept)
            after = fates.copy()
            after[fates == TRAIN] = np.where(clean, TRAIN, DROP)
            settled.append(after)
    staging.write(f"{name}.settled", np.concatenate(settled).tobytes())
    made = {**counts, "guards": dict(removed), "account": account.to_json()}
    staging.write_json(f"{name}.settled.json", made)
    return made


def staged(staging: Folder, name: str) -> Iterator[tuple[pa.RecordBatch, npt.NDArray[np.uint8]]]:
    """A shard's staged rows with their fates, some hundred at a time."""
    fates = np.frombuffer(staging.read(f"{name}.fates"), np.uint8)
    filesystem, path = staging.filesystem()
    with filesystem.open_input_file(f"{path}/{name}.parquet") as stream, pq.ParquetFile(stream) as file:
        row = 0
        for batch in file.iter_batches(batch_size=BATCH_ROWS):
            yield batch, fates[row : row + batch.num_rows]
            row += batch.num_rows


def described(batch: pa.RecordBatch) -> Iterator[tuple[str | None, str | None, int, float | None]]:
    """What an account says of documents."""
    columns = (batch[name].to_pylist() for name in ("language", "url", "num_bytes", "quality"))
    yield from zip(*columns, strict=True)


def overlap_row(row: dict[str, Any], hit: Hit) -> dict[str, Any]:
    """The quarantine's row of a document that overlaps with guarded text."""
    return {
        "file": row["file"],
        "location": row["location"],
        "step": CONTAMINATED,
        "reason": f"{OVERLAP} {next(iter(hit.guards))}",
        "value": float(hit.num_grams),
        "detail": f"{hit.num_grams} shared word sequences with {', '.join(hit.guards)}, such as: {hit.gram}",
        "excerpt": row["text"].encode()[:EXCERPT],
    }
