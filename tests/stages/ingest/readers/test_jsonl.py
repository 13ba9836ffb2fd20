"""JSON lines: what is a document, by which name and place the rest is refused, and files that are something else."""

import bz2
import gzip
import json
import tracemalloc
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import zstandard
from ingest_files import read, reasons

from rewarm.stages.ingest.records import Document, Reason, Refusal

LINES = b"".join(json.dumps({"text": f"document {number} {number**9}"}).encode() + b"\n" for number in range(5000))
PACK = {"gz": gzip.compress, "zst": zstandard.compress, "bz2": bz2.compress}


def read_line(tmp_path: Path, line: bytes, **settings: Any) -> Document | Refusal:
    (tmp_path / "x.jsonl").write_bytes(b'{"text": "before"}\n\n' + line + b"\n")
    _, record = read(tmp_path / "x.jsonl", **settings)
    assert isinstance(record, Document | Refusal)
    return record


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"text": "torn', Reason.INVALID_JSON),
        (b"PK\x03\x04\x14", Reason.INVALID_JSON),
        (b"[" * 100_000, Reason.INVALID_JSON),
        (b'["text"]', Reason.NOT_AN_OBJECT),
        (b"null", Reason.NOT_AN_OBJECT),
        (b'{"body": "words", "\\ud800": 1}', Reason.TEXT_MISSING),
        (b"{}", Reason.TEXT_MISSING),
        (b'{"text": 5}', Reason.TEXT_NOT_A_STRING),
        (b'{"text": null}', Reason.TEXT_NOT_A_STRING),
        (b'{"text": ["a"]}', Reason.TEXT_NOT_A_STRING),
        (b'{"text": " \\n\\t\\u3000"}', Reason.EMPTY_TEXT),
        (b'{"text": "\xff\xfe"}', Reason.INVALID_UTF8),
        (b'{"text": "\xed\xa0\x80"}', Reason.INVALID_UTF8),
        (b'{"text": "half \\ud83d of a pair"}', Reason.LONE_SURROGATE),
        (b'{"text": "' + b"long " * 500 + b'"}', Reason.TOO_LONG),
    ],
)
def test_refused_lines(tmp_path: Path, line: bytes, reason: Reason) -> None:
    limit = 2000 if reason == Reason.TOO_LONG else 2**20
    record = read_line(tmp_path, line, max_record_bytes=limit)
    assert isinstance(record, Refusal)
    assert record.reason == reason
    assert record.location == "line 3, byte 20"
    assert record.excerpt == line[:256]
    record.detail.encode()


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ('{"text": " kept as it is \\n"}', " kept as it is \n"),
        ('{"text": "nul \\u0000 stays"}', "nul \0 stays"),
        ('{"text": "a pair \\ud83d\\ude00"}', "a pair 😀"),
        ('{"text": "what Python writes", "score": NaN}', "what Python writes"),
        ('{"text": "an address of half a pair", "url": "\\ud800"}', "an address of half a pair"),
        ('{"text": "windows"}\r', "windows"),
    ],
)
def test_accepted_lines(tmp_path: Path, line: str, text: str) -> None:
    assert read_line(tmp_path, line.encode()) == Document(text, None, None, None, None)


def test_fields_by_the_names_set(tmp_path: Path) -> None:
    record = {
        "body": "words",
        "link": "https://a.b",
        "when": "2024-05-06T07:08:09Z",
        "lang": "de",
        "from": "crawl",
        "url": 3,
    }
    names = {"text": "body", "url": "link", "timestamp": "when", "language": "lang", "source": "from"}
    (tmp_path / "x.jsonl").write_text("\ufeff" + json.dumps(record), encoding="utf-8")
    expected = Document("words", "https://a.b", datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC), "de", "crawl")
    assert read(tmp_path / "x.jsonl", **names) == [expected]


