"""Reader of web archives (WARC, WET), streaming, in bounded memory.

A WARC file is a sequence of records: a line ``WARC/1.0``, header fields, an empty line, a block of ``Content-Length``
bytes, two line ends (ISO 28500). Records are framed here rather than by FastWARC's iterator, because crawls contain
broken records: that iterator ends silently at a truncated gzip member, cannot continue after an unreadable record, and
refuses zstd windows above 128 MiB. Here a broken record is one refusal, and reading continues with the next record;
only if the compressed stream itself is broken is the rest of the file lost, which is also one refusal.

Documents are selected by record type, regardless of the file name: ``response`` (pages as fetched), ``resource`` (files
as stored by warcit and Browsertrix) and ``conversion`` (the text of WET files).
"""

import io
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO

from fastwarc.warc import HeaderMap

from rewarm.stages.ingest.filters.urls import host_of
from rewarm.stages.ingest.format import Format, Piece, Records
from rewarm.stages.ingest.opening import open_raw
from rewarm.stages.ingest.readers.http import read_response
from rewarm.stages.ingest.readers.payload import PLAIN, media_type, parse_label, read_payload
from rewarm.stages.ingest.readers.streams import ARC, BrokenStreamError, read_blocks
from rewarm.stages.ingest.records import EXCERPT, Document, Reason, Refusal, make_document, parse_timestamp
from rewarm.stages.ingest.settings import IngestSettings

BROKEN_RECORD = "broken record"
NO_DOCUMENTS = "no documents in archive"
RECORD_TYPE = "record type"
DOCUMENTS = ("response", "resource", "conversion")
WITHOUT = ("warcinfo", "request", "metadata", "revisit")  # describe other records and contain no documents
PREFIX = re.compile(r"urn:\w+:(?=https?:)")  # Browsertrix: urn:text:http://… is the text of that page
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
MAX_HEAD = 2**16  # bytes of a record's header fields; URLs are rarely longer than 2 KiB
HEAD_END = re.compile(rb"\r?\n\r?\n")
RECORD_START = re.compile(rb"(?<=\n)WARC/[01]\.")
VERSION = b"WARC/"
OLD_ARCHIVE = b"filedesc://"
LINE_ENDS = b"\r\n"


@dataclass(frozen=True, slots=True)
class Record:
    """One record of an archive."""

    place: str  # its number from 0, and its first byte in the uncompressed stream
    headers: HeaderMap
    block: bytes


def read_warc(
    raw: BinaryIO, compression: str, settings: IngestSettings, passed: Counter[str] | None = None
) -> Iterator[Document | Refusal]:
    """Yield the documents of an archive in order.

    ``raw`` returns the file's stored bytes, compressed by "gzip", "zstd", "bzip2" or "" (per record or as a whole).
    Records that only describe others (``WITHOUT``) are skipped; ``passed`` counts them by type. An archive without
    other records is one refusal, and a record of any other type is a refusal. At most ``max_record_bytes`` of a record
    are in memory. A page that its crawler truncated (``WARC-Truncated``) is a document. Raises ``OSError`` only if
    reading ``raw`` fails.
    """
    without: Counter[str] = Counter()
    given = False
    for record in read_frames(Stream(read_blocks(raw, compression, settings)), settings.max_record_bytes):
        kind = "" if isinstance(record, Refusal) else (record.headers.get("WARC-Type") or "").strip().lower()
        if kind in WITHOUT:
            without[kind] += 1
            continue
        given = True
        yield record if isinstance(record, Refusal) else make_record(record, kind, settings)
    if passed is not None:
        passed.update({f"record of type {kind}": count for kind, count in without.items()})
    if without and not given:
        counts = ", ".join(f"{count} × {kind}" for kind, count in sorted(without.items()))
        yield Refusal("file", NO_DOCUMENTS, f"expected records of type {' or '.join(DOCUMENTS)}, found {counts}", b"")


