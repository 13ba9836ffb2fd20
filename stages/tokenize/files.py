"""Files of the tokenize stage: the mapping from document shards to token shards, and readers for both."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rewarm.stages.core.errors import StageError, UsageError
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.tokenizer import Definition
from rewarm.stages.data.tokens import TokenFormat

COLUMNS = ["doc_id", "text", "num_bytes"]
SPLITS = {"train": "documents", "validation": "validation"}  # token folder: document folder


def format_of(definition: Definition) -> TokenFormat:
    """Return the format of a tokenizer's token shards."""
    form = definition.form
    return TokenFormat(definition.digest, definition.end_of_text_id, definition.dtype, form.prefix, form.suffix)


def shards_of(dataset: Folder, out: Folder, split: str) -> list[dict[str, Any]]:
    """Return records of one split's shards, in order; ``UsageError`` if ``out`` holds shards of another dataset."""
    source, target = dataset / SPLITS[split], out / split
    names = [name.removesuffix(".parquet") for name in source.files(".parquet")]
    strangers = sorted({name.removesuffix(".arrow") for name in target.files(".arrow")} - set(names))
    if strangers:
        raise UsageError(
            f"{target}/{strangers[0]}.arrow: {source} has no shard of that name; choose an empty folder for the tokens"
        )
    if not names:
        return []
    filesystem, path = source.filesystem()
    infos = filesystem.get_file_info([f"{path}/{name}.parquet" for name in names])
    return [
        {"split": split, "source": source.uri, "target": target.uri, "name": name, "bytes": info.size}
        for name, info in zip(names, infos, strict=True)
    ]


class DocumentShard:
    """Context manager that streams a document shard (contract 1) without copying it to disk.

    Raises ``UsageError`` if the file is not a document shard, and ``StageError`` if it cannot be read.
    """

    def __init__(self, source: str, name: str) -> None:
        filesystem, path = Folder(source).filesystem()
        self.file = f"{path}/{name}.parquet"
        with unreadable(self.file, "document", "check the disk, or ingest the dataset again"):
            # Read in the calling thread: Arrow's threads would exceed the CPUs that the task requested.
            self.parquet = pq.ParquetFile(self.file, filesystem=filesystem, pre_buffer=False)
        missing = set(COLUMNS) - set(self.parquet.schema_arrow.names)
        if missing:
            raise UsageError(
                f"{self.file}: not a document shard, missing {', '.join(sorted(missing))}; ingest the dataset again"
            )

    def __enter__(self) -> "DocumentShard":
        return self

    def __exit__(self, *error: object) -> None:
        self.parquet.close()

    @property
    def num_rows(self) -> int:
        """Number of documents."""
        return int(self.parquet.metadata.num_rows)

    def group_rows(self) -> list[int]:
        """Number of documents in each row group."""
        metadata = self.parquet.metadata
        return [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]

    def batches(self, rows: int, size: int, groups: list[int] | None = None) -> Iterator[pa.RecordBatch]:
        """Yield ``COLUMNS`` of the documents in order, at most ``rows`` and about ``size`` bytes of text at a time."""
        for group in range(self.parquet.num_row_groups) if groups is None else groups:
            total = self.parquet.metadata.row_group(group)
            fitting = size * total.num_rows // max(1, total.total_byte_size)
            yield from self._read([group], COLUMNS, min(rows, max(1, fitting)))

    def descriptions(self, group: int, rows: int) -> Iterator[pa.RecordBatch]:
        """Yield a row group's ``doc_id`` and ``num_bytes`` without decoding its text."""
        yield from self._read([group], ["doc_id", "num_bytes"], rows)

    def _read(self, groups: list[int], columns: list[str], rows: int) -> Iterator[pa.RecordBatch]:
        with unreadable(self.file, "document", "check the disk, or ingest the dataset again"):
            yield from self.parquet.iter_batches(batch_size=rows, row_groups=groups, columns=columns, use_threads=False)


def token_batches(target: Folder, name: str, expected: TokenFormat) -> Iterator[pa.RecordBatch]:
    """Yield the batches of an existing token shard; ``UsageError`` if another tokenizer made it."""
    filesystem, path = target.filesystem()
    file = f"{path}/{name}"
    with unreadable(file, "token", "remove it and run the same again"):
        opened = pa.memory_map(file) if target.is_local else filesystem.open_input_file(file)
        with opened as source, pa.ipc.open_file(source) as shard:
            found = TokenFormat.of(shard.schema, file)
            if found != expected:
                raise UsageError(
                    f"{file}: has format {found}, expected {expected}; choose an empty folder for the tokens"
                )
            for number in range(shard.num_record_batches):
                yield shard.get_batch(number)


@contextmanager
def unreadable(file: str, kind: str, remedy: str) -> Iterator[None]:
    """Convert Arrow's exceptions in the block to a ``StageError`` that names the file and the remedy."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise StageError(f"{file}: the {kind} shard cannot be read: {error}; {remedy}") from error
