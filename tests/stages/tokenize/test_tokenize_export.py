"""Token shards to Megatron's files: the same documents, with end-of-text or without, and never over another file."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.progress import Silent
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.token_files import read_megatron
from rewarm.stages.data.tokens import TokenFormat, write_shard
from rewarm.stages.tokenize import export_megatron

DOCUMENTS = [[[5, 6, 0], [0]], [], [[7, 0], [8, 9, 60_000, 0], [1, 0]]]  # by shard


def write(folder: Folder, documents: list[list[int]], name: str, dtype: str = "uint16") -> None:
    token_format = TokenFormat("digest", 0, dtype)
    rows = [{"doc_id": f"{i:032x}", "tokens": ids, "num_bytes": 1} for i, ids in enumerate(documents)]
    batch = pa.RecordBatch.from_pylist(rows, schema=token_format.schema())
    edges = [0, min(1, len(batch)), len(batch)]
    with folder.writing(f"{name}.arrow") as scratch:  # in slices: offsets need not begin at 0
        write_shard(scratch, token_format, [batch.slice(low, high - low) for low, high in pairwise(edges)])


@pytest.fixture
def tokens(tmp_path: Path) -> Folder:
    folder = Folder(tmp_path / "tokens")
    for number, documents in enumerate(DOCUMENTS):
        write(folder / "train", documents, f"{number:05d}")
    write(folder / "validation", [[3, 3, 0]], "00000")
    return folder


@pytest.mark.parametrize("end_of_text", [True, False])
def test_documents_are_the_same(tokens: Folder, tmp_path: Path, end_of_text: bool) -> None:
    outcome = export_megatron(tokens, tmp_path / "out" / "news", Silent(), end_of_text)
    expected = [ids if end_of_text else ids[:-1] for documents in DOCUMENTS for ids in documents]
    prefix = tmp_path / "out" / "news_train"
    assert [ids.tolist() for ids in read_megatron(prefix)] == expected
    assert outcome.splits["train"].prefix == str(prefix)
    assert outcome.splits["train"].documents == 5
    assert outcome.splits["train"].tokens == sum(map(len, expected))
    assert outcome.splits["validation"].documents == 1
    assert outcome.dtype == "uint16"


def test_large_vocabulary_is_int32(tmp_path: Path) -> None:
    write(Folder(tmp_path / "tokens" / "train"), [[100_000, 0]], "00000", "uint32")
    outcome = export_megatron(Folder(tmp_path / "tokens"), tmp_path / "x", Silent())
    assert outcome.dtype == "int32"
    assert list(outcome.splits) == ["train"]
    (ids,) = read_megatron(tmp_path / "x_train")
    assert (ids.tolist(), ids.dtype) == ([100_000, 0], np.int32)


def test_refused(tokens: Folder, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no token shards"):
        export_megatron(Folder(tmp_path / "nothing"), tmp_path / "x", Silent())
    (tmp_path / "x_validation.idx").write_text("mine")
    with pytest.raises(UsageError, match=r"x_validation\.idx: exists"):
        export_megatron(tokens, tmp_path / "x", Silent())
    assert not (tmp_path / "x_train.bin").exists()
    write(tokens / "validation", [[70_000, 0]], "00001", "uint32")
    with pytest.raises(UsageError, match="different tokenizers"):
        export_megatron(tokens, tmp_path / "y", Silent())
