"""Readers of Arrow IPC files or streams (one record batch at a time) and of Parquet files (some hundred rows at a
time).

Only the columns named in the settings are read.
"""

import os
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from rewarm.stages.ingest.format import Format, Piece, Records, Sampling
from rewarm.stages.ingest.locations import InputFile
from rewarm.stages.ingest.opening import open_random
from rewarm.stages.ingest.readers.streams import BOMB_BYTES
from rewarm.stages.ingest.records import Document, Reason, Refusal, from_microseconds, make_document
from rewarm.stages.ingest.settings import IngestSettings, InputSettings

BATCH_ROWS = 256


def check_text_column(schema: pa.Schema, settings: InputSettings) -> Refusal | None:
    """Return a refusal if no row of a file with this schema can be a document."""
    if schema.names.count(settings.text) != 1:
        many = "several of that name" if settings.text in schema.names else ", ".join(schema.names[:12]) or "none"
        detail = f"expected a column {settings.text!r}, found the columns: {many}"
        return Refusal("file", Reason.TEXT_MISSING, detail, b"")
    kind = schema.field(settings.text).type
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not is_text(value):
        detail = f"expected strings in the column {settings.text!r}, found {kind}"
        return Refusal("file", Reason.TEXT_NOT_A_STRING, detail, b"")
    return None


def wanted(schema: pa.Schema, settings: InputSettings) -> list[str]:
    """Return the columns of a file that are read."""
    return [name for name in schema.names if name in settings.columns() and schema.names.count(name) == 1]


def is_text(kind: pa.DataType) -> bool:
    """Return whether a column's values are strings, or bytes that may be UTF-8."""
    kinds = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_null)
    return any(check(kind) for check in (*kinds, pa.types.is_binary, pa.types.is_large_binary))


def documents_of(batch: pa.RecordBatch, place: str, row: int, settings: InputSettings) -> Iterator[Document | Refusal]:
    """Yield the documents of a batch; the location of its first row is ``place`` and its number ``row``."""
    for number, fields in enumerate(rows_of(batch), row):
        yield make_document(f"{place}{number}", fields[settings.text], fields, settings)


def rows_of(batch: pa.RecordBatch) -> Iterator[dict[str, Any]]:
    """Yield rows as dictionaries of Python values."""
    names = batch.schema.names
    for row in zip(*(values_of(column) for column in batch.columns), strict=True):
        yield dict(zip(names, row, strict=True))


def values_of(column: pa.Array) -> list[Any]:
    """Return a column as Python values: times as datetimes, strings as bytes, because files do not guarantee UTF-8.

    Values of unsupported types are None.
    """
    plain = column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
    kind = plain.type
    if is_text(kind):
        wide = plain.cast(pa.large_string()) if pa.types.is_string_view(kind) else plain
        values: list[Any] = wide.cast(pa.large_binary()).to_pylist()
        return values
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        since_epoch = plain.cast(pa.timestamp("us", getattr(kind, "tz", None)), safe=False).cast(pa.int64())
        return [from_microseconds(value) for value in since_epoch.to_pylist()]
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        numbers: list[Any] = plain.to_pylist()
        return numbers
    return [None] * len(plain)


def unreadable(place: str, reason: Reason, error: Exception, excerpt: bytes = b"") -> Refusal:
    """Return the refusal for rows that cannot be read from a broken file."""
    return Refusal(place, reason, (str(error) or type(error).__name__).splitlines()[0], excerpt)


def is_the_files(error: Exception) -> bool:
    """Return whether a reader's error is caused by the file's contents rather than by the disk or network."""
    return not isinstance(error, OSError) or error.errno is None


MAGIC = b"ARROW1\0\0"  # of the file format: followed by a stream, then a footer with the positions of the batches


