"""The command line of a watch over a lineage that has a base, with real children that fail fast; nothing is trained."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from watch_webhook import webhook
from watch_world import with_base

from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.pipeline.recipe.recipe import load_recipe
from rewarm.pipeline.update.inputs import create
from rewarm.stages.core.storage import Folder

Command = Callable[..., tuple[int, str, str]]
SLOW = 60


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "in box"
    folder.mkdir()
    return folder


@pytest.fixture
def workspace(home: str) -> Folder:
    """A workspace whose base is a record alone: enough for all that comes before training."""
    made = Workspace(home)
    create(made, load_recipe("tiny"))
    with_base(made)
    return made.folder


def drop(inbox: Path, name: str, text: str, marker: bool = True) -> None:
    (inbox / name).mkdir(exist_ok=True)
    (inbox / name / "x.jsonl").write_text(text)
    if marker:
        (inbox / name / "_SUCCESS").touch()


def journal(workspace: Folder) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (workspace / "watch").read("journal.jsonl").splitlines()]


def test_a_broken_arrival_is_held_until_it_changes(rewarm: Command, workspace: Folder, inbox: Path) -> None:
    drop(inbox, "bad", "{not json\n{}\n")
    drop(inbox, "later", '{"text": "a document"}\n', marker=False)
    with webhook() as server:
        for turn in range(2):
            code, out, error = rewarm("watch", workspace, "--inbox", inbox, "--once", "--webhook", server.url)
            assert (code, error) == (0, "")
            assert len(server.notices) == 1, "told once"
            assert ("bad: plan" in out) == (turn == 0), "it is not tried again"
        notice = server.notices[0]
    assert (notice["event"], notice["arrival"], notice["why"]) == ("held", "bad", "broken")
    assert "x.jsonl" in notice["because"]
    assert [event["kind"] for event in journal(workspace)] == [
        *("seen", "seen", "complete", "called", "held", "delivered")
    ]
    shown = json.loads(rewarm("watch", workspace, "--status", "--json")[1])
    assert [(one["name"], one["state"], one["why"]) for one in shown["arrivals"]] == [
        ("bad", "held", "broken"),
        ("later", "arriving", ""),
    ]
    assert not shown["watched"]
    table = rewarm("watch", workspace, "--status")[1]
    assert "held (broken)" in table
    assert f"not being watched since {shown['seen'][:10]}" in " ".join(table.split())
    drop(inbox, "bad", "{still not json}\n")
    os.utime(inbox / "bad" / "_SUCCESS", ns=(1, 1))
    code, out, _ = rewarm("watch", workspace, "--inbox", inbox, "--once")
    assert code == 0
    assert "bad: plan" in out, "it changed, and has a new marker"
    assert [event["kind"] for event in journal(workspace)][-4:] == ["seen", "complete", "called", "held"]


def test_a_dry_run_says_what_and_why_not_and_writes_nothing(rewarm: Command, workspace: Folder, inbox: Path) -> None:
    drop(inbox, "b", '{"text": "a"}')
    drop(inbox, "a", '{"text": "a"}')
    drop(inbox, "half", '{"text": "a"}', marker=False)
    drop(inbox, "docs", '{"text": "a"}')
    (inbox / "notes.pdf").touch()
    code, out, _ = rewarm("watch", workspace, "--inbox", inbox, "--dry-run")
    found = json.loads(out)
    assert code == 0
    assert [one["name"] for one in found["takes"]] == ["a", "b"]
    assert [(one["name"], one["because"].split(":")[0]) for one in found["waits"]] == [("half", "not complete")]
    assert found["taken_in"] == {"docs": "0000-docs"}
    assert found["passed_over"] == ["notes.pdf"]
    assert not (workspace / "watch").exists()


def test_a_pause_holds_until_it_is_taken_back(rewarm: Command, workspace: Folder, inbox: Path) -> None:
    drop(inbox, "bad", "{not json\n")
    assert "paused" in rewarm("watch", workspace, "--pause")[1]
    assert "already" in rewarm("watch", workspace, "--pause")[1]
    code, out, _ = rewarm("watch", workspace, "--inbox", inbox, "--once")
    assert (code, "bad: complete" in out, "bad: plan" in out) == (0, True, False)
    assert json.loads(rewarm("watch", workspace, "--status", "--json")[1])["paused"]
    assert "resumed" in rewarm("watch", workspace, "--resume")[1]
    assert "bad: plan" in rewarm("watch", workspace, "--inbox", inbox, "--once")[1]


def test_retry_is_for_what_is_held(rewarm: Command, workspace: Folder, inbox: Path) -> None:
    drop(inbox, "bad", "{not json\n")
    code, _, error = rewarm("watch", workspace, "--retry", "bad")
    assert (code, "no pending arrival has this name" in error) == (2, True)
    rewarm("watch", workspace, "--inbox", inbox, "--once")
    code, _, error = rewarm("watch", workspace, "--retry", "other")
    assert (code, "held arrivals: bad" in error) == (2, True)
    assert rewarm("watch", workspace, "--retry", "bad")[0] == 0
    assert "bad: plan" in rewarm("watch", workspace, "--inbox", inbox, "--once")[1]


def test_an_update_of_others_blocks_and_is_told_once(rewarm: Command, workspace: Folder, inbox: Path) -> None:
    drop(inbox, "bad", "{not json\n")
    Workspace(str(workspace)).update("0001-theirs").write_json("plan.json", {})
    for _ in range(2):
        assert rewarm("watch", workspace, "--inbox", inbox, "--once")[0] == 0
    (trouble,) = [event for event in journal(workspace) if event["kind"] == "trouble"]
    assert "0001-theirs is unfinished and was begun by another command" in trouble["details"]["because"]
    (workspace / "updates" / "0001-theirs").delete("plan.json")
    rewarm("watch", workspace, "--inbox", inbox, "--once")
    assert [event["kind"] for event in journal(workspace)][-2:] == ["recovered", "held"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--cron", "0 3 * *"], "--cron '0 3 * *' has 4 fields"),
        (["--timezone", "Mars/Phobos"], "is not a time zone"),
        (["--missed", "later"], "--missed"),
        (["--webhook", "ftp://x"], "expected http"),
        (["--quiet", "-1"], "--quiet"),
        (["--marker", "a/b"], "--marker"),
        (["--max-cost", "5"], "cost.per_worker_hour"),
        (["--set", "replay.shar=1"], "did you mean replay.share"),
        (["--set", "model.config.hidden_size=64"], "fixed when the workspace was created"),
        (["--once", "--cron", "0 3 * * *"], "excludes --cron"),
        (["--once", "--dry-run"], "give only one of"),
        (["--pause", "--resume"], "give only one of"),
    ],
)
def test_what_cannot_be_is_refused_before_anything(
    rewarm: Command, workspace: Folder, inbox: Path, options: list[str], message: str
) -> None:
    code, out, error = rewarm("watch", workspace, "--inbox", inbox, *options)
    assert (code, out) == (2, "")
    assert message in error
    assert not (workspace / "watch").exists()


def test_an_inbox_and_a_base_are_needed(rewarm: Command, workspace: Folder, inbox: Path, tmp_path: Path) -> None:
    assert "--inbox" in rewarm("watch", workspace)[2]
    assert "the folder does not exist" in rewarm("watch", workspace, "--inbox", tmp_path / "none")[2]
    for folder in ("commits", "updates"):
        (workspace / folder).delete()
    workspace.delete("releases.json")
    assert "no base yet" in rewarm("watch", workspace, "--inbox", inbox)[2]


def test_a_running_watch_hears_other_commands_and_ends_on_sigterm(
    rewarm: Command, workspace: Folder, inbox: Path, tmp_path: Path
) -> None:
    log = tmp_path / "out"
    with log.open("wb") as stream:
        running = subprocess.Popen(
            [sys.executable, "-m", "rewarm.pipeline", "watch", str(workspace), "--inbox", str(inbox), "--every", "0.5"],
            stdout=stream,
            stderr=stream,
        )

    def wait_for(text: str) -> None:
        deadline = time.monotonic() + SLOW
        while text not in log.read_text():
            assert time.monotonic() < deadline, (text, log.read_text())
            assert running.poll() is None, log.read_text()
            time.sleep(0.1)

    try:
        wait_for("watching")
        assert "another rewarm command is writing" in rewarm("watch", workspace, "--inbox", inbox)[2]
        rewarm("watch", workspace, "--pause")
        wait_for("paused")
        drop(inbox, "bad", "{not json\n")
        wait_for("bad: complete")
        assert json.loads(rewarm("watch", workspace, "--status", "--json")[1])["watched"]
        rewarm("watch", workspace, "--resume")
        wait_for("bad: HELD (broken)")
        running.send_signal(signal.SIGTERM)
        assert running.wait(SLOW) == 0
        assert "stopped; the next watch resumes from here" in log.read_text()
    finally:
        running.kill()
        running.wait()


def test_addresses_of_webhooks_can_be_read_from_a_file(rewarm: Command, workspace: Folder, inbox: Path) -> None:
    drop(inbox, "bad", "{not json\n{}\n")
    file = inbox.parent / "hooks"
    with webhook() as server:
        file.write_text(f"# of the team\n\n{server.url}\n")
        code, _, error = rewarm("watch", workspace, "--inbox", inbox, "--once", "--webhook", f"@{file}")
        assert (code, error) == (0, "")
        assert [one["event"] for one in server.notices] == ["held"]
    code, _, error = rewarm("watch", workspace, "--inbox", inbox, "--once", "--webhook", f"@{file}-none")
    assert code == 2 and "expected a file with one address per line" in error


def test_a_hostile_inbox_is_named_and_harms_nothing(rewarm: Command, workspace: Folder, inbox: Path) -> None:
    """Links that lead out, and names and contents with control sequences: nothing raw, and nothing of elsewhere."""
    secret = inbox.parent / "secret"
    secret.mkdir()
    (secret / "key.jsonl").write_text('{"text": "my secret key"}\n')
    (inbox / "stolen").symlink_to(secret)
    drop(inbox, "evil\x1b[2J\u202e", "{not json \x1b]0;owned\x07\n")
    (inbox / "evil\x1b[2J\u202e" / "deep").symlink_to(secret)
    with webhook() as server:
        code, out, error = rewarm("watch", workspace, "--inbox", inbox, "--once", "--webhook", server.url)
        notices = json.dumps(server.notices, ensure_ascii=False)
    assert code == 0
    assert out.count("not followed, because it leads out of the inbox") == 2
    code, told, status_error = rewarm("watch", workspace, "--status")
    code, planned, _ = rewarm("watch", workspace, "--inbox", inbox, "--dry-run")
    assert [Path(one).name for one in json.loads(planned)["outside"]] == ["deep", "stolen"]
    logs = workspace / "watch" / "logs"
    log = "".join(logs.read(name).decode() for name in logs.files())
    for shown in (out, error, told, status_error, notices, log):
        assert not any(sign in shown for sign in "\x1b\x07\u202e"), ascii(shown)
        assert "my secret key" not in shown
    assert [event["kind"] for event in journal(workspace)][:4] == ["seen", "complete", "called", "held"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="a machine without GPUs is meant")
@pytest.mark.parametrize("option", ["--once", "--dry-run"])
def test_a_machine_that_can_train_nothing_holds_no_arrival(
    rewarm: Command, workspace: Folder, inbox: Path, option: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    drop(inbox, "fine", '{"text": "a document"}\n')
    code, _, error = rewarm("watch", workspace, "--inbox", inbox, option, "--set", "train.device=gpu")
    assert code == 2
    assert "this machine has 0: --set train.device=cpu" in error
    assert not (workspace / "watch").exists("journal.jsonl")
