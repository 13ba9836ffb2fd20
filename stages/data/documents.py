"""Contract 1, document shards: Parquet (zstd), one row per document, written by ingest and read by text stages."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from rewarm.stages.core.shapes import understood
from rewarm.stages.core.storage import Folder

DOCUMENT_SCHEMA = pa.schema(
    [
        pa.field("doc_id", pa.string(), nullable=False),  # 32 hex digits: xxh3-128 of the text's UTF-8 bytes
        pa.field("text", pa.large_string(), nullable=False),
        pa.field("title", pa.string()),
        pa.field("url", pa.string()),
        pa.field("timestamp", pa.timestamp("us", tz="UTC")),
        pa.field("language", pa.string()),
        pa.field("source", pa.string()),
        pa.field("quality", pa.float32()),
        pa.field("num_bytes", pa.int64(), nullable=False),  # of the text in UTF-8: bits per byte divide by it
    ]
)

# Records that ingest refuses, with reasons. ``location`` identifies the raw bytes: file and line, row or byte offset.
QUARANTINE_SCHEMA = pa.schema(
    [
        pa.field("file", pa.string(), nullable=False),
        pa.field("location", pa.string(), nullable=False),
        pa.field("step", pa.string(), nullable=False),  # the step of ingest that refused it
        pa.field("reason", pa.string(), nullable=False),  # a short fixed name for counts
        pa.field("value", pa.float64()),  # the measurement, if a threshold decided
        pa.field("detail", pa.string(), nullable=False),  # expected and found
        pa.field("excerpt", pa.binary(), nullable=False),  # the first bytes of the record
    ]
)


def document_id(text: str) -> str:
    """Return the content hash of a document: 32 hex digits of xxh3-128 over its UTF-8 bytes."""
    return str(xxhash.xxh3_128_hexdigest(text.encode()))


def shard_writer(path: Path, schema: pa.Schema = DOCUMENT_SCHEMA) -> pq.ParquetWriter:
    """Return a writer for one shard; use it inside ``Folder.writing`` so that the shard appears atomically."""
    return pq.ParquetWriter(path, schema, compression="zstd", write_statistics=False)


def read_shards(folder: Folder, columns: list[str] | None = None, batch_size: int = 1024) -> Iterator[pa.RecordBatch]:
    """Yield the documents of a folder in order: shard by shard, ``batch_size`` rows at a time."""
    for name in folder.files(".parquet"):
        with understood(f"{folder}/{name}"), pq.ParquetFile(folder.local(name)) as shard:
            yield from shard.iter_batches(batch_size=batch_size, columns=columns)
