"""The ingest stage over real files on a real Ray: what comes out, what is refused, and that a crash changes nothing."""

import gzip
import json
import shutil
import sys
import zipfile
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from stages.documents import DOCUMENT_SCHEMA, QUARANTINE_SCHEMA, document_id
from stages.errors import StageError, UsageError
from stages.ingest import IngestOutcome, IngestSettings, find_inputs, run
from stages.ingest.run import STAGING, decide, prepare, read_shard, settle_shard
from stages.progress import Silent
from stages.storage import Folder

pytestmark = pytest.mark.usefixtures("ray_cluster")
SETTINGS = IngestSettings(validation_share=0.1)


def lines(texts: list[str]) -> bytes:
    return b"".join(json.dumps({"text": text, "url": f"u:{text}", "n": 1}).encode() + b"\n" for text in texts)


def texts(start: int, stop: int) -> list[str]:
    return [f"document number {number} ß" for number in range(start, stop)]


@pytest.fixture
def arrival(tmp_path: Path) -> Path:
    """Seven files: 600 documents, 30 of them twice, and something broken in most."""
    root = tmp_path / "an ärrival"
    (root / "sub folder").mkdir(parents=True)
    (root / "a.jsonl").write_bytes(lines(texts(0, 200)) + b"not json\n{}\n")
    torn = gzip.compress(lines(texts(200, 300))) + gzip.compress(lines(texts(300, 5000)))[:40]
    (root / "b.jsonl.gz").write_bytes(torn)
    (root / "c ü.jsonl.zst").write_bytes(zstandard.compress(lines(texts(180, 210) + texts(300, 400))))
    pq.write_table(pa.table({"text": [*texts(400, 599), ""]}), root / "sub folder" / "d.parquet")
    pq.write_table(pa.table({"body": ["x"]}), root / "sub folder" / "e.parquet")
    (root / "sub folder" / "f.txt").write_text(texts(599, 600)[0], encoding="utf-8")
    with zipfile.ZipFile(root / "z.jsonl", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.jsonl", lines(texts(0, 500)))
    return root


def ingest(
    root: Path, home: Path, name: str, earlier: tuple[str, ...] = (), settings: IngestSettings = SETTINGS
) -> IngestOutcome:
    inputs = find_inputs([str(root)], settings)
    indexes = [Folder(home / "dedup" / other) for other in earlier]
    return run(inputs, Folder(home / name), settings, indexes, Folder(home / "dedup" / name), Silent())


def table(folder: Path) -> list[dict[str, Any]]:
    return [row for path in sorted(folder.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_an_arrival(arrival: Path, tmp_path: Path) -> None:
    outcome = ingest(arrival, tmp_path, "set")
    documents, validation, refused = (
        table(tmp_path / "set" / name) for name in ("documents", "validation", "quarantine")
    )

    everything = documents + validation
    assert sorted(row["text"] for row in everything) == sorted(texts(0, 600))
    for row in everything:
        assert row["doc_id"] == document_id(row["text"])
        assert row["num_bytes"] == len(row["text"].encode())
    assert {row["text"] for row in validation} == {
        text for text in texts(0, 600) if int(document_id(text), 16) / 2**128 < 0.1
    }
    first = {row["text"]: row["url"] for row in everything}
    assert first[texts(190, 191)[0]] == f"u:{texts(190, 191)[0]}"
    assert first[texts(599, 600)[0]] == "sub folder/f.txt"

    shards = sorted(path.name for path in (tmp_path / "set" / "documents").iterdir())
    assert shards == [f"{number:05d}.parquet" for number in range(7)]
    in_first = [row["text"] for row in pq.read_table(tmp_path / "set" / "documents" / "00000.parquet").to_pylist()]
    assert in_first == [text for text in texts(0, 200) if text in set(in_first)], (
        "the order of the file, first occurrences"
    )
    assert len(in_first) > 150
    assert pq.read_schema(tmp_path / "set" / "documents" / "00004.parquet").equals(DOCUMENT_SCHEMA)
    assert pq.read_schema(tmp_path / "set" / "quarantine" / "00000.parquet").equals(QUARANTINE_SCHEMA)

    where = {(row["file"], row["location"], row["reason"]) for row in refused}
    assert ("a.jsonl", f"line 201, byte {len(lines(texts(0, 200)))}", "invalid JSON") in where
    assert ("b.jsonl.gz", f"line 101, byte {len(lines(texts(200, 300)))}", "truncated stream") in where
    assert ("sub folder/d.parquet", "row 199", "empty text") in where
    assert ("sub folder/e.parquet", "file", "text field missing") in where
    assert any(file == "z.jsonl" for file, _, _ in where)

    assert outcome.documents == len(documents)
    assert outcome.validation_documents == len(validation) > 20
    assert outcome.num_bytes == sum(row["num_bytes"] for row in documents)
    assert outcome.validation_bytes == sum(row["num_bytes"] for row in validation)
    assert outcome.reasons == dict(sorted(Counter(row["reason"] for row in refused).items()))
    assert outcome.quarantined == len(refused)
    assert (outcome.duplicates, outcome.duplicates_earlier) == (30, 0)
    assert orjson.loads(orjson.dumps(asdict(outcome)))["digest"] == outcome.digest
    assert not (tmp_path / "set" / STAGING).exists()


def test_a_crash_at_any_point_changes_nothing(arrival: Path, tmp_path: Path) -> None:
    expected = ingest(arrival, tmp_path, "whole")
    wanted = content(tmp_path / "whole")
    inputs = find_inputs([str(arrival)], SETTINGS)
    out = Folder(tmp_path / "torn")
    staging = out / STAGING
    shards = [{**asdict(file), "number": number} for number, file in enumerate(inputs)]

    # Killed in the first pass: one file done, another half written.
    prepare(inputs, out, SETTINGS, [])
    read_shard(shards[2], out, SETTINGS)
    (staging.path / ".00003.parquet.0123.tmp").write_bytes(b"half")
    done = (staging.path / "00002.parquet").stat().st_ino
    read = [read_shard(shard, out, SETTINGS) for shard in shards]
    assert (staging.path / "00002.parquet").stat().st_ino == done, "what is done is not done again"

    # Killed in the third: one shard settled with its account, one without.
    decide(read, staging, SETTINGS, [], Silent())
    for account in read[:2]:
        settle_shard({"number": account["number"]}, out)
    staging.delete("00001.settled.json")
    settled = (out.path / "documents" / "00000.parquet").stat().st_ino
    assert ingest(arrival, tmp_path, "torn") == expected
    assert (out.path / "documents" / "00000.parquet").stat().st_ino == settled
    assert content(out.path) == wanted

    # Killed after staging was deleted, before the manifest: the whole again, and the same.
    assert ingest(arrival, tmp_path, "torn") == expected
    assert content(out.path) == wanted
    assert content(tmp_path / "dedup" / "torn") == content(tmp_path / "dedup" / "whole")


def test_another_plan_clears_what_was_left(arrival: Path, tmp_path: Path) -> None:
    inputs = find_inputs([str(arrival)], SETTINGS)
    out = Folder(tmp_path / "set")
    prepare(inputs, out, SETTINGS, [])
    for number, file in enumerate(inputs):
        read_shard({**asdict(file), "number": number}, out, SETTINGS)
    out.write("validation/00099.parquet", b"left over")
    other = IngestSettings(validation_share=0.3)
    one = ingest(arrival, tmp_path, "set", settings=other)
    assert one == ingest(arrival, tmp_path, "fresh", settings=other)
    assert content(tmp_path / "set") == content(tmp_path / "fresh")


def test_duplicates_of_earlier_datasets_and_of_their_validation_are_dropped(arrival: Path, tmp_path: Path) -> None:
    ingest(arrival, tmp_path, "base")
    held_out = [row["text"] for row in table(tmp_path / "base" / "validation")]
    second = tmp_path / "second"
    second.mkdir()
    (second / "x.jsonl").write_bytes(lines(texts(500, 700) + held_out + texts(690, 700)))
    outcome = ingest(second, tmp_path, "next", ("base",))
    new = table(tmp_path / "next" / "documents") + table(tmp_path / "next" / "validation")
    assert sorted(row["text"] for row in new) == sorted(texts(600, 700))
    assert outcome.duplicates_earlier == len(set(texts(500, 600)) | set(held_out))
    assert outcome.duplicates == 10 + len(set(held_out) & set(texts(500, 600)))
    assert outcome.documents + outcome.validation_documents == 100

    third = tmp_path / "third"
    third.mkdir()
    (third / "x.jsonl").write_bytes(lines(texts(0, 50) + texts(650, 660)) + b"{\n")
    with pytest.raises(
        UsageError, match=r"no new document remains .*1 × invalid JSON, 60 × already in an earlier dataset"
    ):
        ingest(third, tmp_path, "last", ("base", "next"))


@pytest.mark.parametrize(("count", "expected"), [(1, (1, 0)), (2, (1, 1)), (5, (4, 1))])
def test_small_arrivals_have_a_validation_document(tmp_path: Path, count: int, expected: tuple[int, int]) -> None:
    root = tmp_path / "small"
    root.mkdir()
    (root / "x.jsonl").write_bytes(lines(texts(0, count)))
    outcome = ingest(root, tmp_path, "set", settings=IngestSettings(validation_share=0))
    assert (outcome.documents, outcome.validation_documents) == expected
    if count > 1:
        (row,) = table(tmp_path / "set" / "validation")
        assert row["doc_id"] == min(document_id(text) for text in texts(0, count))
    else:
        assert not (tmp_path / "set" / "validation").exists()


def test_long_documents_make_several_row_groups_and_keep_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stages.ingest.sink.GROUP_BYTES", 400_000)
    monkeypatch.setattr(sys.modules["stages.ingest.run"], "BATCH_BYTES", 100_000)
    root = tmp_path / "long"
    root.mkdir()
    (root / "x.jsonl").write_bytes(lines([f"{number} " * 30_000 for number in range(20)]))
    (shard,) = [{**asdict(file), "number": 0} for file in find_inputs([str(root)], SETTINGS)]
    out = Folder(tmp_path / "set")
    read = [read_shard(shard, out, SETTINGS)]
    staged = pq.ParquetFile(out.path / STAGING / "00000.parquet")
    assert staged.metadata.num_row_groups == 5
    assert [text[:2].strip() for text in staged.read(["text"])["text"].to_pylist()] == [
        str(number) for number in range(20)
    ]
    assert read[0]["documents"] == 20


def test_a_file_that_vanishes_under_way_ends_the_stage_and_is_not_taken_for_empty(
    arrival: Path, tmp_path: Path
) -> None:
    inputs = find_inputs([str(arrival)], SETTINGS)
    kept = tmp_path / "kept"
    shutil.move(inputs[3].path, kept)
    with pytest.raises(StageError, match=r"d.parquet: could not be read"):
        read_shard({**asdict(inputs[3]), "number": 3}, Folder(tmp_path / "set"), SETTINGS)
    assert not (tmp_path / "set" / "documents").exists()