@pytest.mark.parametrize("suffix", PACK)
def test_a_truncated_file_keeps_its_head_and_refuses_its_tail(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x.jsonl.{suffix}"
    path.write_bytes((PACK[suffix](LINES) + PACK[suffix](LINES))[:-200])
    *documents, last = read(path)
    assert all(isinstance(document, Document) for document in documents)
    assert 5000 <= len(documents) < 10_000
    assert (last.reason, last.location.split(",")[0]) == (Reason.TRUNCATED, f"line {len(documents) + 1}")


@pytest.mark.parametrize("suffix", PACK)
def test_what_is_no_such_stream_is_refused(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"x.jsonl.{suffix}").write_bytes(LINES)
    (record,) = read(tmp_path / f"x.jsonl.{suffix}")
    assert (record.reason, record.location) == (Reason.CORRUPT, "line 1, byte 0")


def test_few_bytes_before_the_break_are_not_lost(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"text": "a"}\n')[:-3])
    document, last = read(path)
    assert (document.text, last.reason, last.location) == ("a", Reason.TRUNCATED, "line 2, byte 14")


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_wide_encodings_by_their_mark(tmp_path: Path, encoding: str) -> None:
    rows = [{"text": f"{'ä€😀'[number % 3]} {number}"} for number in range(100)]
    text = "\ufeff" + "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path = tmp_path / "x.jsonl"
    path.write_bytes(text.encode(encoding))
    assert [document.text for document in read(path)] == [row["text"] for row in rows]
    path.write_bytes(text.encode(encoding)[:-5])
    *documents, last = read(path)
    assert [document.text for document in documents] == [row["text"] for row in rows[:-1]]
    assert last.reason == Reason.CORRUPT
    assert encoding[:6] in last.detail


def test_half_a_pair_in_utf16_costs_its_record_alone(tmp_path: Path) -> None:
    lines = [b'{"text": "a"}\n', b'{"text": "?"}\n', b'{"text": "b"}\n']
    wide = [line.decode().encode("utf-16-le") for line in lines]
    wide[1] = wide[1].replace(b"?\0", b"\x3d\xd8")
    (tmp_path / "x.jsonl").write_bytes(b"\xff\xfe" + b"".join(wide))
    first, broken, last = read(tmp_path / "x.jsonl")
    assert (first.text, broken.reason, last.text) == ("a", Reason.INVALID_UTF8, "b")


def test_a_zip_renamed(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.jsonl", LINES)
    (record,) = read(path)
    assert (record.reason, record.location) == (Reason.OTHER_FORMAT, "file")
    assert record.detail.startswith("expected JSON lines, found a zip archive")
    path.write_bytes(gzip.compress(LINES))
    assert "found gzip" in read(path)[0].detail


def test_a_line_of_200_megabytes_is_refused_without_being_held(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl.zst"
    packer = zstandard.ZstdCompressor().compressobj()
    with path.open("wb") as stream:
        stream.write(packer.compress(b'{"text": "before"}\n{"text": "'))
        for _ in range(200):
            stream.write(packer.compress(b"long" * 2**18))
        stream.write(packer.compress(b'"}\n{"text": "after"}\n') + packer.flush())
    tracemalloc.start()
    before, long, after = read(path, max_record_bytes=2**20, max_expansion=1e6)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (before.text, after.text) == ("before", "after")
    assert (long.reason, long.location, len(long.excerpt)) == (Reason.TOO_LONG, "line 2, byte 19", 256)
    assert f"found {200 * 2**20 + 12}" in long.detail
    assert peak < 100 * 2**20


def test_a_decompression_bomb_is_one_refusal(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"text": "before"}\n') + gzip.compress(bytes(2**20)) * 300)
    tracemalloc.start()
    document, bomb = read(path, max_record_bytes=2**20, max_expansion=500)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (document.text, bomb.reason, bomb.location) == ("before", Reason.BOMB, "line 2, byte 19")
    assert "max_expansion" in bomb.detail
    assert peak < 64 * 2**20
    document, bomb = read(path, max_file_bytes=1000)
    assert (document.text, bomb.reason) == ("before", Reason.BOMB)
    assert "max_file_bytes" in bomb.detail


def test_very_many_empty_documents(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"text": ""}\n' * 100_000)
    records = read(path)
    assert set(reasons(records)) == {Reason.EMPTY_TEXT}
    assert (len(records), records[-1].location) == (100_000, "line 100000, byte 1299987")


def test_a_document_knows_its_place(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_bytes(b'\n{"text": "words"}\n')
    assert [document.location for document in read(tmp_path / "x.jsonl")] == ["line 2, byte 1"]
