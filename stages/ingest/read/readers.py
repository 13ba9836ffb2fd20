"""The records of one file of any accepted format, streaming."""

import json
from collections.abc import Iterator
from typing import Any

import orjson

from stages.ingest.files.streams import BrokenStreamError, Line, read_blocks, split_lines
from stages.ingest.read.parquet import read_parquet
from stages.ingest.records import EXCERPT, Document, Reason, Refusal, make_document, storable
from stages.ingest.settings import IngestSettings

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def read_records(
    path: str, name: str, kind: str, compression: str, settings: IngestSettings
) -> Iterator[Document | Refusal]:
    """The records of a file in their order, streaming; blank lines are none.

    A broken file ends in a refusal. Raises ``OSError`` only where the disk fails.
    """
    if kind == "parquet":
        yield from read_parquet(path, settings)
    elif kind == "text":
        yield read_text(path, name, compression, settings)
    else:
        for line in split_lines(read_blocks(path, compression), settings.max_record_bytes):
            if line.broken or line.data.strip():
                yield parse_line(line, settings)


def read_text(path: str, name: str, compression: str, settings: IngestSettings) -> Document | Refusal:
    """A text file is one document; its name stands as the address. Half a file is no document."""
    data = bytearray()
    try:
        for block in read_blocks(path, compression):
            data += block
            if len(data) > settings.max_record_bytes:
                return too_long("file", bytes(data), f"more than {settings.max_record_bytes}", settings)
    except BrokenStreamError as error:
        return broken("file", error, bytes(data))
    return make_document("file", bytes(data).removeprefix(BYTE_ORDER_MARK), {settings.url: name}, settings)


def parse_line(line: Line, settings: IngestSettings) -> Document | Refusal:
    """One line of JSON lines."""
    place = f"line {line.number}, byte {line.offset}"
    if line.broken:
        return broken(place, line.broken, line.data)
    if line.size > settings.max_record_bytes:
        return too_long(place, line.data, str(line.size), settings)
    data = line.data.removeprefix(BYTE_ORDER_MARK) if line.number == 1 else line.data
    try:
        value = parse_json(data)
    except UnicodeDecodeError as error:
        return Refusal(place, Reason.INVALID_UTF8, str(error), data[:EXCERPT])
    except (ValueError, RecursionError) as error:
        return Refusal(place, Reason.INVALID_JSON, f"one JSON object a line expected: {error}", data[:EXCERPT])
    return make_json_document(place, value, data, settings)


def make_json_document(place: str, value: Any, data: bytes, settings: IngestSettings) -> Document | Refusal:
    """A document of one JSON value."""
    if not isinstance(value, dict):
        found = f"an object expected, found {type(value).__name__}"
        return Refusal(place, Reason.NOT_AN_OBJECT, found, data[:EXCERPT])
    if settings.text not in value:
        fields = ", ".join(sorted(value)[:12]) or "none"
        detail = f"a field {settings.text!r} expected, found the fields: {fields}"
        return Refusal(place, Reason.TEXT_MISSING, storable(detail), data[:EXCERPT])
    return make_document(place, value[settings.text], value, settings, data)


def parse_json(data: bytes) -> Any:
    """The value of one line. What orjson refuses but Python's own writer makes (NaN, lone surrogates) is read too."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return json.loads(data.decode())


def broken(place: str, error: BrokenStreamError, data: bytes) -> Refusal:
    """The rest of a compressed file that cannot be read."""
    return Refusal(place, Reason.TRUNCATED if error.truncated else Reason.CORRUPT, str(error), data[:EXCERPT])


def too_long(place: str, data: bytes, found: str, settings: IngestSettings) -> Refusal:
    """A record above the limit."""
    detail = f"at most {settings.max_record_bytes} bytes (max_record_bytes) expected, found {found}"
    return Refusal(place, Reason.TOO_LONG, detail, data[:EXCERPT])
