"""Readers of all input formats: stream the records of one piece of a file.

A document above ``max_document_bytes`` is refused, or split into several documents.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import BinaryIO

from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.storage import Folder
from rewarm.stages.ingest.html.extract import extract_page
from rewarm.stages.ingest.locations import locate
from rewarm.stages.ingest.opening import open_random, open_raw, require_unchanged
from rewarm.stages.ingest.readers.columns import read_arrow, read_parquet
from rewarm.stages.ingest.readers.jsonl import read_jsonl, read_jsonl_part
from rewarm.stages.ingest.readers.tables import read_table, read_table_part
from rewarm.stages.ingest.readers.text import read_text, read_whole
from rewarm.stages.ingest.records import EXCERPT, Document, Reason, Refusal
from rewarm.stages.ingest.settings import IngestSettings, InputSettings
from rewarm.stages.ingest.shards import Piece

# Positions at which a text is split, best first. A level is used only if it occurs in the second half of what fits, so
# that no part is tiny because its only paragraph ends early.
BREAKS = ((b"\n\n", b"\r\n\r\n"), (b"\n",), (b" ", b"\t", "\u3000".encode()))


def fit(records: Iterator[Document | Refusal], settings: InputSettings) -> Iterator[Document | Refusal]:
    """Yield the records with every document within the limit, if one is set."""
    limit = settings.max_document_bytes
    if limit is None:
        yield from records
        return
    for record in records:
        if isinstance(record, Refusal) or len(record.text) * 4 <= limit or len(record.text.encode()) <= limit:
            yield record
        elif settings.oversized == "split":
            yield from split_document(record, limit)
        else:
            data = record.text.encode()
            detail = f"expected at most {limit} bytes of text (max_document_bytes), found {len(data)}"
            yield Refusal(record.location, Reason.TOO_LONG_DOCUMENT, detail, data[:EXCERPT], value=float(len(data)))


def split_document(document: Document, limit: int) -> list[Document]:
    """Split the document into parts of at most ``limit`` bytes of UTF-8 (at least 4); joined, they give the whole text.

    A part ends after a paragraph, otherwise after a line, a word or a character.
    """
    data = document.text.encode()
    parts = []
    start = 0
    while start < len(data):
        stop = cut_at(data, start, limit)
        parts.append(replace(document, text=data[start:stop].decode()))
        start = stop
    return parts


def cut_at(data: bytes, start: int, limit: int) -> int:
    """Return the end of the part that begins at ``start``."""
    stop = start + limit
    if stop >= len(data):
        return len(data)
    for marks in BREAKS:
        found = [place + len(mark) for mark in marks if (place := data.rfind(mark, start + limit // 2, stop)) >= 0]
        if found:
            return max(found)
    while data[stop] & 0xC0 == 0x80:  # inside a character
        stop -= 1
    return stop


def read_piece(
    piece: Piece, settings: IngestSettings, passed: Counter[str] | None = None
) -> Iterator[Document | Refusal]:
    """Yield the records of a piece in order; invalid records, and the rest of a broken file, are refusals.

    Raises ``OSError`` if disk or network fail (try again), and ``StageError`` if the file has changed since it was
    listed; records yielded before that must be discarded. ``passed`` counts records that are not expected to be
    documents, once everything has been read.
    """
    if locate(
        piece.file.path
    ).is_local:  # remote files are checked only once, afterwards, because every request takes time
        require_unchanged(piece.file)
    yield from fit(records_of(piece, settings, passed), settings)
    require_unchanged(piece.file)


def records_of(piece: Piece, settings: IngestSettings, passed: Counter[str] | None) -> Iterator[Document | Refusal]:
    """Return the records of a piece according to its format."""
    file, start = piece.file, piece.start or 0
    if file.format in ("megatron", "datatrove", "tokens"):
        yield from tokens_of(piece, settings)
        return
    if file.format == "parquet":
        with open_random(file) as stream:
            yield from read_parquet(stream, settings, start, piece.stop)
    elif file.format == "arrow":
        with open_random(file) as stream:
            yield from read_arrow(stream, settings, start, piece.stop)
    elif file.format == "jsonl" and start:
        with open_raw(file, start - 1) as stream:
            yield from read_jsonl_part(stream, start, file.size if piece.stop is None else piece.stop, settings)
    elif file.format in ("csv", "tsv") and start:
        stop = file.size if piece.stop is None else piece.stop
        with open_raw(file) as head, open_raw(file, start) as stream:
            yield from read_table_part(head, stream, file.format, start, stop, settings)
    else:
        with open_raw(file) as stream:
            yield from read_stream(stream, piece, settings, passed)


def tokens_of(piece: Piece, settings: IngestSettings) -> Iterator[Document | Refusal]:
    """Yield the documents of a token file, decoded by the tokenizer that produced it."""
    from rewarm.stages.ingest.readers.tokens import TOKENS, read_tokens

    path, choices, kind = piece.file.path, settings.tokens, TOKENS[piece.file.format]
    if not locate(path).is_local:
        raise UsageError(f"{path}: token files can only be read from a disk; copy the file first")
    if choices.tokenizer is None:
        raise UsageError(
            f"{path}: tokens can only be read with the tokenizer that produced them; a base needs text to train a "
            "tokenizer, or tokenizer.path and ingest.tokens.tokenizer"
        )
    tokenizer = Folder(choices.tokenizer)
    yield from read_tokens(path, kind, tokenizer, settings, choices)


def read_stream(
    stream: BinaryIO, piece: Piece, settings: IngestSettings, passed: Counter[str] | None
) -> Iterator[Document | Refusal]:
    """Yield the records of a file that is read from its beginning; ``stream`` returns its stored bytes."""
    file = piece.file
    if file.format == "jsonl":
        yield from read_jsonl(stream, file.compression, settings, piece.stop)
    elif file.format in ("csv", "tsv"):
        yield from read_table(stream, file.format, file.compression, settings, piece.stop)
    elif file.format == "text":
        yield read_text(stream, file.name, file.compression, settings)
    elif file.format == "html":
        data = read_whole(stream, file.compression, settings)
        yield data if isinstance(data, Refusal) else read_html(data, file.name, settings)
    else:
        from rewarm.stages.ingest.readers.warc import read_warc

        yield from read_warc(stream, file.compression, settings, passed)


def read_html(data: bytes, name: str, settings: IngestSettings) -> Document | Refusal:
    """Return the main text of one HTML file, with its name as URL. More than ``max_record_bytes`` is refused."""
    if len(data) > settings.max_record_bytes:
        detail = f"expected at most {settings.max_record_bytes} bytes (max_record_bytes), found {len(data)}"
        return Refusal("file", Reason.TOO_LONG, detail, data[:EXCERPT])
    return replace(extract_page(data, None, name, None, settings), location="file")
