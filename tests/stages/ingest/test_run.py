"""The ingest stage over real files on a real Ray: what comes out, what is refused, and that a crash changes nothing."""

import errno
import gzip
import json
import random
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from rewarm.stages.core.errors import StageError, UsageError
from rewarm.stages.core.progress import Progress, Silent
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.documents import DOCUMENT_SCHEMA, QUARANTINE_SCHEMA, document_id
from rewarm.stages.ingest import IngestOutcome, IngestSettings, find_inputs, run
from rewarm.stages.ingest.passes import read_shard
from rewarm.stages.ingest.readers import read_piece
from rewarm.stages.ingest.records import Document, Refusal
from rewarm.stages.ingest.run import ACCOUNT, STAGING, read_shards
from rewarm.stages.ingest.shards import Piece, make_shards

pytestmark = pytest.mark.usefixtures("ray_cluster")
SETTINGS = IngestSettings(validation_share=0.1, shard_bytes=4000)


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


class Dying(Silent):
    """Progress that ends the process's work at its n-th word."""

    def __init__(self, words: int) -> None:
        self.words = words

    def begin(self, label: str, total: float, unit: str) -> None:
        self.advance()

    def advance(self, by: float = 1, **figures: float) -> None:
        self.words -= 1
        if self.words == 0:
            raise InterruptedError


def ingest(
    root: Path,
    home: Path,
    name: str,
    earlier: tuple[str, ...] = (),
    settings: IngestSettings = SETTINGS,
    progress: Progress | None = None,
) -> IngestOutcome:
    inputs = find_inputs([str(root)], settings)
    indexes = [Folder(home / "dedup" / other) for other in earlier]
    index = Folder(home / "dedup" / "set" if name in ("set", "torn") else home / "dedup" / name)
    return run(inputs, Folder(home / name), settings, indexes, index, progress or Silent())


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

    assert len(list((tmp_path / "set" / "documents").iterdir())) > 4, "the files are cut and grouped"
    order = {text: number for number, text in enumerate([*texts(0, 200), *texts(200, 300)])}
    places = [order[row["text"]] for row in documents if row["text"] in order]
    assert places == sorted(places), "the order of the files, first occurrences"
    for shard in (tmp_path / "set" / "documents").iterdir():
        assert pq.read_schema(shard).equals(DOCUMENT_SCHEMA)
    for shard in (tmp_path / "set" / "quarantine").iterdir():
        assert pq.read_schema(shard).equals(QUARANTINE_SCHEMA)

    where = {(row["file"], row["location"], row["reason"]) for row in refused}
    assert any(
        file == "a.jsonl" and place.endswith(f"byte {len(lines(texts(0, 200)))}") and reason == "invalid JSON"
        for file, place, reason in where
    )
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


def test_the_account_adds_up(arrival: Path, tmp_path: Path) -> None:
    outcome = ingest(arrival, tmp_path, "set")
    account = json.loads((tmp_path / "set" / ACCOUNT).read_text())
    steps = account["steps"]
    decided = ["older addresses", "exact duplicates", "near-duplicates", "validation", "decontaminate"]
    assert [step["name"] for step in steps] == ["read", "language", *decided]
    for before, after in pairwise(steps):
        assert (after["documents_in"], after["bytes_in"]) == (before["documents_out"], before["bytes_out"])
    for step in steps:
        assert step["documents_in"] - step["documents_out"] == sum(step["reasons"].values())
    assert steps[0]["bytes_in"] == sum(path.stat().st_size for path in arrival.rglob("*") if path.is_file())
    assert steps[-1]["documents_out"] == outcome.documents
    assert steps[-1]["bytes_out"] == outcome.num_bytes
    assert sum(account["languages"].values()) == sum(account["lengths"].values()) == outcome.documents
    assert account["earlier"] == {}
    assert account["files"] == 7


def test_a_crash_at_any_point_changes_nothing(arrival: Path, tmp_path: Path) -> None:
    expected = ingest(arrival, tmp_path, "set")
    wanted, index = content(tmp_path / "set"), content(tmp_path / "dedup")
    for words in range(1, 400, 7):
        with suppress(InterruptedError):
            assert ingest(arrival, tmp_path, "torn", progress=Dying(words)) == expected
            break
    assert words > 20, "it was interrupted all the way through"
    assert content(tmp_path / "torn") == wanted
    assert content(tmp_path / "dedup") == index

    # Killed after staging was deleted, before the manifest: the whole again, and the same.
    assert ingest(arrival, tmp_path, "torn") == expected
    assert content(tmp_path / "torn") == wanted
    assert content(tmp_path / "dedup") == index


