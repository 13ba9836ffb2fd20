"""Columns of numbers in Arrow IPC files: written in blocks, read column by column without the rest."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.ipc

from rewarm.stages.core.storage import Folder

BLOCK_ROWS = 2**16  # in every record batch but a file's last
Column = npt.NDArray[Any]
WIDE = pa.binary(16)  # as numpy: S16


def numpy_type(kind: pa.DataType) -> np.dtype[Any]:
    """Return the numpy type of a column."""
    return np.dtype("S16") if kind == WIDE else np.dtype(kind.to_pandas_dtype())


def to_arrow(values: Column, kind: pa.DataType) -> pa.Array:
    """Return an Arrow array over the same memory."""
    values = np.ascontiguousarray(values, numpy_type(kind))
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(values.view(np.uint8))])


def to_numpy(column: pa.Array) -> Column:
    """Return the values of a column without nulls as a zero-copy view of memory or a mapped file."""
    kind = numpy_type(column.type)
    found: Column = np.frombuffer(column.buffers()[1], kind, len(column), column.offset * kind.itemsize)
    return found


class ColumnSink:
    """Writer of columns of equal length, row by row; the file appears when the block succeeds."""

    def __init__(self, folder: Folder, name: str, schema: pa.Schema) -> None:
        self.folder, self.name, self.schema = folder, name, schema
        self.held: list[list[Column]] = []
        self.held_rows = 0
        self.stack = ExitStack()

    def __enter__(self) -> Self:
        scratch = self.stack.enter_context(self.folder.writing(self.name))
        self.writer = self.stack.enter_context(pa.ipc.new_file(scratch, self.schema))
        return self

    def add(self, columns: Sequence[Column]) -> None:
        """Append rows: a one-dimensional array for each field."""
        self.held.append([np.asarray(column) for column in columns])
        self.held_rows += len(columns[0])
        if self.held_rows >= BLOCK_ROWS:
            self.flush(self.held_rows // BLOCK_ROWS * BLOCK_ROWS)

    def flush(self, count: int) -> None:
        """Write the first ``count`` buffered rows."""
        joined = [np.concatenate(parts) for parts in zip(*self.held, strict=True)]
        for start in range(0, count, BLOCK_ROWS):
            block = [column[start : min(start + BLOCK_ROWS, count)] for column in joined]
            arrays = [to_arrow(column, field.type) for column, field in zip(block, self.schema, strict=True)]
            self.writer.write_batch(pa.record_batch(arrays, schema=self.schema))
        self.held = [[column[count:] for column in joined]]
        self.held_rows -= count

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        if kind is not None:
            return self.stack.__exit__(kind, error, trace)
        with self.stack:  # an error in this block also leaves no file
            if self.held_rows:
                self.flush(self.held_rows)
        return None


def write_columns(folder: Folder, name: str, schema: pa.Schema, columns: Sequence[Column]) -> None:
    """Write a whole file at once."""
    with ColumnSink(folder, name, schema) as sink:
        sink.add(columns)


def open_columns(folder: Folder, name: str, fields: Sequence[int] | None = None) -> pa.ipc.RecordBatchFileReader:
    """Open a reader of the fields with these schema positions; a local file is memory-mapped and read lazily."""
    options = pa.ipc.IpcReadOptions(included_fields=None if fields is None else list(fields))
    if folder.is_local:
        return pa.ipc.open_file(pa.memory_map(str(folder.path / name)), options=options)
    filesystem, path = folder.filesystem()
    return pa.ipc.open_file(filesystem.open_input_file(f"{path}/{name}"), options=options)


def blocks(folder: Folder, name: str, fields: Sequence[int] | None = None) -> Iterator[list[Column]]:
    """Yield the columns block by block, in the order of the schema."""
    reader = open_columns(folder, name, fields)
    for number in range(reader.num_record_batches):
        yield [to_numpy(column) for column in reader.get_batch(number).columns]


def read_columns(folder: Folder, name: str, schema: pa.Schema) -> list[Column]:
    """Return the whole columns in memory."""
    parts = [[np.empty(0, numpy_type(field.type)) for field in schema], *blocks(folder, name)]
    return [np.concatenate(column) for column in zip(*parts, strict=True)]
