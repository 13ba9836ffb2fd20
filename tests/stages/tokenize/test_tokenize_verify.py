"""Verification on a real Ray: silent where all is right, and says what is wrong where one byte is."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.progress import Silent
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.tokens import TokenFormat, write_shard
from rewarm.stages.tokenize import TokenizeSettings, run, verify
from rewarm.stages.tokenize.verify import choose

pytestmark = pytest.mark.usefixtures("ray_cluster")
DOCUMENTS = 215


@pytest.fixture(scope="module")
def stored(dataset: Folder, tokenizer: Folder, ray_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Folder:
    out = Folder(tmp_path_factory.mktemp("stored"))
    run(dataset, tokenizer, out, TokenizeSettings(batch_documents=32), Silent())
    return out


def harmed(stored: Folder, out: Path, harm: Callable[[list[dict[str, Any]]], object]) -> Folder:
    """A copy whose shard train/00002 has other rows."""
    shutil.copytree(stored.path, out)
    file = out / "train" / "00002.arrow"
    with pa.OSFile(str(file)) as source:
        table = pa.ipc.open_file(source).read_all()
    rows = table.to_pylist()
    harm(rows)
    write_shard(file, TokenFormat.of(table.schema, "x"), [pa.RecordBatch.from_pylist(rows, schema=table.schema)])
    return Folder(out)


def test_all_documents_are_equal(dataset: Folder, tokenizer: Folder, stored: Folder) -> None:
    outcome = verify(dataset, tokenizer, stored, None, Silent())
    assert (outcome.documents, outcome.rows, outcome.mismatches, outcome.first) == (DOCUMENTS, DOCUMENTS, 0, [])
    assert outcome.tokens > DOCUMENTS


def test_sample_compares_as_many_as_asked(dataset: Folder, tokenizer: Folder, stored: Folder) -> None:
    outcome = verify(dataset, tokenizer, stored, 40, Silent())
    assert (outcome.documents, outcome.rows, outcome.mismatches) == (40, DOCUMENTS, 0)
    assert verify(dataset, tokenizer, stored, 40, Silent()) == outcome


def harm_id(rows: list[dict[str, Any]]) -> None:
    rows[5]["tokens"][2] += 1


def harm_length(rows: list[dict[str, Any]]) -> None:
    del rows[5]["tokens"][-2]


def harm_end(rows: list[dict[str, Any]]) -> None:
    rows[5]["tokens"][-1] = 7


def harm_size(rows: list[dict[str, Any]]) -> None:
    rows[5]["num_bytes"] += 1


def harm_order(rows: list[dict[str, Any]]) -> None:
    rows[5], rows[6] = rows[6], rows[5]


def harm_count(rows: list[dict[str, Any]]) -> None:
    rows.pop()


def harm_more(rows: list[dict[str, Any]]) -> None:
    rows.append(rows[-1])


@pytest.mark.parametrize(
    ("harm", "row", "what", "count"),
    [
        (harm_id, 5, "ids", 1),
        (harm_length, 5, "ids", 1),
        (harm_end, 5, "end-of-text", 1),
        (harm_size, 5, "num_bytes", 1),
        (harm_order, 5, "doc_id", 2),
        (harm_count, 74, "missing", 1),
        (harm_more, 75, "no such document", 1),
    ],
)
def test_what_is_wrong_is_named(
    dataset: Folder, tokenizer: Folder, stored: Folder, tmp_path: Path, harm: Any, row: int, what: str, count: int
) -> None:
    outcome = verify(dataset, tokenizer, harmed(stored, tmp_path / "harmed", harm), None, Silent())
    assert outcome.mismatches == count
    first = outcome.first[0]
    assert (first.shard, first.row, first.what) == ("train/00002", row, what)
    assert first.expected != first.found
    if harm is harm_id:
        assert first.position == 2
        assert first.found == int(first.expected or 0) + 1


def test_first_twenty_are_shown(dataset: Folder, tokenizer: Folder, stored: Folder, tmp_path: Path) -> None:
    def harm(rows: list[dict[str, Any]]) -> None:
        for row in rows[:30]:
            row["num_bytes"] += 1

    outcome = verify(dataset, tokenizer, harmed(stored, tmp_path / "harmed", harm), 1, Silent())
    assert outcome.mismatches == 30  # order and sizes of all documents are compared, whatever the sample
    assert [mismatch.row for mismatch in outcome.first] == list(range(20))


def test_missing_shard_and_other_tokenizer(dataset: Folder, tokenizer: Folder, stored: Folder, tmp_path: Path) -> None:
    shutil.copytree(stored.path, tmp_path / "part")
    (tmp_path / "part" / "train" / "00002.arrow").unlink()
    outcome = verify(dataset, tokenizer, Folder(tmp_path / "part"), 10, Silent())
    assert [(mismatch.shard, mismatch.what) for mismatch in outcome.first] == [("train/00002", "missing")]
    shutil.copytree(stored.path, tmp_path / "other")
    for file in (tmp_path / "other").rglob("*.arrow"):
        write_shard(file, TokenFormat("0" * 32, 0, "uint16"), [])
    with pytest.raises(UsageError, match="has format TokenFormat"):
        verify(dataset, tokenizer, Folder(tmp_path / "other"), 10, Silent())


def test_nothing_to_verify(tokenizer: Folder, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing to verify"):
        verify(Folder(tmp_path), tokenizer, Folder(tmp_path / "tokens"), None, Silent())
    with pytest.raises(UsageError, match="at least 1"):
        verify(Folder(tmp_path), tokenizer, Folder(tmp_path / "tokens"), 0, Silent())


@given(rows=st.lists(st.integers(0, 30), max_size=8), documents=st.integers(1, 200))
def test_sample_has_the_size_and_distinct_rows(rows: list[int], documents: int) -> None:
    chosen = choose(rows, documents)
    assert len(chosen) == len(rows)
    if documents >= sum(rows):
        assert chosen == [None] * len(rows)
        return
    picked = [(shard, row) for shard, each in enumerate(chosen) for row in each or []]
    assert len(set(picked)) == documents
    assert all(0 <= row < rows[shard] for shard, row in picked)
