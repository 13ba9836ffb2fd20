"""Pages and archives through the one way in: limits hold for them as for all other formats."""

import gzip
from pathlib import Path

import pytest
from ingest_files import read

from rewarm.stages.ingest import IngestSettings, find_inputs
from rewarm.stages.ingest.readers import read_piece
from rewarm.stages.ingest.records import Document, Reason
from rewarm.stages.ingest.shards import make_shards

WORDS = " ".join(
    f"<p>Paragraph {number} says something of its own, in a sentence of some length.</p>" for number in range(60)
)
PAGE = f"<html><head><title>A page</title></head><body><main>{WORDS}</main></body></html>".encode()


def archive(pages: list[bytes], kind: str = "response") -> bytes:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n" if kind == "response" else b""
    made = b""
    for number, page in enumerate(pages):
        block = head + page
        fields = [
            f"WARC-Type: {kind}",
            f"WARC-Target-URI: https://a.example/{number}",
            "WARC-Date: 2024-05-06T07:08:09Z",
            f"Content-Length: {len(block)}",
        ]
        made += b"WARC/1.0\r\n" + "\r\n".join(fields).encode() + b"\r\n\r\n" + block + b"\r\n\r\n"
    return made


def test_a_folder_of_pages_and_archives(tmp_path: Path) -> None:
    (tmp_path / "a b").mkdir()
    (tmp_path / "a b" / "ü.html").write_bytes(PAGE)
    (tmp_path / "c.htm.gz").write_bytes(gzip.compress(PAGE))
    (tmp_path / "d.warc.gz").write_bytes(gzip.compress(archive([PAGE, PAGE])))
    (tmp_path / "e.warc.wet").write_bytes(archive([b"Text of a page."], "conversion"))
    settings = IngestSettings()
    (shard,) = make_shards(find_inputs([str(tmp_path)], settings), settings)
    records = [record for piece in shard.pieces for record in read_piece(piece, settings)]
    assert [record.url for record in records if isinstance(record, Document)] == [
        "a b/ü.html",
        "c.htm.gz",
        "https://a.example/0",
        "https://a.example/1",
        "https://a.example/0",
    ]
    assert all("Paragraph 59 says" in record.text for record in records[:4] if isinstance(record, Document))


@pytest.mark.parametrize("name", ["x.html", "x.warc"])
def test_long_pages(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(PAGE if name == "x.html" else archive([PAGE]))
    (whole,) = read(path)
    (refusal,) = read(path, max_document_bytes=2000)
    assert (refusal.reason, refusal.value) == (Reason.TOO_LONG_DOCUMENT, len(whole.text.encode()))
    assert refusal.location == {"x.html": "file", "x.warc": "record 0, byte 0"}[name]
    parts = read(path, max_document_bytes=2000, oversized="split")
    assert len(parts) > 2
    assert "".join(part.text for part in parts) == whole.text


@pytest.mark.parametrize("name", ["x.html.gz", "x.warc.gz", "x.txt.gz"])
def test_bombs_of_every_kind(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(gzip.compress(archive([PAGE])) + gzip.compress(bytes(2**20)))
    records = read(tmp_path / name, max_file_bytes=2**19)
    assert records[-1].reason == Reason.BOMB
