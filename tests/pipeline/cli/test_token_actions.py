"""``rewarm tokenize``: which datasets are meant, and what verification and export say of them."""

from pathlib import Path

import pyarrow as pa
import pytest

from rewarm.pipeline.cli.data import export_tokens, verify_tokens
from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.progress import Silent
from rewarm.stages.core.storage import MANIFEST, Folder
from rewarm.stages.data.documents import DOCUMENT_SCHEMA, document_id, shard_writer
from rewarm.stages.data.token_files import read_megatron
from rewarm.stages.data.tokens import TokenFormat, write_shard
from rewarm.stages.tokenize import TokenizerSettings, TokenizeSettings, run, train_tokenizer

TEXTS = ["the learning rate", "naïve café <|endoftext|> 学習", "x = y[0]"]


@pytest.fixture
def workspace(tmp_path: Path, ray_cluster: None) -> Folder:
    """A workspace of two datasets with tokens, and one without."""
    folder = Folder(tmp_path / "lm")
    folder.write_json("workspace.json", {"format": 2, "recipe": {}})
    columns = {
        "doc_id": [document_id(text) for text in TEXTS],
        "text": TEXTS,
        "num_bytes": [len(text.encode()) for text in TEXTS],
    }
    filled = {field.name: columns.get(field.name, [None] * len(TEXTS)) for field in DOCUMENT_SCHEMA}
    for name in ("base", "news", "torn"):
        dataset = folder / "datasets" / name
        with (dataset / "documents").writing("00000.parquet") as scratch, shard_writer(scratch) as writer:
            writer.write_table(pa.table(filled, schema=DOCUMENT_SCHEMA))
        if name == "base":
            train_tokenizer(dataset / "documents", folder / "tokenizer", TokenizerSettings(vocab_size=300), Silent())
        if name != "torn":
            run(dataset, folder / "tokenizer", dataset / "tokens", TokenizeSettings(), Silent())
            (dataset / "tokens").write_json(MANIFEST, {})
    return folder


def test_verify(workspace: Folder) -> None:
    found = verify_tokens(workspace.uri, None, None, Silent())
    assert found["equal"]
    assert {name: each["documents"] for name, each in found["datasets"].items()} == {"base": 3, "news": 3}
    file = workspace.path / "datasets" / "news" / "tokens" / "train" / "00000.arrow"
    with pa.OSFile(str(file)) as source:
        table = pa.ipc.open_file(source).read_all()
    rows = table.to_pylist()
    rows[2]["tokens"][0] += 1
    write_shard(file, TokenFormat.of(table.schema, "x"), [pa.RecordBatch.from_pylist(rows, schema=table.schema)])
    assert not verify_tokens(workspace.uri, "news", 3, Silent())["equal"]
    assert verify_tokens(workspace.uri, "base", 3, Silent())["equal"]


def test_export(workspace: Folder, tmp_path: Path) -> None:
    found = export_tokens(workspace.uri, "news", tmp_path / "news", True, Silent())
    assert found["splits"]["train"]["documents"] == 3
    assert len(list(read_megatron(tmp_path / "news_train"))) == 3


@pytest.mark.parametrize("name", ["torn", "absent"])
def test_datasets_without_tokens_are_refused(workspace: Folder, name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"dataset '{name}' has no tokens; tokenized datasets: base, news"):
        verify_tokens(workspace.uri, name, None, Silent())
    with pytest.raises(UsageError, match="no rewarm workspace found"):
        verify_tokens(str(tmp_path), None, None, Silent())
