"""Reader of JSON lines."""

import json
from collections.abc import Iterator
from typing import Any, BinaryIO

import orjson

from rewarm.stages.ingest.readers.streams import Line, binary_of, in_utf8, next_line, read_blocks, split_lines
from rewarm.stages.ingest.readers.text import BYTE_ORDER_MARK, broken, other_format, too_long
from rewarm.stages.ingest.records import EXCERPT, Document, Reason, Refusal, make_document, storable
from rewarm.stages.ingest.settings import InputSettings


def read_jsonl(
    raw: BinaryIO, compression: str, settings: InputSettings, stop: int | None = None
) -> Iterator[Document | Refusal]:
    """Yield the records of a stream in order, all or those that begin before the byte ``stop``; skip blank lines.

    A broken stream ends with a refusal.
    """
    blocks = in_utf8(read_blocks(raw, compression, settings))
    for line in split_lines(blocks, settings.max_record_bytes, stop=stop):
        if line.number == 1 and (found := binary_of(line.data)):
            yield other_format("JSON lines", found, line.data)
            return
        if line.broken or line.data.strip():
            yield parse_line(line, f"line {line.number}, byte {line.offset}", settings)


def read_jsonl_part(raw: BinaryIO, start: int, stop: int, settings: InputSettings) -> Iterator[Document | Refusal]:
    """Yield the records of a plain file that begin from the byte ``start`` (not 0) to before ``stop``.

    ``raw`` is at ``start - 1``. The line numbers are unknown, so the location of a refusal is only the byte.
    """
    offset, blocks = next_line(read_blocks(raw, "", settings), start - 1, stop)
    for line in split_lines(blocks, settings.max_record_bytes, offset, stop):
        if line.data.strip():
            yield parse_line(line, f"byte {line.offset}", settings)


def parse_line(line: Line, place: str, settings: InputSettings) -> Document | Refusal:
    """Return the document of one line, or a refusal."""
    if line.broken:
        return broken(place, line.broken, line.data)
    if line.size > settings.max_record_bytes:
        return too_long(place, line.data, str(line.size), settings)
    data = line.data.removeprefix(BYTE_ORDER_MARK) if line.offset == 0 else line.data
    try:
        value = parse_json(data)
    except UnicodeDecodeError as error:
        return Refusal(place, Reason.INVALID_UTF8, str(error), data[:EXCERPT])
    except (ValueError, RecursionError) as error:
        return Refusal(place, Reason.INVALID_JSON, f"expected one JSON object per line: {error}", data[:EXCERPT])
    return make_json_document(place, value, data, settings)


def make_json_document(place: str, value: Any, data: bytes, settings: InputSettings) -> Document | Refusal:
    """Return the document of one JSON value, or a refusal."""
    if not isinstance(value, dict):
        found = f"expected an object, found {type(value).__name__}"
        return Refusal(place, Reason.NOT_AN_OBJECT, found, data[:EXCERPT])
    if settings.text not in value:
        fields = ", ".join(sorted(value)[:12]) or "none"
        detail = f"expected a field {settings.text!r}, found the fields: {fields}"
        return Refusal(place, Reason.TEXT_MISSING, storable(detail), data[:EXCERPT])
    return make_document(place, value[settings.text], value, settings, data)


def parse_json(data: bytes) -> Any:
    """Return the value of one line; values that Python writes but orjson refuses (NaN, lone surrogates) are
    accepted."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return json.loads(data.decode())
