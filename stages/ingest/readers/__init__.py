"""The list of input formats, and the records of one piece of a file in any of them.

A document above ``max_document_bytes`` is refused, or split into several documents.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

from rewarm.stages.ingest.format import Format, Piece
from rewarm.stages.ingest.locations import COMPRESSIONS, locate
from rewarm.stages.ingest.opening import require_unchanged
from rewarm.stages.ingest.readers.columns import ARROW, PARQUET
from rewarm.stages.ingest.readers.jsonl import JSONL
from rewarm.stages.ingest.readers.tables import CSV, TSV
from rewarm.stages.ingest.readers.text import HTML, TEXT
from rewarm.stages.ingest.readers.tokens import DATATROVE, MEGATRON, TOKENS
from rewarm.stages.ingest.readers.warc import WARC, WET
from rewarm.stages.ingest.records import EXCERPT, Document, Reason, Refusal
from rewarm.stages.ingest.settings import IngestSettings, InputSettings

FORMATS: dict[str, Format] = {
    known.name: known for known in (JSONL, CSV, TSV, TEXT, HTML, WARC, WET, PARQUET, ARROW, MEGATRON, DATATROVE, TOKENS)
}
SUFFIXES = {suffix: known for known in FORMATS.values() for suffix in known.suffixes}


def recognise(name: str, kind: str = "auto") -> tuple[str, str] | None:
    """Return format (from the suffix, or ``kind`` if set) and compression of a file; None if unknown.

    A ``.bin`` file can contain anything: it is in Megatron's format if there is an ``.idx`` file of the same name.
    """
    path = PurePosixPath(name.lower())
    compression = COMPRESSIONS.get(path.suffix, "")
    suffix = PurePosixPath(path.stem).suffix if compression else path.suffix
    known = SUFFIXES.get(suffix) if kind == "auto" else FORMATS[kind]
    if known is None or (compression and not known.compressible):
        return None
    if known is MEGATRON and not Path(name).with_suffix(known.companion).is_file():
        return None
    return known.name, compression


def supported() -> str:
    """Return the list of formats, with their suffixes, for messages."""

    def listed(compressible: bool) -> str:
        return ", ".join(
            f"{known.title} ({', '.join(known.suffixes)})"
            for known in FORMATS.values()
            if known.suffixes and known.compressible == compressible
        )

    return f"{listed(True)}, each also as {', '.join(COMPRESSIONS)}; {listed(False)}"


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
    yield from fit(FORMATS[piece.file.format].read(piece, settings, passed), settings)
    require_unchanged(piece.file)
