"""The sample: the same whatever the files, spread over what is too large to read, and scaled up honestly."""

import csv
import gzip
import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewarm.pipeline.plan import sample as sampling
from rewarm.pipeline.plan.sample import Chosen, Sample, take_sample
from rewarm.pipeline.plan.survey import removals_of
from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.progress import Silent
from rewarm.stages.data.documents import document_id
from rewarm.stages.ingest import IngestSettings, find_inputs

SETTINGS = IngestSettings()


def texts(count: int, seed: int = 0) -> list[str]:
    dice = random.Random(seed)
    return [f"document {number}: " + "word " * dice.randrange(1, 60) for number in range(count)]


def take(path: Path, scratch: Path, read_bytes: int = 2**30, sample_bytes: int = 20_000) -> Sample:
    scratch.mkdir(exist_ok=True)
    return take_sample(find_inputs([str(path)], SETTINGS), SETTINGS, read_bytes, sample_bytes, scratch, Silent())


def write(folder: Path, parts: list[list[str]]) -> Path:
    folder.mkdir()
    for number, part in enumerate(parts):
        lines = "".join(json.dumps({"text": text}) + "\n" for text in part)
        (folder / f"{number}.jsonl").write_text(lines)
    return folder


@settings(deadline=None, max_examples=50)
@given(st.lists(st.text(min_size=1, max_size=30), min_size=1, max_size=60), st.integers(640, 2000), st.randoms())
def test_what_is_chosen_does_not_depend_on_the_order(found: list[str], limit: int, dice: random.Random) -> None:
    chosen = []
    for _ in range(2):
        one = Chosen(limit)
        for text in found + found[:3]:
            one.offer(document_id(text), text)
        chosen.append(list(one.texts().items()))
        dice.shuffle(found)
    assert chosen[0] == chosen[1]
    assert one.size >= min(limit, sum(len(text.encode()) for text in set(found)) // 64)
    assert len(dict(chosen[0])) == len(chosen[0])


def test_the_sample_does_not_depend_on_the_files(tmp_path: Path) -> None:
    documents = texts(500)
    one = take(write(tmp_path / "one", [documents]), tmp_path / "a")
    many = take(write(tmp_path / "many", [documents[number::7] for number in range(7)]), tmp_path / "b")
    assert list(one.texts.items()) == list(many.texts.items())
    assert 20_000 <= sum(len(text.encode()) for text in one.texts.values()) < 20_000 + 400
    assert one.complete
    assert len(one.hashes) == 500
    assert one.sizes.sum() == sum(len(text.encode()) for text in documents)


def test_a_long_document_does_not_fill_the_sample(tmp_path: Path) -> None:
    one = take(write(tmp_path / "data", [["x" * 100_000, *texts(300)]]), tmp_path / "scratch")
    assert max(len(text) for text in one.texts.values()) <= 20_000 // sampling.PARTS
    assert one.sizes.max() == 100_000


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "parquet", "csv", "tsv"])
def test_of_a_large_arrival_pieces_are_read(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "PIECE", 2**12)
    dice = random.Random(1)
    documents = [f"{number} " + "".join(dice.choices("abcdefghij ", k=200)) for number in range(8000)]
    folder = tmp_path / "data"
    folder.mkdir()
    for part in range(2):
        mine = documents[part * 4000 : (part + 1) * 4000]
        lines = "".join(json.dumps({"text": text}) + "\n" for text in mine).encode()
        if kind == "parquet":
            pq.write_table(pa.table({"text": mine}), folder / f"{part}.parquet", row_group_size=100)
        elif kind in ("csv", "tsv"):
            # Each text has lines and quotes of its own, and lines that look like records.
            with (folder / f"{part}.{kind}").open("w", newline="", encoding="utf-8") as file:
                rows = csv.writer(file, delimiter="," if kind == "csv" else "\t")
                rows.writerows(
                    [["url", "text", "n"], *([f"u:{text[:4]}", text.replace("b", "\n"), 7] for text in mine)]
                )
        elif kind == "jsonl":
            (folder / f"{part}.jsonl").write_bytes(lines)
        else:
            (folder / f"{part}.jsonl.gz").write_bytes(gzip.compress(lines))
    size = sum(path.stat().st_size for path in folder.iterdir())
    found = take(folder, tmp_path / "scratch", read_bytes=size // 8)
    assert not found.complete
    assert 0.05 * len(documents) < len(found.hashes) < 0.6 * len(documents)
    whole = sum(len(text) for text in documents)
    assert found.sizes.sum() / found.pieces.sum() * size == pytest.approx(whole, rel=0.08)
    assert not found.refused or kind == "jsonl.gz"  # whose last record is cut
    numbers = sorted(int(text.split()[0]) for text in found.texts.values())
    assert numbers[0] < 1500
    assert numbers[-1] > (4000 if kind == "jsonl.gz" else 6500), "not only the first lines"
    again = take(folder, tmp_path / "again", read_bytes=size // 8)
    assert again.texts == found.texts


def test_what_cannot_be_read_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text('{"text": "one"}\nnot json\n{"text": 3}\n{"text": "two"}\n')
    found = take(path, tmp_path / "scratch")
    assert (len(found.hashes), found.refused) == (2, 2)
    assert list(found.first(1)) == [next(iter(found.texts))]


def test_an_arrival_whose_pieces_hold_nothing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "PIECE", 2**10)
    path = tmp_path / "data.jsonl"
    path.write_text(json.dumps({"text": "x"}) + "\n" + json.dumps({"other": "y" * 100_000}) + "\n")
    with pytest.raises(UsageError, match=r"plan\.read_bytes"):
        take(path, tmp_path / "scratch", read_bytes=2**11)


def test_the_steps_of_ingest_are_counted_and_the_first_refusal_of_a_reason_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    lines = [json.dumps({"text": f"text {number}"}) for number in range(60)]
    path.write_text("\n".join([*lines, *["not json"] * 40]), encoding="utf-8")
    sample = take_sample(find_inputs([str(path)], SETTINGS), SETTINGS, 10**6, 10**6, tmp_path, Silent())
    assert (sample.refused, len(sample.hashes)) == (40, 60)
    (removal,) = removals_of(sample, {})
    assert (removal.step, removal.documents, removal.documents_in, removal.reason) == ("read", 40, 100, "invalid JSON")
    assert removal.sample["file"] == "x.jsonl"
    assert removal.sample["location"].startswith("line 61")
