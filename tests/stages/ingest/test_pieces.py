"""Shards: about one size, in the order of the files, and together exactly what the files hold."""

import gzip
import json
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ingest_files import as_input

from rewarm.stages.ingest import shards as pieces
from rewarm.stages.ingest.locations import InputFile
from rewarm.stages.ingest.readers import read_piece
from rewarm.stages.ingest.records import Document, Refusal
from rewarm.stages.ingest.settings import IngestSettings
from rewarm.stages.ingest.shards import Piece, Shard, make_shards


def records(shards: list[Shard], settings: IngestSettings) -> list[Document | Refusal]:
    return [record for shard in shards for piece in shard.pieces for record in read_piece(piece, settings)]


def content(records: list[Document | Refusal]) -> list[Any]:
    """What does not depend on the cuts: of a line in the middle only its byte is known, not its number."""
    return [
        (record.location.rpartition(", ")[2], record.text if isinstance(record, Document) else record.reason)
        for record in records
    ]


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.sampled_from(["", "a", "ä" * 9, "{", '{"text": 3}', '{"text": "words ä"}\r', '{"text": ""}', "\ufeff"])
    ),
    st.integers(1, 60),
    st.booleans(),
)
def test_pieces_of_lines_are_the_file(tmp_path: Path, lines: list[str], shard_bytes: int, ended: bool) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes("\n".join(lines).encode() + b"\n" * ended)
    file, whole = as_input(path), IngestSettings()
    cut = IngestSettings(shard_bytes=shard_bytes)
    shards = make_shards([file], cut)
    assert content(records(shards, cut)) == content(list(read_piece(Piece(file), whole)))
    assert sum(shard.num_bytes for shard in shards) == file.size
    assert all(shard.num_bytes <= shard_bytes for shard in shards)


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
@pytest.mark.parametrize("shard_bytes", [1, 2500, 3500, 2**20])
def test_pieces_of_columns_are_the_file(tmp_path: Path, kind: str, shard_bytes: int) -> None:
    path = tmp_path / f"x.{kind}"
    table = pa.table({"text": [f"text {number}" if number % 7 else None for number in range(1000)]})
    if kind == "parquet":
        pq.write_table(table, path, row_group_size=90, use_dictionary=False)
    else:
        with pa.ipc.new_file(path, table.schema) as sink:
            sink.write_table(table, max_chunksize=90)
    file, cut = as_input(path), IngestSettings(shard_bytes=shard_bytes)
    shards = make_shards([file], cut)
    assert len(shards) == {1: 12, 2**20: 1}.get(shard_bytes, len(shards))
    if shard_bytes in (2500, 3500):
        assert 1 < len(shards) < 12
    found, whole = records(shards, cut), list(read_piece(Piece(file), cut))
    assert [record.location for record in found] == [record.location for record in whole]
    assert content(found) == content(whole)
    assert len(found) == 1000


def test_small_files_are_put_together_in_their_order(tmp_path: Path) -> None:
    sizes = [10, 30, 100, 250, 20, 20, 60, 5]
    files = []
    for number, size in enumerate(sizes):
        path = tmp_path / f"{number}.jsonl"
        path.write_bytes(b"\n" * size)
        files.append(as_input(path))
    shards = make_shards(files, IngestSettings(shard_bytes=100))
    assert [[(int(piece.file.name[0]), piece.start, piece.stop) for piece in shard.pieces] for shard in shards] == [
        [(0, None, None), (1, None, None)],
        [(2, None, None)],
        [(3, 0, 83)],
        [(3, 83, 166)],
        [(3, 166, 250)],
        [(4, None, None), (5, None, None), (6, None, None)],
        [(7, None, None)],
    ]
    assert [shard.num_bytes for shard in shards] == [40, 100, 83, 83, 84, 100, 5]
    assert [shard.number for shard in shards] == list(range(7))
    assert make_shards([], IngestSettings()) == []


def test_a_shard_has_no_more_files_than_a_task_can_open_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "MAX_FILES", 3)
    files = [InputFile(f"/{number}.txt", f"{number}.txt", 1, "text", "") for number in range(7)]
    assert [len(shard.pieces) for shard in make_shards(files, IngestSettings())] == [3, 3, 1]


def test_what_cannot_be_entered_in_the_middle_stays_whole(tmp_path: Path) -> None:
    lines = b"".join(json.dumps({"text": f"document {number}"}).encode() + b"\n" for number in range(100))
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines))
    (tmp_path / "b.jsonl").write_bytes(("\ufeff" + lines.decode()).encode("utf-16-le"))
    (tmp_path / "c.jsonl").write_bytes(b"PK\x03\x04" + lines)
    (tmp_path / "d.txt").write_bytes(lines)
    (tmp_path / "e.parquet").write_bytes(b"no Parquet" * 50)
    (tmp_path / "f.arrow").write_bytes(b"ARROW1\0\0" + bytes(500))
    pq.write_table(pa.table({"body": ["a"] * 1000}), tmp_path / "g.parquet", row_group_size=10)
    with pa.ipc.new_stream(tmp_path / "h.arrow", pa.schema({"text": pa.string()})) as sink:
        for _ in range(9):
            sink.write_batch(pa.record_batch({"text": ["a" * 100]}))
    files = [as_input(path) for path in sorted(tmp_path.iterdir())]
    shards = make_shards(files, IngestSettings(shard_bytes=100))
    assert [[(piece.file.name[0], piece.start) for piece in shard.pieces] for shard in shards] == [
        [(letter, None)] for letter in "abcdefgh"
    ]


def test_a_shard_travels_as_json(tmp_path: Path) -> None:
    (tmp_path / "ä b.jsonl").write_bytes(b"{}\n" * 100)
    for shard in make_shards([as_input(tmp_path / "ä b.jsonl")], IngestSettings(shard_bytes=150)):
        assert Shard.from_json(orjson.loads(orjson.dumps(shard.to_json()))) == shard
