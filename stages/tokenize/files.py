"""The two sides of the stage on disk: which document shard becomes which token shard, and how each is read."""

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
    """The format of the token shards that a tokenizer makes."""
    form = definition.form
    return TokenFormat(definition.digest, definition.end_of_text_id, definition.dtype, form.prefix, form.suffix)


def shards_of(dataset: Folder, out: Folder, split: str) -> list[dict[str, Any]]:
    """Records of one split's shards, in order; ``UsageError`` where ``out`` holds shards of something else."""
    source, target = dataset / SPLITS[split], out / split
    names = [name.removesuffix(".parquet") for name in source.files(".parquet")]
    strangers = sorted({name.removesuffix(".arrow") for name in target.files(".arrow")} - set(names))
    if strangers:
        raise UsageError(
            f"{target}/{strangers[0]}.arrow: no shard of that name in {source}; choose an empty folder for the tokens"
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
    """A document shard (contract 1), streamed and never copied to the disk. A context manager.

    Raises ``UsageError`` for a file that is none, and ``StageError`` where it cannot be read.
    """

    def __init__(self, source: str, name: str) -> None:
        filesystem, path = Folder(source).filesystem()
        self.file = f"{path}/{name}.parquet"
        with unreadable(self.file, "document", "check the disk, or ingest the dataset again"):
            # Plain reads by the calling thread: Arrow's own threads would come on top of the CPUs the task asked for.
            self.parquet = pq.ParquetFile(self.file, filesystem=filesystem, pre_buffer=False)
        missing = set(COLUMNS) - set(self.parquet.schema_arrow.names)
        if missing:
            raise UsageError(
                f"{self.file}: not a document shard: no column {', '.join(sorted(missing))}; ingest the dataset again"
            )

    def __enter__(self) -> "DocumentShard":
        return self

    def __exit__(self, *error: object) -> None:
        self.parquet.close()

    @property
    def num_rows(self) -> int:
        """How many documents it holds."""
        return int(self.parquet.metadata.num_rows)

    def group_rows(self) -> list[int]:
        """Documents of each row group."""
        metadata = self.parquet.metadata
        return [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]

    def batches(self, rows: int, size: int, groups: list[int] | None = None) -> Iterator[pa.RecordBatch]:
        """``COLUMNS`` of the documents in their order, at most ``rows`` and about ``size`` bytes of text at a time."""
        for group in range(self.parquet.num_row_groups) if groups is None else groups:
            total = self.parquet.metadata.row_group(group)
            fitting = size * total.num_rows // max(1, total.total_byte_size)
            yield from self._read([group], COLUMNS, min(rows, max(1, fitting)))

    def descriptions(self, group: int, rows: int) -> Iterator[pa.RecordBatch]:
        """A row group's ``doc_id`` and ``num_bytes`` alone: its text is not decoded."""
        yield from self._read([group], ["doc_id", "num_bytes"], rows)

    def _read(self, groups: list[int], columns: list[str], rows: int) -> Iterator[pa.RecordBatch]:
        with unreadable(self.file, "document", "check the disk, or ingest the dataset again"):
            yield from self.parquet.iter_batches(batch_size=rows, row_groups=groups, columns=columns, use_threads=False)


def token_batches(target: Folder, name: str, expected: TokenFormat) -> Iterator[pa.RecordBatch]:
    """The batches of a token shard that is already there; ``UsageError`` where another tokenizer made it."""
    filesystem, path = target.filesystem()
    file = f"{path}/{name}"
    with unreadable(file, "token", "remove it and run the same again"):
        opened = pa.memory_map(file) if target.is_local else filesystem.open_input_file(file)
        with opened as source, pa.ipc.open_file(source) as shard:
            found = TokenFormat.of(shard.schema, file)
            if found != expected:
                raise UsageError(
                    f"{file}: made as {found}, but {expected} is asked for; choose an empty folder for the tokens"
                )
            for number in range(shard.num_record_batches):
                yield shard.get_batch(number)


@contextmanager
def unreadable(file: str, kind: str, remedy: str) -> Iterator[None]:
    """Turns what Arrow raises in the block into a ``StageError`` that names the file and what to do."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise StageError(f"{file}: the {kind} shard cannot be read: {error}; {remedy}") from error