def read_arrow(
    stream: BinaryIO, settings: InputSettings, start: int = 0, stop: int | None = None
) -> Iterator[Document | Refusal]:
    """Yield the rows of the record batches from ``start`` to before ``stop``, in order.

    A file without its footer is read as a stream as far as possible; the unreadable rest is one refusal. Raises
    ``OSError`` if the disk fails.
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
    """Yield the record batches with the columns that are read, or a refusal."""
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
    """Open a reader of the file format."""
    stream.seek(0, os.SEEK_END)
    return pa.ipc.open_file(stream, footer_offset=stream.tell(), options=options)


def stream_reader(stream: BinaryIO, begin: int, options: Any = None) -> Any:
    """Open a reader of the stream format, starting at the byte ``begin``."""
    stream.seek(begin)
    return pa.ipc.open_stream(stream, options=options)


def check_offsets(column: pa.Array) -> None:
    """Raise ``ArrowInvalid`` if offsets of a broken column are out of bounds; UTF-8 is checked for each row."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        check_offsets(column.dictionary)
        pa.DictionaryArray.from_arrays(column.indices, column.dictionary, safe=True)  # checks the indices
    elif pa.types.is_string(kind):
        column.view(pa.binary()).validate(full=True)
    elif pa.types.is_large_string(kind):
        column.view(pa.large_binary()).validate(full=True)
    else:
        column.validate(full=not pa.types.is_string_view(kind))


