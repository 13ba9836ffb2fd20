"""Reader of CSV and TSV: a header names the columns, and a quoted field may contain line ends (RFC 4180).

Every record is parsed independently of those before it, so a large file can be split between any two records without
changing the result.
"""

import csv
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain, islice, pairwise
from typing import BinaryIO, NamedTuple

from rewarm.stages.ingest.format import Format, Piece, Records, Sampling, keep_whole, sample_beginning
from rewarm.stages.ingest.locations import InputFile
from rewarm.stages.ingest.opening import open_raw
from rewarm.stages.ingest.readers.streams import (
    BrokenStreamError,
    Line,
    binary_of,
    in_utf8,
    is_plain,
    read_blocks,
    split_lines,
)
from rewarm.stages.ingest.readers.text import BYTE_ORDER_MARK, broken, other_format, too_long
from rewarm.stages.ingest.records import EXCERPT, Document, Reason, Refusal, make_document, storable
from rewarm.stages.ingest.settings import IngestSettings, InputSettings

DELIMITERS = {"csv": (b",", b";", b"\t", b"|"), "tsv": (b"\t",)}  # by format; the one that occurs in the header is used
EDGE_LINES = 1000  # lines searched for the beginning of a record
AGREEING = 4  # subsequent valid records that confirm it


class Record(NamedTuple):
    """One record: the fields of one or more lines, or an error."""

    number: int  # of its first line, from 1
    offset: int  # bytes before it
    raw: bytes  # its lines, truncated if too long
    size: int  # bytes of its lines
    fields: list[bytes]
    error: str = ""
    broken: BrokenStreamError | None = None


class Header(NamedTuple):
    """The first record of a file."""

    names: list[str]
    delimiter: bytes


def read_table(
    raw: BinaryIO, kind: str, compression: str, settings: InputSettings, stop: int | None = None
) -> Iterator[Document | Refusal]:
    """Yield the records of a stream in order, all or those that begin before the byte ``stop``; skip blank lines.

    A broken stream ends with a refusal, and so does a file whose header does not name the text column.
    """
    lines = split_lines(in_utf8(read_blocks(raw, compression, settings)), settings.max_record_bytes, stop=stop)
    header = read_header(lines, kind, settings)
    if isinstance(header, Header):
        for record in records(lines, header.delimiter, settings):
            yield document_of(record, f"line {record.number}, byte {record.offset}", header, settings)
    elif header is not None:
        yield header


def read_table_part(
    head: BinaryIO, raw: BinaryIO, kind: str, start: int, stop: int, settings: InputSettings
) -> Iterator[Document | Refusal]:
    """Yield the records of a plain file from the byte ``start`` (the start of a record, not 0) to before ``stop``.

    ``head`` is at the file's beginning, ``raw`` at ``start``. The location of a refusal is only the byte.
    """
    header = read_header(split_lines(read_blocks(head, "", settings), settings.max_record_bytes), kind, settings)
    if not isinstance(header, Header):
        return  # reported by the first piece
    lines = split_lines(read_blocks(raw, "", settings), settings.max_record_bytes, start, stop)
    for record in records(lines, header.delimiter, settings):
        yield document_of(record, f"byte {record.offset}", header, settings)


def record_edges(raw: BinaryIO, kind: str, size: int, settings: InputSettings) -> list[int]:
    """Return the positions that split a plain file into pieces of about ``shard_bytes``: 0, starts of records, size.

    Reads the whole file once, which is the only way to know which line ends are inside quotes.
    """
    lines = split_lines(read_blocks(raw, "", settings), settings.max_record_bytes)
    header = read_header(lines, kind, settings)
    edges = [0]
    if isinstance(header, Header):
        for record in records(lines, header.delimiter, settings):
            if record.offset - edges[-1] >= settings.shard_bytes:
                edges.append(record.offset)
    return [*edges, size]


def record_near(head: BinaryIO, raw: BinaryIO, kind: str, offset: int, settings: InputSettings) -> int | None:
    """Return the start of a record soon after the byte ``offset`` of a plain file; ``raw`` is there, ``head`` at byte
    0.

    The file is not read up to ``offset``, so quotes may be open there: a line counts as the end of a record if it is
    followed by ``AGREEING`` records with the header's number of fields. Returns None if no line among ``EDGE_LINES``
    qualifies, and for a table of one column, in which every line would.
    """
    header = read_header(split_lines(read_blocks(head, "", settings), settings.max_record_bytes), kind, settings)
    if not isinstance(header, Header) or len(header.names) < 2:
        return None
    found = split_lines(read_blocks(raw, "", settings), settings.max_record_bytes, offset)
    lines = list(islice(found, EDGE_LINES))
    for place in range(1, len(lines)):
        follow = list(islice(records(iter(lines[place:]), header.delimiter, settings), AGREEING))
        whole = [record for record in follow if not record.error and len(record.fields) == len(header.names)]
        if len(whole) == AGREEING:
            return whole[1].offset  # the first may be the end of a quoted record
    return None


