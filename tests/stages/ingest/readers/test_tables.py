"""CSV and TSV: quoting, encodings, headers, broken records, and pieces that together are the file."""

import bz2
import csv
import gzip
import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ingest_files import as_input, read, reasons

from rewarm.stages.core.errors import UsageError
from rewarm.stages.ingest import IngestSettings, find_inputs
from rewarm.stages.ingest.readers import read_piece
from rewarm.stages.ingest.readers.tables import read_table
from rewarm.stages.ingest.records import Document, Reason, Refusal
from rewarm.stages.ingest.shards import Piece, make_shards

TABLE = 'id,text,url\r\n1,"One, two\r\nand ""three""",https://a.example\r\n\r\n2,Zwölf 漢字,\r\n'
TEXTS = ['One, two\r\nand "three"', "Zwölf 漢字"]


def table(path: Path, data: bytes | str, **given: Any) -> list[Any]:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return read(path, **given)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("x.csv", TABLE.encode()),
        ("x.CSV", TABLE.replace("\r\n", "\n").replace("two\nand", "two\r\nand").encode()),
        ("x.csv", TABLE.rstrip().encode()),
        ("x.csv", TABLE.encode("utf-8-sig")),
        ("x.csv", TABLE.encode("utf-16")),
        ("x.csv.gz", gzip.compress(TABLE.encode())),
        ("x.csv.zst", zstandard.compress(TABLE.encode())),
        ("x.csv.bz2", bz2.compress(TABLE.encode("utf-8-sig"))),
        ("x.csv", ('"id";"text";"url"\n1;"' + 'One, two\r\nand ""three"""' + ";\n2;Zwölf 漢字;\n").encode()),
        ("x.tsv", 'id\ttext\n1\t"One, two\r\nand ""three"""\n2\tZwölf 漢字\n'.encode()),
        ("x.csv", ('"a\nb",text\n1,"' + 'One, two\r\nand ""three"""' + "\n2,Zwölf 漢字\n").encode()),
    ],
)
def test_the_same_records(tmp_path: Path, name: str, data: bytes) -> None:
    assert [record.text for record in table(tmp_path / name, data)] == TEXTS


def test_fields_and_places(tmp_path: Path) -> None:
    data = "Body,title,timestamp,language,source\n\n" + '"a\nb",T,2024-05-06T07:08:09Z,de,news\n' + ",,,,\nc,,,,\n"
    first, empty, last = table(tmp_path / "x.csv", data, text="Body")
    assert first == Document("a\nb", None, datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC), "de", "news", "T")
    assert [first.location, empty.location, last.location] == ["line 3, byte 38", "line 5, byte 75", "line 6, byte 80"]
    assert empty.reason == Reason.EMPTY_TEXT


def test_broken_records_are_refused_alone(tmp_path: Path) -> None:
    data = b'id,text\n1,a,b\n2\n3,"a" b\n4,\xff\n5,5" of rain\n6,"open\n7,never\n'
    found = table(tmp_path / "x.csv", data)
    assert reasons([record for record in found if not isinstance(record, Document)]) == [
        *([Reason.INVALID_CSV] * 3),
        Reason.INVALID_UTF8,
        Reason.INVALID_CSV,
    ]
    assert [record.text for record in found if isinstance(record, Document)] == ['5" of rain']
    assert found[0].detail == "expected 2 fields, as in the header, found 3"
    assert "unexpected end of data" in found[-1].detail
    assert found[-1].location == "line 7, byte 41"


def test_a_quote_that_is_never_closed_is_bounded(tmp_path: Path) -> None:
    data = 'id,text\n1,"open\n' + "2,words\n" * 300
    found = table(tmp_path / "x.csv", data, max_record_bytes=1024)
    assert (found[0].reason, found[0].location) == (Reason.TOO_LONG, "line 2, byte 8")
    assert "an unclosed quote" in found[0].detail
    assert [record.text for record in found[1:]] == ["words"] * (len(found) - 1)
    assert len(found) > 150


def test_long_fields_are_read(tmp_path: Path) -> None:
    (found,) = table(tmp_path / "x.csv", 'text\n"' + "word " * 100_000 + '"\n')
    assert len(found.text) == 500_000


