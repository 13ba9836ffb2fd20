"""``rewarm push``: to folders, to a bucket, and to a server that speaks the hub's API."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hub_server import TOKEN, hub
from ingest_stores import amazon, boto

from rewarm.pipeline.lineage.push import pack, parse_target
from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.storage import Folder

Command = Callable[..., tuple[int, str, str]]
COMMANDS = """
import contextlib, io, json, os, sys
from rewarm.pipeline.cli import main
for line in sys.stdin:
    os.environ["HF_TOKEN"], *sys.argv = json.loads(line)
    out, error, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
    print(json.dumps([code, out.getvalue(), error.getvalue()]), flush=True)
"""
FILES = {"model.safetensors", "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"}


def test_to_a_folder_that_transformers_loads(lm: Workspace, rewarm: Command, tmp_path: Path) -> None:
    import transformers

    (lm.update("0003-more") / "release" / "model").write("notes.txt", b"not to be sent")
    target = tmp_path / "models" / "lm"
    code, out, error = rewarm("push", lm.folder, "--to", target, "--json")
    assert code == 0, error
    assert {one["file"] for one in json.loads(out)["files"]} == {*FILES, "README.md"}
    assert {path.name for path in target.iterdir()} == {*FILES, "README.md"}
    model = transformers.AutoModelForCausalLM.from_pretrained(target)
    assert model.num_parameters() > 10_000
    assert "0003-more" in (target / "README.md").read_text()


def test_a_later_push_takes_the_place_of_the_earlier(lm: Workspace, rewarm: Command, tmp_path: Path) -> None:
    target = tmp_path / "lm-pushed"
    assert rewarm("push", lm.folder, "1", "--to", target)[0] == 0
    first = (target / "model.safetensors").read_bytes()
    (target / "model-00001-of-00002.safetensors").write_bytes(b"of an earlier push")
    assert rewarm("push", lm.folder, "2", "--to", target)[0] == 0
    assert (target / "model.safetensors").read_bytes() != first
    assert {path.name for path in target.iterdir()} == {*FILES, "README.md"}


def test_nothing_of_others_is_replaced(lm: Workspace, rewarm: Command, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("years of work")
    (tmp_path / "file").write_text("a file")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").write_bytes(b"someone else's")
    cases = [
        (["--to", tmp_path / "full"], "thesis.tex"),
        (["--to", tmp_path / "file"], "not a folder"),
        (["--to", tmp_path / "model"], "model.safetensors"),
        (["--to", "hf://nobody"], "ORG/NAME"),
        (["--to", tmp_path / "new", "--private"], "--private"),
        (["--to", tmp_path / "new", "--revision", "v2"], "--revision"),
        (["--to", "ftp://host/x"], "expected a folder"),
    ]
    for arguments, says in cases:
        code, _, error = rewarm("push", lm.folder, *arguments)
        assert (code, says in error) == (2, True), (arguments, error)
    assert (tmp_path / "full" / "thesis.tex").read_text() == "years of work"
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == b"someone else's"
    assert not (tmp_path / "new").exists()


def test_a_dry_run_sends_nothing(lm: Workspace, rewarm: Command, tmp_path: Path) -> None:
    code, out, _ = rewarm("push", lm.folder, "--to", "hf://lab/lm", "--dry-run")
    found = json.loads(out)
    assert (code, found["update"], found["to"]) == (0, "0003-more", "hf://lab/lm")
    assert all(one["bytes"] > 0 for one in found["files"])
    assert rewarm("push", lm.folder, "--to", tmp_path / "new", "--dry-run")[0] == 0
    assert not (tmp_path / "new").exists()


def test_a_damaged_release_is_not_sent(lm: Workspace, rewarm: Command, tmp_path: Path) -> None:
    file = lm.update("0003-more").path / "release" / "model" / "model.safetensors"
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    code, _, error = rewarm("push", lm.folder, "--to", tmp_path / "new")
    assert (code, "digest" in error) == (7, True)
    assert not (tmp_path / "new").exists()


def test_the_card_comes_first_and_the_configuration_last(lm: Workspace) -> None:
    release = lm.update("0003-more") / "release" / "model"
    release.write("model.safetensors.index.json", b"{}")
    files = pack(release, "card").files
    assert files[:3] == ("README.md", "model.safetensors", "model.safetensors.index.json")
    assert files[-1] == "config.json"
    assert len(set(files)) == len(files) == len(FILES) + 2


def test_to_a_bucket(lm: Workspace, rewarm: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with amazon() as endpoint:
        client = boto("s3", endpoint)
        client.create_bucket(Bucket="models")
        place = f"?endpoint_override={endpoint}&scheme=http&region=us-east-1"
        code, _, error = rewarm("push", lm.folder, "--to", f"s3://models/lm{place}")
        assert code == 0, error
        keyed = f"s3://AKIAQ2W3E4R5T6Y7U2I3:s3cr3tOfThem@models/lm{place}"
        for option in ([], ["--json"], ["--dry-run"]):
            code, out, error = rewarm("push", lm.folder, "--to", keyed, *option)
            assert (code, "s3://***@models/lm" in out, "s3cr3t" in out + error) == (0, True, False), error
        client.put_object(Bucket="models", Key="lm/model-00001-of-00002.safetensors", Body=b"of an earlier push")
        assert rewarm("push", lm.folder, "--to", f"s3://models/lm{place}")[0] == 0
        there = {one["Key"] for one in client.list_objects_v2(Bucket="models")["Contents"]}
        assert there - {"lm/"} == {f"lm/{name}" for name in (*FILES, "README.md")}
        sent = client.get_object(Bucket="models", Key="lm/model.safetensors")["Body"].read()
        assert sent == (lm.update("0003-more") / "release" / "model").read("model.safetensors")
        code, _, error = rewarm("push", lm.folder, "--to", f"s3://nowhere/lm{place}")
        assert code == 1
        assert re.search(
            r"s3://nowhere/lm\S*: cannot write: .*bucket does not exist.*; run the same command again", error
        )
        assert "Traceback" not in error


def test_to_a_repository_of_the_hub(lm: Workspace) -> None:
    release = lm.update("0003-more") / "release" / "model"
    with hub() as server:
        variables = {"HF_ENDPOINT": server.url, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
        pushing = subprocess.Popen(  # one process: the hub's library reads the address when it is imported
            [sys.executable, "-c", COMMANDS],
            env={**os.environ, **variables},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert pushing.stdin is not None and pushing.stdout is not None

        def push(*arguments: str, token: str = TOKEN) -> tuple[int, str, str]:
            words = ["rewarm", "push", str(lm.folder), "--to", "hf://lab/lm", "--json", *arguments]
            print(json.dumps([token, *words]), file=pushing.stdin, flush=True)
            code, out, error = json.loads(pushing.stdout.readline())
            return code, out, error

        try:
            code, out, error = push("--private", "--message", "the first")
            assert code == 0, error
            files = server.repositories["lab/lm"]["main"]
            assert set(files) >= {*FILES, "README.md"}
            assert files["model.safetensors"] == release.read("model.safetensors")
            assert files["README.md"] == release.read("README.md")
            assert server.private["lab/lm"]
            assert server.messages == ["the first"]
            assert json.loads(out)["commit"] in json.loads(out)["url"]
            server.repositories["lab/lm"]["main"]["model-00001-of-00002.safetensors"] = b"of an earlier push"
            code, _, error = push("1", "--revision", "older")
            assert code == 0, error
            older = server.repositories["lab/lm"]["older"]
            assert older["model.safetensors"] != files["model.safetensors"]
            assert "model-00001-of-00002.safetensors" not in older
            assert server.messages[-1].startswith("0001-news, finished")
            code, _, error = push(token="hf_wrong")
            assert (code, "HF_TOKEN" in error, "Traceback" in error) == (1, True, False), error
        finally:
            pushing.stdin.close()
            assert pushing.wait(60) == 0


def test_what_a_target_is(tmp_path: Path) -> None:
    assert parse_target("hf://lab/lm", "v1", True).repository == "lab/lm"
    assert parse_target(str(tmp_path), None, False).repository is None
    for wrong in ("hf://", "hf://a/b/c", "hf://a b/c"):
        with pytest.raises(UsageError, match="ORG/NAME"):
            parse_target(wrong, None, False)
    assert Folder(parse_target(str(tmp_path), None, False).uri) == Folder(tmp_path)
