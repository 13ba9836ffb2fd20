"""The records of an Arrow IPC file or stream: only the named columns, one record batch at a time."""

import os
from collections.abc import Iterator
from typing import Any, BinaryIO

import pyarrow as pa

from stages.ingest.files.settings import InputSettings
from stages.ingest.read.columns import (
    BATCH_ROWS,
    check_text_column,
    documents_of,
    is_the_files,
    unreadable,
    wanted,
)
from stages.ingest.records import Document, Reason, Refusal

MAGIC = b"ARROW1\0\0"  # of the file format, in which a stream follows, and then a footer that says where batches are


def read_arrow(
    stream: BinaryIO, settings: InputSettings, start: int = 0, stop: int | None = None
) -> Iterator[Document | Refusal]:
    """The rows of the record batches from ``start`` to before ``stop``, in their order.

    A file whose footer is lost is read as far as it goes, as a stream; what cannot be read is one refusal. Raises
    ``OSError`` of the disk.
    """
    number = start
    try:
        for batch in batches(stream, settings, start, stop):
            if isinstance(batch, Refusal):
                yield batch
                return
            for column in batch.columns:
                check_offsets(column)
            for row in range(0, batch.num_rows, BATCH_ROWS):
                yield from documents_of(batch.slice(row, BATCH_ROWS), f"batch {number}, row ", row, settings)
            number += 1
    except (pa.ArrowException, OSError, MemoryError) as error:
        if not is_the_files(error):
            raise
        stream.seek(0)
        place = f"batch {number} and after" if number else "file"
        yield unreadable(place, Reason.UNREADABLE_ARROW, error, stream.read(16))


def batches(
    stream: BinaryIO, settings: InputSettings, start: int, stop: int | None
) -> Iterator[pa.RecordBatch | Refusal]:
    """The record batches with the columns that are read, or why there are none."""
    stream.seek(0)
    is_file = stream.read(len(MAGIC)) == MAGIC
    if is_file:
        try:
            schema = file_reader(stream).schema
        except (pa.ArrowInvalid, OSError) as error:
            if not is_the_files(error):
                raise
            is_file = False
            begin = len(MAGIC)
    else:
        begin = 0
    if not is_file:
        schema = stream_reader(stream, begin).schema
    if refusal := check_text_column(schema, settings):
        yield refusal
        return
    included = [schema.get_field_index(name) for name in wanted(schema, settings)]
    options = pa.ipc.IpcReadOptions(included_fields=included, use_threads=False)
    if is_file:
        reader = file_reader(stream, options)
        yield from (reader.get_batch(number) for number in range(reader.num_record_batches)[start:stop])
    else:
        yield from stream_reader(stream, begin, options)


def file_reader(stream: BinaryIO, options: Any = None) -> Any:
    """A reader of the file format."""
    stream.seek(0, os.SEEK_END)
    return pa.ipc.open_file(stream, footer_offset=stream.tell(), options=options)


def stream_reader(stream: BinaryIO, begin: int, options: Any = None) -> Any:
    """A reader of the stream format, from the byte ``begin`` on."""
    stream.seek(begin)
    return pa.ipc.open_stream(stream, options=options)


def check_offsets(column: pa.Array) -> None:
    """``ArrowInvalid`` where a broken column points outside itself. Whether strings are UTF-8 is asked row by row."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        check_offsets(column.dictionary)
        pa.DictionaryArray.from_arrays(column.indices, column.dictionary, safe=True)  # looks at the indices
    elif pa.types.is_string(kind):
        column.view(pa.binary()).validate(full=True)
    elif pa.types.is_large_string(kind):
        column.view(pa.large_binary()).validate(full=True)
    else:
        column.validate(full=not pa.types.is_string_view(kind))


def batch_sizes(stream: BinaryIO, settings: InputSettings) -> list[int]:
    """Bytes of each record batch, taken to be alike; none of a stream, and of a file whose rows cannot be documents."""
    if stream.read(len(MAGIC)) != MAGIC:
        return []
    size = stream.seek(0, os.SEEK_END)
    reader = file_reader(stream)
    if check_text_column(reader.schema, settings):
        return []
    count = reader.num_record_batches
    return [size * (number + 1) // count - size * number // count for number in range(count)]
