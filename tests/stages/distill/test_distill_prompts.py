"""Prompts: each document before any twice, the right texts, whatever shards and row groups they lie in."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.storage import Folder
from rewarm.stages.distill.prompts import CHARACTERS_PER_TOKEN, RUN, Prompts


@given(st.integers(1, 300), st.integers(0, 5))
def test_every_document_is_taken_once_before_any_a_second_time(count: int, seed: int) -> None:
    prompts = Prompts(Folder("/nowhere"), ("00000.parquet",), (count,))
    runs = -(-count // RUN)
    first = prompts.rows(0, runs * RUN, seed)
    assert set(first.tolist()) == set(range(count))
    filled = runs * RUN - count
    assert len(first) - len(set(first.tolist())) == filled
    later = prompts.rows(runs * RUN, runs * RUN, seed)
    assert sorted(later.tolist()) == sorted(first.tolist())


@given(st.integers(1, 300), st.integers(0, 200), st.integers(1, 60))
def test_a_documents_prompt_does_not_depend_on_where_a_batch_begins(count: int, first: int, size: int) -> None:
    prompts = Prompts(Folder("/nowhere"), ("00000.parquet",), (count,))
    assert prompts.rows(first, size, 3).tolist() == prompts.rows(0, first + size, 3)[first:].tolist()


def test_texts_are_those_of_the_rows(tmp_path: Path) -> None:
    texts = [f"document {number} " + "x" * 100 for number in range(50)]
    for shard, part in enumerate((slice(0, 7), slice(7, 7), slice(7, 50))):
        table = pa.table({"text": pa.array(texts[part], pa.large_string())})
        pq.write_table(table, tmp_path / f"{shard:05d}.parquet", row_group_size=5)
    prompts = Prompts.of(Folder(tmp_path))
    assert prompts.ends == (7, 7, 50)
    rows = prompts.rows(0, 120, 1)
    found = prompts.texts(rows, 2)
    assert found == [texts[row][: 2 * CHARACTERS_PER_TOKEN] for row in rows]


def test_a_folder_without_documents_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no documents to take prompts from"):
        Prompts.of(Folder(tmp_path))
