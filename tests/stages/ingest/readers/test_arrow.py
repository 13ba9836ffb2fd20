"""Arrow IPC: files and streams, batches of any size, and files that are torn or lie about what is in them."""

from pathlib import Path

import pyarrow as pa
import pytest
from ingest_files import read, reasons
from pyarrow import feather

from rewarm.stages.ingest.records import Document, Reason

TEXTS = [f"text {number} ä" for number in range(1000)]
TABLE = pa.table({"text": TEXTS, "other": list(range(1000)), "url": [f"u{number}" for number in range(1000)]})


def write(path: Path, table: pa.Table = TABLE, stream: bool = False, rows: int = 300, compression: str = "") -> Path:
    new = pa.ipc.new_stream if stream else pa.ipc.new_file
    options = pa.ipc.IpcWriteOptions(compression=compression or None)
    with path.open("wb") as sink, new(sink, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=rows)
    return path


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("compression", ["", "lz4", "zstd"])
def test_files_and_streams(tmp_path: Path, stream: bool, compression: str) -> None:
    records = read(write(tmp_path / "x.arrow", stream=stream, compression=compression))
    assert records == [Document(text, f"u{number}", None, None, None) for number, text in enumerate(TEXTS)]
    assert [records[number].location for number in (0, 299, 300, 999)] == [
        "batch 0, row 0",
        "batch 0, row 299",
        "batch 1, row 0",
        "batch 3, row 99",
    ]


@pytest.mark.parametrize("version", [1, 2])
def test_feather(tmp_path: Path, version: int) -> None:
    feather.write_feather(TABLE, str(tmp_path / "x.feather"), version=version)
    records = read(tmp_path / "x.feather")
    if version == 2:
        assert [record.text for record in records] == TEXTS
    else:
        assert reasons(records) == [Reason.UNREADABLE_ARROW]


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.dictionary(pa.int32(), pa.string())]
)
def test_strings_of_every_type_and_rows_that_are_none(tmp_path: Path, kind: pa.DataType) -> None:
    table = pa.table({"text": pa.array(["one", None, " ", "two ä"]).cast(kind)})
    one, null, empty, two = read(write(tmp_path / "x.arrow", table))
    assert (one.text, two.text) == ("one", "two ä")
    assert (null.reason, null.location) == (Reason.TEXT_NOT_A_STRING, "batch 0, row 1")
    assert empty.reason == Reason.EMPTY_TEXT


def test_strings_that_are_not_utf8(tmp_path: Path) -> None:
    bad = pa.Array.from_buffers(pa.string(), 2, pa.array([b"fine", b"\xff\xfe"]).buffers())
    fine, refused = read(write(tmp_path / "x.arrow", pa.table({"text": bad})))
    assert (fine.text, refused.reason) == ("fine", Reason.INVALID_UTF8)


def test_offsets_that_point_outside_are_refused(tmp_path: Path) -> None:
    _, _, values = pa.array(["abcd", "efgh"]).buffers()
    offsets = pa.array([0, 2**30, 8], pa.int32()).buffers()[1]
    bad = pa.Array.from_buffers(pa.string(), 2, [None, offsets, values])
    assert reasons(read(write(tmp_path / "x.arrow", pa.table({"text": bad})))) == [Reason.UNREADABLE_ARROW]
    indices = pa.Array.from_buffers(pa.int32(), 2, [None, pa.array([0, 7], pa.int32()).buffers()[1]])
    bad = pa.DictionaryArray.from_arrays(indices, pa.array(["a", "b"]), safe=False)
    assert reasons(read(write(tmp_path / "x.arrow", pa.table({"text": bad})))) == [Reason.UNREADABLE_ARROW]


@pytest.mark.parametrize("stream", [False, True])
def test_a_truncated_file_gives_its_whole_batches(tmp_path: Path, stream: bool) -> None:
    path = write(tmp_path / "x.arrow", stream=stream)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    *documents, last = read(path)
    assert [document.text for document in documents] == TEXTS[:600]
    assert (last.reason, last.location) == (Reason.UNREADABLE_ARROW, "batch 2 and after")


def test_files_without_the_column_and_no_arrow_at_all(tmp_path: Path) -> None:
    path = write(tmp_path / "x.arrow", pa.table({"body": ["a"]}))
    (record,) = read(path)
    assert (record.reason, record.location) == (Reason.TEXT_MISSING, "file")
    assert reasons(read(write(path, pa.table({"text": [["a"]]})))) == [Reason.TEXT_NOT_A_STRING]
    for data in (b"", b"PK\x03\x04 a zip", b"ARROW1\0\0", b"ARROW1\0\0 and nothing more", bytes(100)):
        path.write_bytes(data)
        assert set(reasons(read(path))) <= {Reason.UNREADABLE_ARROW, Reason.TEXT_MISSING}, data
        assert len(read(path)) == 1
