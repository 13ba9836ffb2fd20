"""What becomes of a document above ``max_document_bytes``: a refusal, or several documents."""

from collections.abc import Iterator
from dataclasses import replace

from stages.ingest.files.settings import InputSettings
from stages.ingest.records import EXCERPT, Document, Reason, Refusal

# Where a text is cut, best first. A level is used where it has a place in the second half of what fits, so that no
# part is tiny because its only paragraph ends early.
BREAKS = ((b"\n\n", b"\r\n\r\n"), (b"\n",), (b" ", b"\t", "\u3000".encode()))


def fit(records: Iterator[Document | Refusal], settings: InputSettings) -> Iterator[Document | Refusal]:
    """The records with every document within the limit, if one is set."""
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
            detail = f"at most {limit} bytes of text (max_document_bytes) expected, found {len(data)}"
            yield Refusal(record.location, Reason.TOO_LONG_DOCUMENT, detail, data[:EXCERPT], value=float(len(data)))


def split_document(document: Document, limit: int) -> list[Document]:
    """The document in parts of at most ``limit`` bytes of UTF-8 (4 at least), whose texts make up the whole again.

    A part ends after a paragraph, else a line, else a word, else a character.
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
    """Where the part that begins at ``start`` ends."""
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
