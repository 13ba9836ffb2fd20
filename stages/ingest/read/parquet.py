"""The records of a Parquet file: only the named columns, some hundred rows at a time."""

from collections.abc import Iterator
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from stages.ingest.files.settings import InputSettings
from stages.ingest.files.streams import BOMB_BYTES
from stages.ingest.read.columns import (
    BATCH_ROWS,
    check_text_column,
    documents_of,
    is_the_files,
    unreadable,
    wanted,
)
from stages.ingest.records import Document, Reason, Refusal

BUFFER = 8 * 2**20  # of a column that are read at a time


def read_parquet(
    stream: BinaryIO, settings: InputSettings, start: int = 0, stop: int | None = None
) -> Iterator[Document | Refusal]:
    """The rows of the row groups from ``start`` to before ``stop``, in their order.

    Of a row group that breaks, the rest is one refusal. Raises ``OSError`` of the disk.
    """
    try:
        with pq.ParquetFile(stream, buffer_size=BUFFER) as file:
            if refusal := check_text_column(file.schema_arrow, settings):
                yield refusal
                return
            sizes = [file.metadata.row_group(number).num_rows for number in range(file.metadata.num_row_groups)]
            for number in range(len(sizes))[start:stop]:
                yield from read_group(file, number, sum(sizes[:number]), settings)
    except (pa.ArrowException, OSError) as error:
        if not is_the_files(error):
            raise
        stream.seek(0)
        yield unreadable("file", Reason.UNREADABLE_PARQUET, error, stream.read(16))


def read_group(file: pq.ParquetFile, number: int, row: int, settings: InputSettings) -> Iterator[Document | Refusal]:
    """The rows of one row group, the first of which has the number ``row`` in the file."""
    columns = wanted(file.schema_arrow, settings)
    end = row + file.metadata.row_group(number).num_rows
    if bomb := swollen(file, number, columns, settings):
        yield Refusal(f"rows {row} to {end - 1}", Reason.BOMB, bomb, b"")
        return
    try:
        for batch in file.iter_batches(BATCH_ROWS, [number], columns, use_threads=False):
            yield from documents_of(batch, "row ", row, settings)
            row += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        if not is_the_files(error):
            raise
        yield unreadable(f"rows {row} to {end - 1}", Reason.UNREADABLE_PARQUET, error)


def swollen(file: pq.ParquetFile, number: int, columns: list[str], settings: InputSettings) -> str | None:
    """Which column of a row group is a decompression bomb by what the file itself says of it."""
    group = file.metadata.row_group(number)
    for column in map(group.column, range(group.num_columns)):
        packed, size = column.total_compressed_size, column.total_uncompressed_size
        read = column.path_in_schema in columns
        if read and size > BOMB_BYTES and size > settings.max_expansion * packed:
            limit = f"at most {settings.max_expansion:g} bytes for each compressed one (max_expansion) expected"
            return f"{limit}, found {size} for {packed} in the column {column.path_in_schema!r}"
    return None


def row_group_sizes(stream: BinaryIO, settings: InputSettings) -> list[int]:
    """Bytes of each row group as stored; none of a file whose rows cannot be documents."""
    with pq.ParquetFile(stream) as file:
        if check_text_column(file.schema_arrow, settings):
            return []
        groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
        return [sum(one.column(column).total_compressed_size for column in range(one.num_columns)) for one in groups]
