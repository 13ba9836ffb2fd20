"""``--from ORG/NAME`` and ``--data NAME=hf://datasets/…``: against a server that speaks the Hub's API, and offline."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hub_server import Hub, hub, sha_of
from model_folders import write_folder, write_tokenizer
from release_world import recipe
from small_workspace import make

from rewarm.pipeline.api.studies import begun_sources
from rewarm.pipeline.lineage.lineage import Lineage
from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.pipeline.study.grid import Trial
from rewarm.pipeline.study.run import begin
from rewarm.pipeline.study.settings import Options
from rewarm.pipeline.study.trial import StudyWorkspace
from rewarm.pipeline.update.hub import Repository, parse_dataset, parse_model, pinned
from rewarm.pipeline.update.inputs import identify_arrival
from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.progress import Silent

Call = Callable[..., tuple[int, str, str]]
COMMANDS = """
import contextlib, io, json, sys
from rewarm.pipeline.cli import main
for line in sys.stdin:
    sys.argv = ["rewarm", *json.loads(line)]
    out, error, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
    print(json.dumps([code, out.getvalue(), error.getvalue()]), flush=True)
"""


@contextmanager
def commands(**environment: str) -> Iterator[Call]:
    """A process that runs commands: the Hub's client reads the environment once."""
    with subprocess.Popen(
        [sys.executable, "-c", COMMANDS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "0", **environment},
    ) as process:
        assert process.stdin and process.stdout

        def call(*words: object) -> tuple[int, str, str]:
            process.stdin.write(json.dumps([*map(str, words)]) + "\n")  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]
            code, out, error = json.loads(process.stdout.readline())  # type: ignore[union-attr]
            return code, out, error

        yield call
        process.stdin.close()


def line(number: int) -> bytes:
    return json.dumps({"text": f"Document {number} about arrays and their axes. " * 12}).encode() + b"\n"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Hub]:
    write_tokenizer(write_folder(tmp_path / "model"))
    with hub() as running:
        files = {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()}
        running.repositories["lab/small"] = {"main": {**files, "pytorch_model.bin": b"no", "modeling_x.py": b"no"}}
        data = {
            "README.md": b"# A card, which is no data " * 90,
            "dataset_infos.json": b'{"text": "described"}',
            "data/train.jsonl": b"".join(map(line, range(40))),
            "old/train.jsonl": b"".join(map(line, range(40, 50))),
            "loader.py": b"raise SystemExit",
        }
        running.repositories["datasets/lab/news"] = {"main": data}
        yield running


def settings() -> list[str]:
    values = {"seq_len": 16, "global_batch": 4}
    return [part for name, value in values.items() for part in ("--set", f"train.{name}={value}")]


def test_a_model_and_a_dataset_of_the_hub_are_fetched_and_pinned(server: Hub, tmp_path: Path) -> None:
    environment = {"HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path / "cache")}
    new = ["init", tmp_path / "lm", "--recipe", "tiny", *settings(), "--dry-run", "--json"]
    whole = [*new, "--from", "lab/small", "--data", "news=hf://datasets/lab/news"]
    with commands(**environment) as call:
        code, out, error = call(*whole)
        assert code == 0, error
        model = sha_of(server.repositories["lab/small"]["main"])
        data = sha_of(server.repositories["datasets/lab/news"]["main"])
        found: dict[str, Any] = json.loads(out)
        assert found["starts_from"].endswith(f"models--lab--small/snapshots/{model}")
        assert f"hf://lab/small@{model}" in error and f"hf://datasets/lab/news@{data}: 2 files" in error
        assert not {"pytorch_model.bin", "modeling_x.py", "loader.py"} & {*server.read}, "no pickles and no code"
        code, _, error = call(*new, "--from", "lab/small", "--data", "news=hf://datasets/lab/news/old")
        assert (code, f"hf://datasets/lab/news@{data}/old: 1 files" in error) == (0, True)
        before = len(server.read)
        assert call(*whole)[0] == 0
        assert len(server.read) == before, "from the cache"
        for text, says in (
            ("lab/none", "hf download lab/none --include '*.safetensors*'"),
            ("lab/small@v9", "--revision v9"),
            ("hf://lab", "expected hf://ORG/NAME"),
        ):
            code, _, error = call(*new, "--from", text, "--data", "news=hf://datasets/lab/news")
            assert code == 2 and says in error, error
        code, _, error = call(*new, "--from", "lab/small", "--data", "news=hf://datasets/lab/news/none")
        assert code == 2 and "has no none" in error, error
    with commands(**environment, HF_HUB_OFFLINE="1") as call:
        code, out, error = call(*whole)
        assert code == 0 and json.loads(out)["starts_from"] == found["starts_from"], error
        code, _, error = call(*new, "--from", "lab/other", "--data", "news=hf://datasets/lab/news")
        assert code == 6 and "hf download lab/other" in error and "--from other" in error, error


def test_a_finished_workspace_is_refused_before_the_hub_is_asked(server: Hub, tmp_path: Path) -> None:
    make(tmp_path / "lm")
    with commands(HF_ENDPOINT=server.url, HF_HOME=str(tmp_path / "cache")) as call:
        code, _, error = call("init", tmp_path / "lm", "--recipe", "tiny", "--from", "lab/small")
    assert code == 2 and "already has a base" in error, error
    assert server.asked == []


def test_a_study_records_the_commit_and_keeps_it(lm: Workspace, tmp_path: Path) -> None:
    workspace, address = StudyWorkspace(lm.folder.uri, "late", ["late"]), "hf://datasets/lab/news@0123"
    (tmp_path / "late.txt").write_text("a late text")
    found = identify_arrival({"late": [str(tmp_path / "late.txt")]}, Lineage(workspace), recipe().ingest, Silent())
    begin(workspace, replace(found, sources={"late": [address]}), recipe(), [Trial("a", "row", {}, 0)], Options())
    assert begun_sources(workspace) == {"late": [address]}
    assert pinned(Repository("dataset", "lab/news"), begun_sources(workspace)["late"]).revision == "0123"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lab/small", Repository("model", "lab/small")),
        ("lab/small@v2", Repository("model", "lab/small", "v2")),
        ("hf://lab/small", Repository("model", "lab/small")),
        ("models/small", None),
        ("./small", None),
        ("/lab/small", None),
        ("small", None),
        ("a/b/c", None),
    ],
)
def test_what_names_a_model_of_the_hub(
    text: str, expected: Repository | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    assert parse_model(text) == expected


def test_what_names_data_of_the_hub() -> None:
    assert parse_dataset("data/news") is parse_dataset("s3://bucket/news") is None
    whole = Repository("dataset", "lab/news", "refs/convert/parquet", "default/train/*.parquet")
    assert parse_dataset("hf://datasets/lab/news@refs%2Fconvert%2Fparquet/default/train/*.parquet") == whole
    assert parse_dataset(whole.address) == whole
    for text in ("hf://lab/news", "hf://datasets/news", "hf://spaces/lab/news"):
        with pytest.raises(UsageError, match="expected hf://datasets/ORG/NAME"):
            parse_dataset(text)


def test_a_begun_update_keeps_its_commit_although_the_branch_moves() -> None:
    known = ["hf://datasets/lab/news@0123/old", "hf://datasets/lab/news@4567"]
    assert pinned(Repository("dataset", "lab/news"), known).revision == "4567"
    assert pinned(Repository("dataset", "lab/news", None, "old"), known).revision == "0123"
    assert pinned(Repository("dataset", "lab/news", "v2"), known).revision == "v2"
    assert pinned(Repository("dataset", "lab/other"), known).revision is None
