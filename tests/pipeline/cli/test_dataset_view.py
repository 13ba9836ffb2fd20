"""What `rewarm data` and `rewarm quarantine` show of a dataset that ingest left."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from rewarm.pipeline.cli.data_view import account_view, dataset_account, quarantine, quarantine_view
from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.stages.core.errors import UsageError
from rewarm.stages.ingest.account import Account
from rewarm.stages.ingest.passes import quarantine_rows
from rewarm.stages.ingest.records import Document, Refusal


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A dataset of two shards' refusals, with its account."""
    folder = tmp_path / "datasets" / "news"
    (folder / "quarantine").mkdir(parents=True)
    words = [Refusal(f"line {n}", "gopher-quality: words", f"{n} found", b"a b", "gopher-quality", n) for n in range(9)]
    torn = Refusal("line 9", "invalid JSON", "one object expected", b"\xff{")
    for number, refused in enumerate((words, [torn])):
        rows = quarantine_rows([("a.jsonl", one) for one in refused])
        with pq.ParquetWriter(folder / "quarantine" / f"0000{number}.parquet", rows.schema) as writer:
            writer.write_batch(rows)
    account = Account.of(["read"])
    account.follow(Document("a text", "https://www.example.org/x", None, "en", None), [])
    account.follow(torn, [])
    account.describe([("en", "https://www.example.org/x", 6, 0.5), (None, "a file.txt", 2000, None)])
    extra = {"files": 1, "earlier": {"old": {"exact": 3, "near": 1}}, "decontaminated": {"arc": 2}, "lost": []}
    (folder / "account.json").write_text(json.dumps(account.to_json() | extra))
    return Workspace(str(tmp_path))


def shown(view: object) -> str:
    console = Console(width=140, record=True, file=None, quiet=False)
    with console.capture() as captured:
        console.print(view)
    return captured.get()


def test_the_account_as_tables(workspace: Workspace) -> None:
    found = dataset_account(workspace, "news")
    assert found["domains"] == {"example.org": 1}
    assert found["languages"] == {"en": 1, "unknown": 1}
    assert found["steps"][0]["reasons"] == {"invalid JSON": 1}
    page = shown(account_view(found))
    assert all(text in page for text in ("read", "50.0%", "invalid JSON", "old", "arc", "example.org", "from 0.50"))


def test_refusals_by_reason_with_what_was_measured(workspace: Workspace) -> None:
    found = quarantine(workspace, "news", None, samples=2)
    first, second = found["reasons"]
    assert (found["quarantined"], first["count"], second["count"]) == (10, 9, 1)
    assert first["values"] == {"least": 0.0, "lower": 2.0, "median": 4.0, "upper": 6.0, "most": 8.0}
    assert [sample["location"] for sample in first["samples"]] == ["line 0", "line 1"]
    assert (second["values"], second["samples"][0]["excerpt"]) == (None, "\ufffd{")
    assert "gopher-quality: words" in shown(quarantine_view(found))
    assert quarantine(workspace, "news", "invalid JSON", 0)["quarantined"] == 1


def test_what_is_not_there_is_said(workspace: Workspace) -> None:
    with pytest.raises(UsageError, match="no dataset 'old'; known datasets: news"):
        dataset_account(workspace, "old")
    with pytest.raises(UsageError, match="no record was refused for 'x'"):
        quarantine(workspace, "news", "x", 1)
