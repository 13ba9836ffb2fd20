"""The records of JSON lines."""

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
    """The lines of a stream in their order, all or those that begin before the byte ``stop``; blank ones are none.

    A broken stream ends in a refusal.
    """
    blocks = in_utf8(read_blocks(raw, compression, settings))
    for line in split_lines(blocks, settings.max_record_bytes, stop=stop):
        if line.number == 1 and (found := binary_of(line.data)):
            yield other_format("JSON lines", found, line.data)
            return
        if line.broken or line.data.strip():
            yield parse_line(line, f"line {line.number}, byte {line.offset}", settings)


def read_jsonl_part(raw: BinaryIO, start: int, stop: int, settings: InputSettings) -> Iterator[Document | Refusal]:
    """The lines that begin from the byte ``start`` (not 0) to before ``stop`` of a plain file.

    ``raw`` is at ``start - 1``. How many lines are before them is not known, so a refusal's place is the byte alone.
    """
    offset, blocks = next_line(read_blocks(raw, "", settings), start - 1, stop)
    for line in split_lines(blocks, settings.max_record_bytes, offset, stop):
        if line.data.strip():
            yield parse_line(line, f"byte {line.offset}", settings)


def parse_line(line: Line, place: str, settings: InputSettings) -> Document | Refusal:
    """One line of JSON lines."""
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
        return Refusal(place, Reason.INVALID_JSON, f"one JSON object a line expected: {error}", data[:EXCERPT])
    return make_json_document(place, value, data, settings)


def make_json_document(place: str, value: Any, data: bytes, settings: InputSettings) -> Document | Refusal:
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