def test_tsv_without_quoting(tmp_path: Path) -> None:
    found = table(tmp_path / "x.tsv", 'id\ttext\n1\t"Yes" he said\n2\t5" of rain\n')
    assert [record.text for record in found] == ['"Yes" he said', '5" of rain']


def test_a_torn_file_ends_in_a_refusal(tmp_path: Path) -> None:
    packed = gzip.compress(("id,text\n" + '1,"some words"\n' * 5000).encode())
    assert reasons(table(tmp_path / "x.csv.gz", packed[:-10])[-1:]) == [Reason.TRUNCATED]


@pytest.mark.parametrize(
    ("data", "detail"),
    [
        (b"1,some words\n2,more\n", "including 'text', found: 1, some words"),
        (b"text,text\na,b\n", "several of that name"),
        (b"PAR1\x15,,\n", "found Parquet"),
    ],
)
def test_a_header_is_required(tmp_path: Path, data: bytes, detail: str) -> None:
    (refusal,) = table(tmp_path / "x.csv", data)
    assert detail in refusal.detail
    with pytest.raises(UsageError, match="no documents found"):
        find_inputs([str(tmp_path)], IngestSettings())


def test_an_empty_file_has_no_record(tmp_path: Path) -> None:
    assert table(tmp_path / "x.csv", b"") == table(tmp_path / "x.csv", b"id,text\n") == []


def test_tables_of_a_folder_are_found(tmp_path: Path) -> None:
    for name in ("a.csv", "b.tsv", "c.csv.gz"):
        data = b"text\nwords\n"
        (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    assert [(file.name, file.format) for file in find_inputs([str(tmp_path)], IngestSettings())] == [
        ("a.csv", "csv"),
        ("b.tsv", "tsv"),
        ("c.csv.gz", "csv"),
    ]
    (tmp_path / "part-0").write_bytes(b"text\nwords\n")
    (named,) = find_inputs([str(tmp_path / "part-0")], IngestSettings(format="csv"))
    assert [record.text for record in read_piece(Piece(named), IngestSettings()) if isinstance(record, Document)] == [
        "words"
    ]


CELLS = st.text(st.sampled_from('ab",;\n\r ä\t'), max_size=8)


@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(CELLS, CELLS), max_size=12), st.sampled_from(["csv", "tsv"]))
def test_what_a_writer_writes_is_read(tmp_path: Path, rows: list[tuple[str, str]], kind: str) -> None:
    made = io.StringIO(newline="")
    writer = csv.writer(made, delimiter="," if kind == "csv" else "\t", quoting=csv.QUOTE_ALL)
    writer.writerows([("text", "b"), *rows])
    found = table(tmp_path / f"x.{kind}", made.getvalue())
    assert [record.text if isinstance(record, Document) else record.reason for record in found] == [
        text if text.strip() else Reason.EMPTY_TEXT for text, _ in rows
    ]


LINES = st.sampled_from(
    ['1,"a', 'b"', "2,plain", "", '3,"x ""y"" z"', '4,"a" b', "5", '6,5" x', '"', "7,ä\r", '8,"","']
)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(LINES, max_size=20), st.integers(1, 60), st.booleans())
def test_pieces_are_the_file(tmp_path: Path, lines: list[str], shard_bytes: int, ended: bool) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes("\n".join(["id,text", *lines]).encode() + b"\n" * ended)
    file, cut = as_input(path), IngestSettings(shard_bytes=shard_bytes)
    shards = make_shards([file], cut)
    found = [record for shard in shards for piece in shard.pieces for record in read_piece(piece, cut)]
    whole = list(read_piece(Piece(file), IngestSettings()))
    assert [content(record) for record in found] == [content(record) for record in whole]
    assert sum(shard.num_bytes for shard in shards) == file.size


def content(record: Any) -> Any:
    return record.location.rpartition(", ")[2], record.text if isinstance(record, Document) else record.detail


def test_a_large_table_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("id,text\n" + '1,"some\nwords"\n' * 1000)
    assert len(make_shards([as_input(path)], IngestSettings(shard_bytes=2000))) == 8


def test_lines_that_end_with_cr_alone_are_refused_and_not_lost() -> None:
    (refused,) = read_table(io.BytesIO(b"text,url\rhello,x\rworld,y\r"), "csv", "", IngestSettings())
    assert isinstance(refused, Refusal) and "found CR alone" in refused.detail