def read_header(lines: Iterator[Line], kind: str, settings: InputSettings) -> Header | Refusal | None:
    """Return the header, a refusal, or None for an empty file."""
    line = next((line for line in lines if line.broken or line.data.strip()), None)
    if line is None:
        return None
    if line.number == 1 and (binary := binary_of(line.data)):
        return other_format("CSV" if kind == "csv" else "TSV", binary, line.data)
    data = line.data.removeprefix(BYTE_ORDER_MARK) if line.offset == 0 else line.data
    if line.broken:
        return broken("file", line.broken, data)
    first = line._replace(data=data)
    whole = next(records(chain([first], lines), DELIMITERS[kind][0], settings), None)
    parts = [first._replace(data=part, size=len(part)) for part in (whole.raw if whole else data).split(b"\n")]
    made = [
        Header([field.decode(errors="replace").strip() for field in record.fields], delimiter)
        for delimiter in DELIMITERS[kind]
        for record in islice(records(iter(parts), delimiter, settings), 1)
    ]
    if b"\r" in data.rstrip(b"\r") and b'"' not in data:
        detail = (
            "expected lines that end with LF or CRLF, found CR alone (as older Excel for Mac writes); convert the file"
        )
        return Refusal("file", Reason.INVALID_CSV, detail, data[:EXCERPT])
    for header in made:
        if header.names.count(settings.text) == 1:
            return header
    names = max((header.names for header in made), key=len, default=[])
    several = "several of that name" if settings.text in names else ", ".join(names[:12]) or "none"
    detail = f"expected a first line with the column names, including {settings.text!r}, found: {several}"
    return Refusal("file", Reason.TEXT_MISSING, storable(detail), data[:EXCERPT])


def records(lines: Iterator[Line], delimiter: bytes, settings: InputSettings) -> Iterator[Record]:
    """Combine lines into records; a quote counts only at the start of a field, and a record ends outside of quotes."""
    limit = settings.max_record_bytes
    # The csv module's process-wide limit is 128 KiB per field; here the size of records is limited instead.
    csv.field_size_limit(max(csv.field_size_limit(), limit + 2))
    for line in lines:
        number, offset, data, size, failure = line
        if failure or size > limit:
            yield Record(number, offset, data, size, [], "", failure)
        elif b'"' in data:
            yield quoted_record(line, lines, delimiter, limit)
        elif data.strip():
            yield Record(number, offset, data, size, data.removesuffix(b"\r").split(delimiter))


def quoted_record(line: Line, lines: Iterator[Line], delimiter: bytes, limit: int) -> Record:
    """Return the record that begins with a line; further lines are consumed from ``lines`` as needed.

    Bytes pass through the parser as Latin-1, which preserves them: invalid UTF-8 is refused later, for each record.
    """
    taken = [line.data]
    size, failure = line.size, line.broken

    def feed() -> Iterable[str]:
        nonlocal size, failure
        yield line.data.decode("latin-1") + "\n"
        for following in lines:
            size += 1 + following.size
            failure = following.broken
            if failure or size > limit:
                return
            taken.append(following.data)
            yield following.data.decode("latin-1") + "\n"

    error, fields = "", []
    try:
        fields = [
            field.encode("latin-1") for field in next(csv.reader(feed(), delimiter=delimiter.decode(), strict=True))
        ]
    except csv.Error as problem:
        error = str(problem)
        if delimiter == b"\t" and len(taken) == 1 and size == line.size:  # TSV without quoting (IANA)
            error, fields = "", line.data.removesuffix(b"\r").split(delimiter)
    return Record(line.number, line.offset, b"\n".join(taken), size, fields, error, failure)


def document_of(record: Record, place: str, header: Header, settings: InputSettings) -> Document | Refusal:
    """Return the document of a record, or a refusal."""
    if record.broken:
        return broken(place, record.broken, record.raw)
    if record.size > settings.max_record_bytes:
        return too_long(place, record.raw, f"{record.size} or more (possibly an unclosed quote)", settings)
    expected = f"expected {len(header.names)} fields, as in the header"
    if record.error:
        return Refusal(place, Reason.INVALID_CSV, f"{expected}: {record.error}", record.raw[:EXCERPT])
    if len(record.fields) != len(header.names):
        return Refusal(place, Reason.INVALID_CSV, f"{expected}, found {len(record.fields)}", record.raw[:EXCERPT])
    fields = dict(zip(header.names, record.fields, strict=True))
    return make_document(place, fields[settings.text], fields, settings, record.raw)


def read(piece: Piece, settings: IngestSettings, passed: Counter[str] | None = None) -> Records:
    """Yield the records of a file, or of those that begin in the piece."""
    file = piece.file
    if piece.start:
        stop = file.size if piece.stop is None else piece.stop
        with open_raw(file) as head, open_raw(file, piece.start) as stream:
            yield from read_table_part(head, stream, file.format, piece.start, stop, settings)
    else:
        with open_raw(file) as stream:
            yield from read_table(stream, file.format, file.compression, settings, piece.stop)


def cut(file: InputFile, settings: InputSettings) -> list[tuple[Piece, int]]:
    """Split a plain file between records."""
    if not is_plain(file):
        return keep_whole(file, settings)
    with open_raw(file) as stream:
        edges = record_edges(stream, file.format, file.size, settings)
    return [(Piece(file, start, stop), stop - start) for start, stop in pairwise(edges)]


def sample(file: InputFile, wanted: Sampling, settings: IngestSettings) -> list[tuple[Piece, float]]:
    """Return ranges of a plain file from a record to a record; its beginning if records cannot be found there."""

    def near(offset: int) -> int | None:
        with open_raw(file) as head, open_raw(file, offset) as raw:
            return record_near(head, raw, file.format, offset, settings)

    parts: list[tuple[Piece, float]] = []
    for offset in wanted.offsets if is_plain(file) else []:
        start, end = near(offset), offset + wanted.size
        if start is None:
            return sample_beginning(file, wanted, settings)
        stop = max(start, (near(end) if end < file.size else None) or file.size)
        parts.append((Piece(file, start, stop), stop - start))
    return parts or sample_beginning(file, wanted, settings)


CSV = Format("csv", "CSV", (".csv",), read, cut, sample)
TSV = Format("tsv", "TSV", (".tsv",), read, cut, sample)
