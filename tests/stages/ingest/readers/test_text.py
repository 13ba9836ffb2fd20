"""A text file is one document."""

import gzip
from pathlib import Path

import pytest
from ingest_files import read, reasons

from rewarm.stages.ingest.records import Document, Reason


def test_a_text_file_is_one_document(tmp_path: Path) -> None:
    (tmp_path / "ä b.md").write_bytes(b"\xef\xbb\xbf# Title\n\nwords\0\n")
    assert read(tmp_path / "ä b.md") == [Document("# Title\n\nwords\0\n", "ä b.md", None, None, None)]
    (tmp_path / "x.txt").write_text("wörter", encoding="utf-16")
    assert [document.text for document in read(tmp_path / "x.txt")] == ["wörter"]


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("x.txt", "latin ä".encode("latin-1"), Reason.INVALID_UTF8),
        ("x.txt", b"", Reason.EMPTY_TEXT),
        ("x.txt", b"long" * 100, Reason.TOO_LONG),
        ("x.txt", b"PK\x03\x04\x14", Reason.OTHER_FORMAT),
        ("x.txt.gz", gzip.compress(b"half a text is no document" * 9, mtime=0)[:-9], Reason.TRUNCATED),
        ("x.txt.bz2", b"BZh91AY&SY not really", Reason.CORRUPT),
    ],
)
def test_refused_text_files(tmp_path: Path, name: str, data: bytes, reason: Reason) -> None:
    (tmp_path / name).write_bytes(data)
    records = read(tmp_path / name, max_record_bytes=399)
    assert reasons(records) == [reason]
    assert records[0].location == "file"
