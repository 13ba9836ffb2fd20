"""Parquet: named columns of any string type, and files that break."""

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ingest_files import read, reasons

from rewarm.stages.ingest.records import Document, Reason


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary(), pa.dictionary(pa.int32(), pa.string())])
def test_parquet(tmp_path: Path, kind: pa.DataType) -> None:
    texts = pa.array(["one", None, " ", "two ä"]).cast(kind)
    when = pa.array([1, 2, 3, 1_700_000_000_123_456_789], pa.timestamp("ns", "Europe/Berlin"))
    table = pa.table(
        {"other": [1, 2, 3, 4], "text": texts, "timestamp": when, "url": ["u", None, None, "v"], "source": [1, 2, 3, 4]}
    )
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=3)
    first, null, empty, last = read(tmp_path / "x.parquet")
    assert first == Document("one", "u", datetime(1970, 1, 1, tzinfo=UTC), None, None)
    assert (null.reason, null.location) == (Reason.TEXT_NOT_A_STRING, "row 1")
    assert (empty.reason, empty.location) == (Reason.EMPTY_TEXT, "row 2")
    assert last == Document("two ä", "v", datetime(2023, 11, 14, 22, 13, 20, 123456, tzinfo=UTC), None, None)


def test_parquet_that_cannot_be_used_is_one_refusal(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"body": ["a", "b"]}), path)
    (record,) = read(path)
    assert (record.location, record.reason) == ("file", Reason.TEXT_MISSING)
    assert "'text', found the columns: body" in record.detail
    for column in ([1, 2], [["a"], ["b"]], [{"a": "b"}] * 2):
        pq.write_table(pa.table({"text": column}), path)
        assert reasons(read(path)) == [Reason.TEXT_NOT_A_STRING]
    path.write_bytes(b"PK\x03\x04 no Parquet")
    (record,) = read(path)
    assert (record.reason, record.excerpt) == (Reason.UNREADABLE_PARQUET, b"PK\x03\x04 no Parquet")


def test_of_a_row_group_torn_inside_the_rest_is_refused_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    table = pa.table({"text": [f"text {n}" for n in range(3000)]})
    pq.write_table(table, path, row_group_size=1000, compression="zstd", use_dictionary=False)
    second = pq.ParquetFile(path).metadata.row_group(1).column(0)
    data = bytearray(path.read_bytes())
    data[second.data_page_offset : second.data_page_offset + second.total_compressed_size] = bytes(
        second.total_compressed_size
    )
    path.write_bytes(data)
    records = read(path)
    assert [record.text for record in records if isinstance(record, Document)] == [
        f"text {n}" for n in (*range(1000), *range(2000, 3000))
    ]
    assert (records[1000].reason, records[1000].location) == (Reason.UNREADABLE_PARQUET, "rows 1000 to 1999")
    assert records[-1].location == "row 2999"


def test_a_column_that_swells_beyond_measure_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rewarm.stages.ingest.readers.columns.BOMB_BYTES", 2**20)
    path = tmp_path / "x.parquet"
    table = pa.table({"text": ["a" * 2**20] * 4, "other": ["b" * 2**20] * 4})
    pq.write_table(table, path, compression="zstd", use_dictionary=False)
    (record,) = read(path)
    assert (record.reason, record.location) == (Reason.BOMB, "rows 0 to 3")
    assert "'text'" in record.detail
    assert len(read(path, max_expansion=1e6)) == 4


def test_parquet_strings_that_are_not_utf8(tmp_path: Path) -> None:
    bad = pa.Array.from_buffers(pa.string(), 2, pa.array([b"fine", b"\xff\xfe"]).buffers())
    pq.write_table(pa.table({"text": bad}), tmp_path / "x.parquet")
    fine, refused = read(tmp_path / "x.parquet")
    assert fine.text == "fine"
    assert (refused.reason, refused.location, refused.excerpt) == (Reason.INVALID_UTF8, "row 1", b"\xff\xfe")