def batch_sizes(stream: BinaryIO, settings: InputSettings) -> list[int]:
    """Return the bytes of each record batch, assumed equal; empty for a stream or if no row can be a document."""
    if stream.read(len(MAGIC)) != MAGIC:
        return []
    size = stream.seek(0, os.SEEK_END)
    reader = file_reader(stream)
    if check_text_column(reader.schema, settings):
        return []
    count = reader.num_record_batches
    return [size * (number + 1) // count - size * number // count for number in range(count)]


BUFFER = 8 * 2**20  # bytes of a column that are read at a time


def read_parquet(
    stream: BinaryIO, settings: InputSettings, start: int = 0, stop: int | None = None
) -> Iterator[Document | Refusal]:
    """Yield the rows of the row groups from ``start`` to before ``stop``, in order.

    The unreadable rest of a broken row group is one refusal. Raises ``OSError`` if the disk fails.
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
    """Yield the rows of one row group; its first row has the number ``row`` in the file."""
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
    """Return a description of a column that is a decompression bomb according to the file's metadata, or None."""
    group = file.metadata.row_group(number)
    for column in map(group.column, range(group.num_columns)):
        packed, size = column.total_compressed_size, column.total_uncompressed_size
        read = column.path_in_schema in columns
        if read and size > BOMB_BYTES and size > settings.max_expansion * packed:
            limit = f"expected at most {settings.max_expansion:g} bytes per compressed byte (max_expansion)"
            return f"{limit}, found {size} for {packed} in the column {column.path_in_schema!r}"
    return None


def row_group_sizes(stream: BinaryIO, settings: InputSettings) -> list[int]:
    """Return the stored bytes of each row group; empty if no row can be a document."""
    with pq.ParquetFile(stream) as file:
        if check_text_column(file.schema_arrow, settings):
            return []
        groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
        return [
            sum(group.column(column).total_compressed_size for column in range(group.num_columns)) for group in groups
        ]


# -- the formats -------------------------------------------------------------------------------------------------

Sizes = Callable[[BinaryIO, InputSettings], list[int]]


def part_sizes(file: InputFile, settings: InputSettings, ask: Sizes) -> list[int]:
    """Return the bytes of each part of a file; empty if it cannot be read, which its reader reports later."""
    try:
        with open_random(file) as stream:
            return ask(stream, settings)
    except pa.ArrowException:
        return []
    except OSError as error:
        if error.errno is not None:
            raise
        return []


def cut_parts(file: InputFile, settings: InputSettings, ask: Sizes) -> list[tuple[Piece, int]]:
    """Group consecutive parts of a file into pieces of about ``shard_bytes``."""
    sizes = part_sizes(file, settings, ask)
    if len(sizes) < 2:
        return [(Piece(file), file.size)]
    pieces = []
    start, held = 0, 0
    for number, size in enumerate(sizes):
        if number > start and held + size > settings.shard_bytes:
            pieces.append((Piece(file, start, number), held))
            start, held = number, 0
        held += size
    return [*pieces, (Piece(file, start, len(sizes)), held)]


def read_arrow_file(piece: Piece, settings: IngestSettings, passed: Counter[str] | None = None) -> Records:
    """Yield the rows of a file's batches."""
    with open_random(piece.file) as stream:
        yield from read_arrow(stream, settings, piece.start or 0, piece.stop)


def read_parquet_file(piece: Piece, settings: IngestSettings, passed: Counter[str] | None = None) -> Records:
    """Yield the rows of a file's row groups."""
    with open_random(piece.file) as stream:
        yield from read_parquet(stream, settings, piece.start or 0, piece.stop)


def cut_arrow(file: InputFile, settings: InputSettings) -> list[tuple[Piece, int]]:
    """Split a file between batches."""
    return cut_parts(file, settings, batch_sizes)


def cut_parquet(file: InputFile, settings: InputSettings) -> list[tuple[Piece, int]]:
    """Split a file between row groups."""
    return cut_parts(file, settings, row_group_sizes)


def sample_arrow(file: InputFile, wanted: Sampling, settings: IngestSettings) -> list[tuple[Piece, float]]:
    """Return the batches at some offsets; a stream, and a broken file, as it is."""
    ends = list(accumulate(part_sizes(file, settings, batch_sizes)))
    if not ends:
        return [(Piece(file), file.size)]
    numbers = sorted({min(bisect_right(ends, offset), len(ends) - 1) for offset in wanted.offsets})
    starts = [0, *ends]
    return [(Piece(file, number, number + 1), ends[number] - starts[number]) for number in numbers]


def sample_parquet(file: InputFile, wanted: Sampling, settings: IngestSettings) -> list[tuple[Piece, float]]:
    """Return a copy of the row groups at some offsets, of each only rows of about four parts of text; a broken file
    as it is."""
    covered = 0.0
    try:
        with open_random(file) as stream, pq.ParquetFile(stream) as source:
            if settings.text not in source.schema_arrow.names:
                return [(Piece(file), file.size)]
            groups = [source.metadata.row_group(number) for number in range(source.metadata.num_row_groups)]
            sizes = [
                sum(group.column(column).total_compressed_size for column in range(group.num_columns))
                for group in groups
            ]
            ends = list(accumulate(sizes))
            numbers = sorted({min(bisect_right(ends, offset), len(ends) - 1) for offset in wanted.offsets})
            schema = pa.schema([source.schema_arrow.field(settings.text)])
            with pq.ParquetWriter(wanted.copy, schema) as sink:
                for number in numbers:
                    rows, held = 0, 0
                    for batch in source.iter_batches(BATCH_ROWS, [number], [settings.text]):
                        sink.write_batch(batch)
                        rows, held = rows + batch.num_rows, held + batch.nbytes
                        if held >= 4 * wanted.size:
                            break
                    covered += sizes[number] * rows / max(1, groups[number].num_rows)
    except (pa.ArrowException, OSError):
        return [(Piece(file), file.size)]
    copy = InputFile(str(wanted.copy), file.name, wanted.copy.stat().st_size, file.format, "")
    return [(Piece(copy), covered)]


PARQUET = Format(
    "parquet",
    "Parquet",
    (".parquet",),
    read_parquet_file,
    cut_parquet,
    sample_parquet,
    compressible=False,
    sequential=False,
    text_ratio=3.0,
)
ARROW = Format(
    "arrow",
    "Arrow",
    (".arrow", ".feather", ".ipc"),
    read_arrow_file,
    cut_arrow,
    sample_arrow,
    compressible=False,
    sequential=False,
)
