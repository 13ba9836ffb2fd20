"""The records of CSV and TSV: a header names the columns, and a quoted field may hold line ends (RFC 4180).

Every record is parsed from its first line on without regard to those before, so a large file can be cut between any
two of them, and its pieces give what the whole file gives.
"""

import csv
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import BinaryIO, NamedTuple

from rewarm.stages.ingest.readers.streams import BrokenStreamError, Line, binary_of, in_utf8, read_blocks, split_lines
from rewarm.stages.ingest.readers.text import BYTE_ORDER_MARK, broken, other_format, too_long
from rewarm.stages.ingest.records import EXCERPT, Document, Reason, Refusal, make_document, storable
from rewarm.stages.ingest.settings import InputSettings

DELIMITERS = {"csv": (b",", b";", b"\t", b"|"), "tsv": (b"\t",)}  # by format; of several, the one that parts the header
EDGE_LINES = 1000  # lines in which the beginning of a record is looked for
AGREEING = 4  # records that follow from it


class Record(NamedTuple):
    """One record: the fields of one or several lines, or why there are none."""

    number: int  # of its first line, from 1
    offset: int  # bytes before it
    raw: bytes  # its lines, or the beginning of one that is too long
    size: int  # bytes of its lines
    fields: list[bytes]
    error: str = ""
    broken: BrokenStreamError | None = None


class Header(NamedTuple):
    """A file's first record."""

    names: list[str]
    delimiter: bytes


def read_table(
    raw: BinaryIO, kind: str, compression: str, settings: InputSettings, stop: int | None = None
) -> Iterator[Document | Refusal]:
    """The records of a stream in their order, all or those that begin before the byte ``stop``; blank lines are none.

    A broken stream ends in a refusal, and so does a file without a header that names the text.
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
    """The records from the byte ``start`` (where one begins, not 0) to before ``stop`` of a plain file.

    ``head`` is at the file's beginning, ``raw`` at ``start``. A refusal's place is the byte alone.
    """
    header = read_header(split_lines(read_blocks(head, "", settings), settings.max_record_bytes), kind, settings)
    if not isinstance(header, Header):
        return  # the first piece says so
    lines = split_lines(read_blocks(raw, "", settings), settings.max_record_bytes, start, stop)
    for record in records(lines, header.delimiter, settings):
        yield document_of(record, f"byte {record.offset}", header, settings)


def record_edges(raw: BinaryIO, kind: str, size: int, settings: InputSettings) -> list[int]:
    """Where a plain file of ``size`` bytes is cut into pieces of about ``shard_bytes``: 0, beginnings of records, size.

    The whole file is read for it, once: only so it is known which line ends are within quotes.
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
    """Where a record begins not far behind the byte ``offset`` of a plain file; ``raw`` is there, ``head`` at byte 0.

    The file is not read for it, so that quotes may be open at ``offset``: a line is taken for the end of a record if as
    many records as ``AGREEING`` follow from it that have the header's number of fields. None where no line among
    ``EDGE_LINES`` does, and of a table of one column, where every line would.
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
            return whole[1].offset  # the first may be the end of one that began in quotes
    return None


def read_header(lines: Iterator[Line], kind: str, settings: InputSettings) -> Header | Refusal | None:
    """The header, why there is none, or None of an empty file."""
    line = next((line for line in lines if line.broken or line.data.strip()), None)
    if line is None:
        return None
    if line.number == 1 and (found := binary_of(line.data)):
        return other_format("CSV" if kind == "csv" else "TSV", found, line.data)
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
    for header in made:
        if header.names.count(settings.text) == 1:
            return header
    names = max((header.names for header in made), key=len, default=[])
    several = "several of that name" if settings.text in names else ", ".join(names[:12]) or "none"
    detail = f"a first line with the columns' names and among them {settings.text!r} expected, found: {several}"
    return Refusal("file", Reason.TEXT_MISSING, storable(detail), data[:EXCERPT])


def records(lines: Iterator[Line], delimiter: bytes, settings: InputSettings) -> Iterator[Record]:
    """Lines as records; a quote opens a field only at its beginning, and a record ends where none is open."""
    limit = settings.max_record_bytes
    # The module's own limit is 128 KiB a field, for the whole process; records are bounded here.
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
    """The record that begins with a line; ``lines`` are those behind, of which it takes what it needs.

    Bytes pass through the parser as Latin-1, which keeps each: what is no UTF-8 is refused later, record by record.
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
        if delimiter == b"\t" and len(taken) == 1 and size == line.size:  # TSV that knows no quotes (IANA)
            error, fields = "", line.data.removesuffix(b"\r").split(delimiter)
    return Record(line.number, line.offset, b"\n".join(taken), size, fields, error, failure)


def document_of(record: Record, place: str, header: Header, settings: InputSettings) -> Document | Refusal:
    """The document of a record, or why it is none."""
    if record.broken:
        return broken(place, record.broken, record.raw)
    if record.size > settings.max_record_bytes:
        return too_long(place, record.raw, f"{record.size} or more (perhaps a quote is never closed)", settings)
    expected = f"{len(header.names)} fields expected, as the header has"
    if record.error:
        return Refusal(place, Reason.INVALID_CSV, f"{expected}: {record.error}", record.raw[:EXCERPT])
    if len(record.fields) != len(header.names):
        return Refusal(place, Reason.INVALID_CSV, f"{expected}, found {len(record.fields)}", record.raw[:EXCERPT])
    fields = dict(zip(header.names, record.fields, strict=True))
    return make_document(place, fields[settings.text], fields, settings, record.raw)
