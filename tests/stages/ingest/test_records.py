"""Records of every format: what is a document, and by which name and place the rest is refused."""

import gzip
import json
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages.ingest.read.readers import read_records
from stages.ingest.records import Document, Reason, Refusal
from stages.ingest.settings import IngestSettings
from stages.ingest.timestamps import parse_timestamp

SETTINGS = IngestSettings()


def read(path: Path, kind: str = "jsonl", compression: str = "", settings: IngestSettings = SETTINGS) -> list[Any]:
    return list(read_records(str(path), path.name, kind, compression, settings))


def read_line(tmp_path: Path, line: bytes, settings: IngestSettings = SETTINGS) -> Document | Refusal:
    (tmp_path / "x.jsonl").write_bytes(b'{"text": "before"}\n\n' + line + b"\n")
    _, record = read(tmp_path / "x.jsonl", settings=settings)
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
    record = read_line(tmp_path, line, IngestSettings(max_record_bytes=limit))
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
    settings = IngestSettings(text="body", url="link", timestamp="when", language="lang", source="from")
    (tmp_path / "x.jsonl").write_text("\ufeff" + json.dumps(record), encoding="utf-8")
    expected = Document("words", "https://a.b", datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC), "de", "crawl")
    assert read(tmp_path / "x.jsonl", settings=settings) == [expected]


def test_a_truncated_file_keeps_its_head_and_refuses_its_tail(tmp_path: Path) -> None:
    lines = b"".join(json.dumps({"text": f"document {number} {number**9}"}).encode() + b"\n" for number in range(5000))
    (tmp_path / "x.jsonl.gz").write_bytes(gzip.compress(lines)[:-2000])
    *documents, last = read(tmp_path / "x.jsonl.gz", compression="gzip")
    assert all(isinstance(document, Document) for document in documents)
    assert 2000 < len(documents) < 5000
    assert (last.reason, last.location.split(",")[0]) == (Reason.TRUNCATED, f"line {len(documents) + 1}")


def test_a_text_file_is_one_document(tmp_path: Path) -> None:
    (tmp_path / "ä b.md").write_bytes(b"\xef\xbb\xbf# Title\n\nwords\n")
    assert read(tmp_path / "ä b.md", "text") == [Document("# Title\n\nwords\n", "ä b.md", None, None, None)]
    (tmp_path / "x.txt").write_bytes("latin ä".encode("latin-1"))
    assert [record.reason for record in read(tmp_path / "x.txt", "text")] == [Reason.INVALID_UTF8]
    (tmp_path / "x.txt").write_bytes(b"")
    assert [record.reason for record in read(tmp_path / "x.txt", "text")] == [Reason.EMPTY_TEXT]
    (tmp_path / "x.txt").write_bytes(b"long" * 100)
    assert [r.reason for r in read(tmp_path / "x.txt", "text", "", IngestSettings(max_record_bytes=99))] == [
        Reason.TOO_LONG
    ]
    (tmp_path / "x.txt.gz").write_bytes(gzip.compress(b"half a text is no document" * 9)[:-9])
    assert [record.reason for record in read(tmp_path / "x.txt.gz", "text", "gzip")] == [Reason.TRUNCATED]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary(), pa.dictionary(pa.int32(), pa.string())])
def test_parquet(tmp_path: Path, kind: pa.DataType) -> None:
    texts = pa.array(["one", None, " ", "two ä"]).cast(kind)
    when = pa.array([1, 2, 3, 1_700_000_000_123_456_789], pa.timestamp("ns", "Europe/Berlin"))
    table = pa.table(
        {"other": [1, 2, 3, 4], "text": texts, "timestamp": when, "url": ["u", None, None, "v"], "source": [1, 2, 3, 4]}
    )
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=3)
    first, null, empty, last = read(tmp_path / "x.parquet", "parquet")
    assert first == Document("one", "u", datetime(1970, 1, 1, tzinfo=UTC), None, None)
    assert (null.reason, null.location) == (Reason.TEXT_NOT_A_STRING, "row 1")
    assert (empty.reason, empty.location) == (Reason.EMPTY_TEXT, "row 2")
    assert last == Document("two ä", "v", datetime(2023, 11, 14, 22, 13, 20, 123456, tzinfo=UTC), None, None)


def test_parquet_that_cannot_be_used_is_one_refusal(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"body": ["a", "b"]}), path)
    (record,) = read(path, "parquet")
    assert (record.location, record.reason) == ("file", Reason.TEXT_MISSING)
    assert "'text' expected, found the columns: body" in record.detail
    pq.write_table(pa.table({"text": [1, 2]}), path)
    assert [record.reason for record in read(path, "parquet")] == [Reason.TEXT_NOT_A_STRING]
    path.write_bytes(b"PK\x03\x04 no Parquet")
    (record,) = read(path, "parquet")
    assert (record.reason, record.excerpt) == (Reason.UNREADABLE_PARQUET, b"PK\x03\x04 no Parquet")


def test_parquet_torn_inside_keeps_the_rows_before(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(
        pa.table({"text": [f"text {n}" for n in range(2000)]}),
        path,
        row_group_size=1000,
        compression="zstd",
        use_dictionary=False,
    )
    second = pq.ParquetFile(path).metadata.row_group(1).column(0)
    data = bytearray(path.read_bytes())
    data[second.data_page_offset : second.data_page_offset + second.total_compressed_size] = bytes(
        second.total_compressed_size
    )
    path.write_bytes(data)
    *documents, last = read(path, "parquet")
    assert 0 < len(documents) <= 1000
    assert [document.text for document in documents] == [f"text {n}" for n in range(len(documents))]
    assert (last.reason, last.location) == (Reason.UNREADABLE_PARQUET, f"row {len(documents)} and after")


def test_parquet_strings_that_are_not_utf8(tmp_path: Path) -> None:
    bad = pa.Array.from_buffers(pa.string(), 2, pa.array([b"fine", b"\xff\xfe"]).buffers())
    pq.write_table(pa.table({"text": bad}), tmp_path / "x.parquet")
    fine, refused = read(tmp_path / "x.parquet", "parquet")
    assert fine.text == "fine"
    assert (refused.reason, refused.location, refused.excerpt) == (Reason.INVALID_UTF8, "row 1", b"\xff\xfe")


NOON = datetime(2024, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2024-01-31T12:00:00Z", NOON),
        ("2024-01-31 13:00:00+01:00", NOON),
        ("2024-01-31T12:00:00", NOON),
        (b"2024-01-31T12:00:00.000Z", NOON),
        ("2024-01-31", NOON.replace(hour=0)),
        ("20240131", NOON.replace(hour=0)),
        (1706702400, NOON),
        (1706702400.0, NOON),
        ("1706702400", NOON),
        ("1706702400123", NOON + timedelta(milliseconds=123)),
        (1706702400000, NOON),
        (1706702400000000, NOON),
        (1706702400000000000, NOON),
        (-1, datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC)),
        (date(2024, 1, 31), NOON.replace(hour=0)),
        (NOON.astimezone(timezone(timedelta(hours=5))), NOON),
        ("yesterday", None),
        ("", None),
        (None, None),
        (True, None),
        (float("nan"), None),
        (-1e11 + 1, None),
        ([2024], None),
        (datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=5))), None),
    ],
)
def test_timestamps(value: Any, expected: datetime | None) -> None:
    assert parse_timestamp(value) == expected
