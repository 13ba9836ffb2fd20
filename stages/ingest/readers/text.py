"""Reader of text files and pages as single documents, and the refusals common to all streams."""

import re
from collections import Counter
from dataclasses import replace
from typing import BinaryIO

from rewarm.stages.ingest.format import Format, Piece, Records, sample_whole
from rewarm.stages.ingest.opening import open_raw
from rewarm.stages.ingest.readers.streams import BrokenStreamError, binary_of, in_utf8, read_blocks
from rewarm.stages.ingest.records import EXCERPT, Document, Reason, Refusal, make_document
from rewarm.stages.ingest.settings import IngestSettings, InputSettings

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
FEW_ZEROS = 8  # NUL bytes that are noise in a text
PAGE = re.compile(rb"\s*(?:<\?xml[^>]*>\s*)?(?:<!doctype\s+html|<html[\s>])", re.IGNORECASE)
TEXT_FILE = re.compile(r"\.txt(?:\.\w+)?$", re.IGNORECASE)  # other names are read as text only if the user says so


def read_text(raw: BinaryIO, name: str, compression: str, settings: InputSettings) -> Document | Refusal:
    """Return the document of a text file, with its name as URL; an incomplete file is refused."""
    data = read_whole(raw, compression, settings, decode=True)
    if isinstance(data, Refusal):
        return data
    if found := binary_of(data) or data_of(data) or (page_of(data) if TEXT_FILE.search(name) else None):
        return other_format("text", found, data)
    return make_document("file", data.removeprefix(BYTE_ORDER_MARK), {settings.url: name}, settings)


def data_of(data: bytes) -> str | None:
    """Return a description of data with many NUL bytes, which are valid UTF-8 but no text; else None."""
    zeros = data.count(0)
    if zeros <= max(FEW_ZEROS, len(data) // 100):
        return None
    return f"{zeros} NUL bytes (binary data, or UTF-16 without a byte order mark)"


def page_of(data: bytes) -> str | None:
    """Return "an HTML page" if a text file is one, else None."""
    return "an HTML page" if PAGE.match(data[:EXCERPT].removeprefix(BYTE_ORDER_MARK)) else None


def read_whole(raw: BinaryIO, compression: str, settings: InputSettings, decode: bool = False) -> bytes | Refusal:
    """Return all bytes of a file, as UTF-8 if ``decode``, or a refusal if it is too long or broken."""
    data = bytearray()
    blocks = read_blocks(raw, compression, settings)
    try:
        for block in in_utf8(blocks) if decode else blocks:
            data += block
            if len(data) > settings.max_record_bytes:
                return too_long("file", bytes(data), f"more than {settings.max_record_bytes}", settings)
    except BrokenStreamError as error:
        return broken("file", error, bytes(data))
    return bytes(data)


def broken(place: str, error: BrokenStreamError, data: bytes) -> Refusal:
    """Return the refusal for the unreadable rest of a file."""
    return Refusal(place, error.reason, str(error), data[:EXCERPT])


def other_format(expected: str, found: str, data: bytes) -> Refusal:
    """Return the refusal for a file whose format does not match its name."""
    detail = f"expected {expected}, found {found}; unpack the file, or give it the suffix of its format"
    return Refusal("file", Reason.OTHER_FORMAT, detail, data[:EXCERPT])


def too_long(place: str, data: bytes, found: str, settings: InputSettings) -> Refusal:
    """Return the refusal for a record above the limit."""
    detail = f"expected at most {settings.max_record_bytes} bytes (max_record_bytes), found {found}"
    return Refusal(place, Reason.TOO_LONG, detail, data[:EXCERPT])


def read_html(data: bytes, name: str, settings: IngestSettings) -> Document | Refusal:
    """Return the main text of one HTML file, with its name as URL. More than ``max_record_bytes`` is refused."""
    from rewarm.stages.ingest.html.extract import extract_page

    if len(data) > settings.max_record_bytes:
        return too_long("file", data, str(len(data)), settings)
    return replace(extract_page(data, None, name, None, settings), location="file")


def read_text_file(piece: Piece, settings: IngestSettings, passed: Counter[str] | None = None) -> Records:
    """Yield the document of a text file."""
    with open_raw(piece.file) as stream:
        yield read_text(stream, piece.file.name, piece.file.compression, settings)


def read_page_file(piece: Piece, settings: IngestSettings, passed: Counter[str] | None = None) -> Records:
    """Yield the document of an HTML file."""
    with open_raw(piece.file) as stream:
        data = read_whole(stream, piece.file.compression, settings)
    yield data if isinstance(data, Refusal) else read_html(data, piece.file.name, settings)


TEXT = Format("text", "text", (".txt", ".md"), read_text_file, sample=sample_whole)
HTML = Format("html", "pages", (".html", ".htm"), read_page_file, sample=sample_whole, text_ratio=0.3)