def make_record(record: Record, kind: str, settings: IngestSettings) -> Document | Refusal:
    """Return the document of a record, with URL and time from the archive and the host as source."""
    url = PREFIX.sub("", (record.headers.get("WARC-Target-URI") or "").strip("<> ")) or None
    timestamp = parse_timestamp(record.headers.get("WARC-Date"))
    label = parse_label(record.headers.get("Content-Type"))
    if kind == "response" and (label.mime in (None, "application/http") or record.block.startswith(b"HTTP/")):
        cut = "WARC-Truncated" in record.headers
        found = read_response(record.block, url, timestamp, settings, cut)
    elif kind == "conversion" and media_type(record.block, label.mime or PLAIN) == PLAIN and not label.charset:
        language = (record.headers.get("WARC-Identified-Content-Language") or "").split(",")[0]
        fields = {settings.url: url, settings.timestamp: timestamp, settings.language: language or None}
        found = make_document("", record.block, fields, settings, record.block)
    elif kind in DOCUMENTS:
        found = read_payload(record.block, label, url, timestamp, settings)
    else:
        detail = f"expected a record of type {' or '.join((*DOCUMENTS, *WITHOUT))}, found {kind or 'none'}"
        found = Refusal("", RECORD_TYPE, detail, record.block[:EXCERPT])
    if isinstance(found, Refusal):
        detail = f"{found.detail} ({url})" if url else found.detail
        return replace(found, location=record.place, detail=detail)
    return replace(found, source=host_of(url), location=record.place)


# -- records -----------------------------------------------------------------------------------------------------


def read_frames(stream: "Stream", limit: int) -> Iterator[Record | Refusal]:
    """Yield the records of a stream and refusals between them; blocks of more than ``limit`` bytes are refused."""
    number = 0
    if stream.peek(len(BYTE_ORDER_MARK)) == BYTE_ORDER_MARK:
        stream.take(len(BYTE_ORDER_MARK))
    while True:
        stream.pass_over(LINE_ENDS)
        place = f"record {number}, byte {stream.offset}"
        start = stream.peek(EXCERPT)
        if not start:
            break
        if start.startswith(VERSION):
            yield read_frame(stream, place, limit)
        else:
            found = stream.to_next_record()
            other = f"ARC ({ARC})" if start.startswith(OLD_ARCHIVE) else f"{found} other bytes"
            detail = f"expected a record (WARC/1.0 …), found {other}"
            yield Refusal(place, BROKEN_RECORD, detail, start)
        number += 1
    if stream.broken:
        yield Refusal(f"{place} and after", stream.broken.reason, str(stream.broken), b"")


def read_frame(stream: "Stream", place: str, limit: int) -> Record | Refusal:
    """Return the record at the stream's position. After a broken record, the stream is at the next one."""
    head = stream.take_head()
    if head is None:
        return without_end(stream, place)
    headers = HeaderMap()
    headers.parse(io.BytesIO(re.sub(rb"\r?\n", b"\r\n", head)), has_status_line=True)
    stated = (headers.get("Content-Length") or "").strip()
    if not (stated.isascii() and stated.isdigit()):
        stream.to_next_record()
        found = f"found {stated!r}" if stated else "found none"
        return Refusal(place, BROKEN_RECORD, f"expected a number of bytes in Content-Length, {found}", head[:EXCERPT])
    length = int(stated)
    if length > limit:
        passed = stream.skip(length)
        if passed < length:
            return cut_short(stream, place, f"Content-Length says {length} bytes", passed, head)
        detail = f"expected at most {limit} bytes (max_record_bytes), found {length}"
        return Refusal(place, Reason.TOO_LONG, detail, head[:EXCERPT])
    block = stream.take(length)
    after = stream.peek(len(VERSION))
    if len(block) == length and (not after or after.startswith((b"\n", b"\r", VERSION))):
        return Record(place, headers, block)
    return of_another_length(stream, place, block, length, head)


def without_end(stream: "Stream", place: str) -> Refusal:
    """Return the refusal for a record whose header fields do not end."""
    start = stream.peek(MAX_HEAD)
    if len(start) < MAX_HEAD:
        return cut_short(stream, place, "header fields end with an empty line", len(stream.take(MAX_HEAD)), start)
    stream.to_next_record()
    return Refusal(place, BROKEN_RECORD, f"expected at most {MAX_HEAD} bytes of header fields", start[:EXCERPT])