def test_another_plan_clears_what_was_left(arrival: Path, tmp_path: Path) -> None:
    with pytest.raises(InterruptedError):
        ingest(arrival, tmp_path, "set", progress=Dying(12))
    Folder(tmp_path / "set").write("validation/00099.parquet", b"left over")
    other = IngestSettings(validation_share=0.3, shard_bytes=4000)
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
        UsageError, match=r"no new document remains .*60 × already in an earlier dataset, 1 × invalid JSON"
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
    monkeypatch.setattr("rewarm.stages.ingest.passes.GROUP_BYTES", 400_000)
    monkeypatch.setattr("rewarm.stages.ingest.passes.BATCH_BYTES", 100_000)
    root = tmp_path / "long"
    root.mkdir()
    (root / "x.jsonl").write_bytes(lines([f"{number} " * 30_000 for number in range(20)]))
    settings = IngestSettings()
    (shard,) = make_shards(find_inputs([str(root)], settings), settings)
    out = Folder(tmp_path / "set")
    read = read_shard(shard.to_json(), out, out / STAGING, settings)
    staged = pq.ParquetFile(out.path / STAGING / "00000.parquet")
    assert staged.metadata.num_row_groups == 5
    assert [text[:2].strip() for text in staged.read(["text"])["text"].to_pylist()] == [
        str(number) for number in range(20)
    ]
    assert read["documents"] == 20


def test_a_file_that_changes_under_way_ends_the_stage(arrival: Path, tmp_path: Path) -> None:
    inputs = find_inputs([str(arrival)], SETTINGS)
    shards = make_shards(inputs, SETTINGS)
    with (arrival / "a.jsonl").open("ab") as file:
        file.write(lines(texts(0, 1)))
    out = Folder(tmp_path / "set")
    with pytest.raises(StageError, match=r"a.jsonl"):
        read_shard(shards[0].to_json(), out, out / STAGING, SETTINGS)
    assert not (tmp_path / "set" / "documents").exists()


def test_lost_shards_end_the_stage_unless_they_are_allowed(
    arrival: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rewarm.stages.ingest.passes.PAUSE", 0.0)
    inputs = find_inputs([str(arrival)], SETTINGS)
    shards = make_shards(inputs, SETTINGS)
    tries = []

    def failing(piece: Piece, settings: IngestSettings, passed: Counter[str]) -> Iterator[Document | Refusal]:
        tries.append(piece)
        if len(tries) < 3 or piece.file.name == "a.jsonl":
            raise OSError(errno.EIO, "the disk did not answer", piece.file.path)
        return read_piece(piece, settings, passed)

    monkeypatch.setattr("rewarm.stages.ingest.passes.read_piece", failing)
    out = Folder(tmp_path / "set")
    lost = read_shard(shards[0].to_json(), out, out / STAGING, SETTINGS)
    assert (lost["files"], len(tries)) == (["a.jsonl"], 3)
    assert "did not answer" in lost["error"]
    tries.clear()
    last = read_shard(shards[-1].to_json(), out, out / STAGING, SETTINGS)
    assert "error" not in last, "a read that fails twice and then works"

    accounts = [last, {**lost, "number": 0}]
    monkeypatch.setattr(sys.modules["rewarm.stages.ingest.run"], "map_shards", lambda *given: accounts)
    with pytest.raises(StageError, match=r"1 of .* shards .*did not answer.* ingest.lost_shards=1"):
        read_shards(shards, out, SETTINGS, Silent())
    assert read_shards(shards, out, SETTINGS.model_copy(update={"lost_shards": 1}), Silent()) == ([last], [accounts[1]])


def test_a_full_disk_is_said_at_once(arrival: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(piece: Piece, settings: IngestSettings, passed: Counter[str]) -> Iterator[Document | Refusal]:
        raise OSError(errno.ENOSPC, "No space left on device", "/data/x")

    monkeypatch.setattr("rewarm.stages.ingest.passes.read_piece", full)
    shards = make_shards(find_inputs([str(arrival)], SETTINGS), SETTINGS)
    out = Folder(tmp_path / "set")
    with pytest.raises(StageError, match="/data/x: No space left on device; free some space and run the same command"):
        read_shard(shards[0].to_json(), out, out / STAGING, SETTINGS)


def test_a_real_disk_that_fills_up_ends_the_shard_with_what_to_do(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk], check=False).returncode == 0
    if not mounted:
        pytest.skip("no right to mount a small disk")
    try:
        source = tmp_path / "x.jsonl"
        source.write_bytes(lines([random.Random(number).randbytes(3000).hex() for number in range(400)]))
        shards = make_shards(find_inputs([str(source)], IngestSettings()), IngestSettings())
        out = Folder(disk / "set")
        with pytest.raises(StageError, match="No space left on device; free some space and run the same command again"):
            read_shard(shards[0].to_json(), out, out / STAGING, IngestSettings())
    finally:
        subprocess.run(["umount", disk], check=True)
