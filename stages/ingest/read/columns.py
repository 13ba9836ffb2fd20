"""Rows of Arrow record batches as documents, whatever file they come from."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from stages.ingest.files.settings import InputSettings
from stages.ingest.records import Document, Reason, Refusal, make_document
from stages.ingest.timestamps import from_microseconds

BATCH_ROWS = 256


def check_text_column(schema: pa.Schema, settings: InputSettings) -> Refusal | None:
    """Why no row of a file of this schema can be a document, if so."""
    if schema.names.count(settings.text) != 1:
        many = "several of that name" if settings.text in schema.names else ", ".join(schema.names[:12]) or "none"
        detail = f"a column {settings.text!r} expected, found the columns: {many}"
        return Refusal("file", Reason.TEXT_MISSING, detail, b"")
    kind = schema.field(settings.text).type
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not is_text(value):
        detail = f"a string column expected under {settings.text!r}, found {kind}"
        return Refusal("file", Reason.TEXT_NOT_A_STRING, detail, b"")
    return None


def wanted(schema: pa.Schema, settings: InputSettings) -> list[str]:
    """The columns of a file that are read."""
    return [name for name in schema.names if name in settings.columns() and schema.names.count(name) == 1]


def is_text(kind: pa.DataType) -> bool:
    """Whether a column's values are strings, or bytes that may be UTF-8."""
    kinds = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_null)
    return any(check(kind) for check in (*kinds, pa.types.is_binary, pa.types.is_large_binary))


def documents_of(batch: pa.RecordBatch, place: str, row: int, settings: InputSettings) -> Iterator[Document | Refusal]:
    """The rows of a batch, the first of which is at ``place`` and the number ``row``."""
    for number, fields in enumerate(rows_of(batch), row):
        yield make_document(f"{place}{number}", fields[settings.text], fields, settings)


def rows_of(batch: pa.RecordBatch) -> Iterator[dict[str, Any]]:
    """Rows as Python values, field by field."""
    names = batch.schema.names
    for row in zip(*(values_of(column) for column in batch.columns), strict=True):
        yield dict(zip(names, row, strict=True))


def values_of(column: pa.Array) -> list[Any]:
    """A column as Python values: times as datetimes, and strings as bytes, as no file promises that they are UTF-8.

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


def unreadable(place: str, reason: Reason, error: Exception, excerpt: bytes = b"") -> Refusal:
    """Rows that a broken file does not give."""
    return Refusal(place, reason, (str(error) or type(error).__name__).splitlines()[0], excerpt)


def is_the_files(error: Exception) -> bool:
    """Whether what a reader raised is the fault of the file's format, and not of the disk or network it lies on."""
    return not isinstance(error, OSError) or error.errno is None