def of_another_length(stream: "Stream", place: str, block: bytes, length: int, head: bytes) -> Refusal:
    """Return the refusal for a record whose block is longer than declared, includes later records or is truncated."""
    stated = f"Content-Length says {length} bytes"
    if stream.broken and len(block) < length:
        return cut_short(stream, place, stated, len(block), head)
    stream.give_back(block)
    passed = stream.to_next_record()
    if not stream.peek(1):
        return cut_short(stream, place, stated, passed, head)
    return Refusal(place, BROKEN_RECORD, f"{stated}, the next record begins after {passed}", head[:EXCERPT])


def cut_short(stream: "Stream", place: str, wanted: str, found: int, start: bytes) -> Refusal:
    """Return the refusal for a record in the middle of which the file ends or becomes unreadable."""
    broken, stream.broken = stream.broken, None
    reason = broken.reason if broken else Reason.TRUNCATED
    why = f": {broken}" if broken else ""
    return Refusal(place, reason, f"{wanted}, the stream ends after {found}{why}", start[:EXCERPT])


# -- bytes -------------------------------------------------------------------------------------------------------


class Stream:
    """Stream over blocks of bytes with lookahead; ``broken`` is the error that ended it early."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self.blocks = blocks
        self.held = b""  # buffer; bytes before ``at`` are consumed
        self.at = 0
        self.offset = 0  # bytes of the stream consumed so far
        self.broken: BrokenStreamError | None = None

    def fill(self, size: int) -> int:
        """Buffer at least ``size`` bytes, fewer at the end; return the number of buffered bytes."""
        have = len(self.held) - self.at
        if have >= size:
            return have
        parts = [self.held[self.at :]]
        while have < size:
            block = self.next_block()
            if not block:
                break
            parts.append(block)
            have += len(block)
        self.held, self.at = b"".join(parts), 0
        return have

    def next_block(self) -> bytes:
        """Return more bytes, empty at the end."""
        try:
            return next(self.blocks, b"")
        except BrokenStreamError as error:
            self.broken = error
        self.blocks = iter(())
        return b""

    def peek(self, size: int) -> bytes:
        """Return the next bytes without consuming them."""
        self.fill(size)
        return self.held[self.at : self.at + size]

    def take(self, size: int) -> bytes:
        """Consume and return the next ``size`` bytes, fewer at the end."""
        self.fill(size)
        data = self.held[self.at : self.at + size]
        self.at += len(data)
        self.offset += len(data)
        return data

    def give_back(self, data: bytes) -> None:
        """Undo the last ``take``."""
        self.held, self.at = data + self.held[self.at :], 0
        self.offset -= len(data)

    def skip(self, size: int) -> int:
        """Skip bytes without buffering them; return the number of skipped bytes."""
        passed = 0
        while passed < size and (data := self.take(min(size - passed, 2**16))):
            passed += len(data)
        return passed

    def pass_over(self, characters: bytes) -> None:
        """Skip leading bytes that are among ``characters``."""
        while start := self.peek(64):
            passed = len(start) - len(start.lstrip(characters))
            self.take(passed)
            if passed < len(start):
                return

    def take_head(self) -> bytes | None:
        """Consume header fields including the final empty line; None if there is none within ``MAX_HEAD`` bytes."""
        for size in (2**12, MAX_HEAD):
            end = HEAD_END.search(self.peek(size))
            if end:
                return self.take(end.end())
        return None

    def to_next_record(self) -> int:
        """Skip to the next line that begins like a record, or to the end; return the number of skipped bytes."""
        passed = len(self.take(1))
        while window := self.peek(2**16):
            found = RECORD_START.search(window)
            if found:
                return passed + len(self.take(found.start()))
            # The last bytes may be the start of a record.
            passed += len(self.take(max(len(window) - 16, 1)))
        return passed


def read(piece: Piece, settings: IngestSettings, passed: Counter[str] | None = None) -> Records:
    """Yield the records of an archive."""
    with open_raw(piece.file) as stream:
        yield from read_warc(stream, piece.file.compression, settings, passed)


WARC = Format("warc", "web archives", (".warc",), read, text_ratio=0.2)
WET = Format("wet", "texts of web archives", (".wet",), read)
