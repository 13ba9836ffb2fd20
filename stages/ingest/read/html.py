"""HTML files on disk."""

from dataclasses import replace

from stages.ingest.clean.extract import extract_page
from stages.ingest.records import EXCERPT, Document, Reason, Refusal
from stages.ingest.settings import IngestSettings


def read_html(data: bytes, name: str, settings: IngestSettings) -> Document | Refusal:
    """The main text of one file; its name stands as the address. More than ``max_record_bytes`` is refused."""
    if len(data) > settings.max_record_bytes:
        detail = f"at most {settings.max_record_bytes} bytes (max_record_bytes) expected, found {len(data)}"
        return Refusal("file", Reason.TOO_LONG, detail, data[:EXCERPT])
    return replace(extract_page(data, None, name, None, settings), location="file")
