"""The records of a Parquet file: only the named columns, some hundred rows at a time."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from stages.ingest.records import Document, Reason, Refusal, make_document
from stages.ingest.settings import IngestSettings
from stages.ingest.timestamps import from_microseconds

BATCH_ROWS = 256


def read_parquet(path: str, settings: IngestSettings) -> Iterator[Document | Refusal]:
    """The rows in their order; what cannot be read of a broken file is one refusal. Raises ``OSError`` of the disk."""
    row = 0
    with Path(path).open("rb") as stream:
        try:
            with pq.ParquetFile(stream) as file:
                refusal = check_text_column(file.schema_arrow, settings)
                if refusal:
                    yield refusal
                    return
                wanted = [
                    settings.text,
                    settings.title,
                    settings.url,
                    settings.timestamp,
                    settings.language,
                    settings.source,
                ]
                columns = [name for name in file.schema_arrow.names if name in wanted]
                for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=columns, use_threads=False):
                    for fields in rows_of(batch):
                        yield make_document(f"row {row}", fields[settings.text], fields, settings)
                        row += 1
        except (pa.ArrowException, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:  # the disk, not the format
                raise
            stream.seek(0)
            place = f"row {row} and after" if row else "file"
            yield Refusal(place, Reason.UNREADABLE_PARQUET, str(error).splitlines()[0], stream.read(16))


def check_text_column(schema: pa.Schema, settings: IngestSettings) -> Refusal | None:
    """Why no row of a file of this schema can be a document, if so."""
    if settings.text not in schema.names:
        detail = f"a column {settings.text!r} expected, found the columns: {', '.join(schema.names[:12]) or 'none'}"
        return Refusal("file", Reason.TEXT_MISSING, detail, b"")
    kind = schema.field(settings.text).type
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not is_text(value):
        detail = f"a string column expected under {settings.text!r}, found {kind}"
        return Refusal("file", Reason.TEXT_NOT_A_STRING, detail, b"")
    return None


def is_text(kind: pa.DataType) -> bool:
    """Whether a column's values are strings, or bytes that may be UTF-8."""
    kinds = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_null)
    return any(check(kind) for check in (*kinds, pa.types.is_binary, pa.types.is_large_binary))


def rows_of(batch: pa.RecordBatch) -> Iterator[dict[str, Any]]:
    """Rows as Python values, field by field."""
    names = batch.schema.names
    for row in zip(*(values_of(column) for column in batch.columns), strict=True):
        yield dict(zip(names, row, strict=True))


def values_of(column: pa.Array) -> list[Any]:
    """A column as Python values: times as datetimes, and strings as bytes, as Parquet does not promise UTF-8.

    Values of a type that no field can have are None.
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
