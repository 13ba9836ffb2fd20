"""Columns of ids in Arrow (file or stream, as ``datasets`` saves them) and Parquet files."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stages.token_files import TokenFileError

DESCRIPTIVE = ("url", "timestamp", "language", "source", "title")  # taken along where they are there
ROWS = 256  # of a batch of Parquet


class TokenColumn:
    """An Arrow or Parquet file with a column of lists of whole numbers, the first of ``names`` that there is.

    Raises ``TokenFileError`` where there is none, and what Arrow raises for a file that it cannot read.
    """

    def __init__(self, file: Path, names: tuple[str, ...]) -> None:
        self.file = file
        self.parquet = file.suffix == ".parquet"
        self.schema = self._read_schema()
        found = [name for name in names if name in self.schema.names and holds_ids(self.schema.field(name).type)]
        if not found:
            wanted = " or ".join(names)
            raise TokenFileError(
                f"{file}: a column {wanted} of lists of whole numbers expected, found: {', '.join(self.schema.names)}"
            )
        self.name = found[0]

    def num_rows(self) -> int:
        """How many rows it has."""
        if self.parquet:
            return int(pq.read_metadata(self.file).num_rows)
        with opened(self.file) as batches:
            return sum(batch.num_rows for batch in batches)

    def rows(self, start: int, stop: int | None) -> Iterator[tuple[np.ndarray | None, dict[str, Any]]]:
        """Ids (None where they are null or hold null) and descriptive fields of the rows before ``stop``."""
        seen = 0
        for batch in self._batches():
            low, high = max(start - seen, 0), batch.num_rows if stop is None else min(stop - seen, batch.num_rows)
            seen += batch.num_rows
            if low < high:
                yield from self._batch_rows(batch.slice(low, high - low))
            if stop is not None and seen >= stop:
                return

    def _batch_rows(self, batch: pa.RecordBatch) -> Iterator[tuple[np.ndarray | None, dict[str, Any]]]:
        described = batch.select([name for name in DESCRIPTIVE if name in batch.schema.names]).to_pylist()
        for scalar, fields in zip(batch.column(self.name), described, strict=True):
            values = scalar.values
            yield None if values is None or values.null_count else values.to_numpy(zero_copy_only=False), fields

    def _batches(self) -> Iterator[pa.RecordBatch]:
        if not self.parquet:
            with opened(self.file) as batches:
                yield from batches
            return
        names = [self.name, *(name for name in DESCRIPTIVE if name in self.schema.names)]
        with pq.ParquetFile(self.file) as parquet:
            yield from parquet.iter_batches(batch_size=ROWS, columns=names, use_threads=False)

    def _read_schema(self) -> pa.Schema:
        if self.parquet:
            return pq.read_schema(self.file)
        with opened(self.file) as batches:
            return batches.schema


class Batches:
    """The record batches of an Arrow file or stream."""

    def __init__(self, reader: pa.RecordBatchFileReader | pa.RecordBatchStreamReader) -> None:
        self.reader, self.schema = reader, reader.schema

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        if isinstance(self.reader, pa.RecordBatchFileReader):
            return (self.reader.get_batch(number) for number in range(self.reader.num_record_batches))
        return iter(self.reader)


@contextmanager
def opened(file: Path) -> Iterator[Batches]:
    """An Arrow file or stream, memory-mapped."""
    with pa.memory_map(str(file)) as source:
        try:
            reader = pa.ipc.open_file(source)
        except pa.ArrowInvalid:  # no magic at its ends: a stream, or nothing of Arrow's
            source.seek(0)
            reader = pa.ipc.open_stream(source)
        with reader:
            yield Batches(reader)


def holds_ids(kind: pa.DataType) -> bool:
    """Whether a column's rows are lists of whole numbers."""
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return bool(lists and pa.types.is_integer(kind.value_type))
