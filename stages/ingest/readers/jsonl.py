"""Reader of JSON lines."""

import json
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, BinaryIO

import orjson

from rewarm.stages.ingest.format import Format, Piece, Records, Sampling, keep_whole, sample_beginning
from rewarm.stages.ingest.locations import InputFile
from rewarm.stages.ingest.opening import open_raw
from rewarm.stages.ingest.readers.streams import (
    Line,
    binary_of,
    in_utf8,
    is_plain,
    next_line,
    read_blocks,
    split_lines,
)
from rewarm.stages.ingest.readers.text import BYTE_ORDER_MARK, broken, other_format, too_long
from rewarm.stages.ingest.records import EXCERPT, Document, Reason, Refusal, make_document, storable
from rewarm.stages.ingest.settings import IngestSettings, InputSettings


def read_jsonl(
    raw: BinaryIO, compression: str, settings: InputSettings, stop: int | None = None
) -> Iterator[Document | Refusal]:
    """Yield the records of a stream in order, all or those that begin before the byte ``stop``; skip blank lines.

    A broken stream ends with a refusal.
    """
    blocks = in_utf8(read_blocks(raw, compression, settings))
    for line in split_lines(blocks, settings.max_record_bytes, stop=stop):
        if line.number == 1 and (binary := binary_of(line.data)):
            yield other_format("JSON lines", binary, line.data)
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
    data = line.data.removeprefix(BYTE_ORDER_MARK)  # also where files were joined
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


def read(piece: Piece, settings: IngestSettings, passed: Counter[str] | None = None) -> Records:
    """Yield the records of a file, or of those of its lines that begin in the piece."""
    file = piece.file
    if piece.start:
        with open_raw(file, piece.start - 1) as stream:
            stop = file.size if piece.stop is None else piece.stop
            yield from read_jsonl_part(stream, piece.start, stop, settings)
    else:
        with open_raw(file) as stream:
            yield from read_jsonl(stream, file.compression, settings, piece.stop)


def cut(file: InputFile, settings: InputSettings) -> list[tuple[Piece, int]]:
    """Split a plain file into ranges of equal size."""
    if not is_plain(file):
        return keep_whole(file, settings)
    count = -(-file.size // settings.shard_bytes)
    edges = [file.size * number // count for number in range(count + 1)]
    return [(Piece(file, start, stop), stop - start) for start, stop in pairwise(edges)]


def sample(file: InputFile, wanted: Sampling, settings: IngestSettings) -> list[tuple[Piece, float]]:
    """Return ranges of a plain file."""
    if not is_plain(file):
        return sample_beginning(file, wanted, settings)
    ranges = [(offset, min(offset + wanted.size, file.size)) for offset in wanted.offsets]
    return [(Piece(file, start, stop), stop - start) for start, stop in ranges]


JSONL = Format("jsonl", "JSON lines", (".jsonl", ".ndjson", ".json"), read, cut, sample)
