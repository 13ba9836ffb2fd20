"""``--wait`` for a busy workspace, and who promoted: with real processes that hold it."""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from lease_processes import holding
from watch_world import update, with_base

from rewarm.pipeline.api.releases import person
from rewarm.pipeline.cli.app import app
from rewarm.pipeline.cli.options import duration
from rewarm.pipeline.lineage.commits import file_of, read_log
from rewarm.pipeline.lineage.lineage import Lineage
from rewarm.pipeline.lineage.verify.repair import repair
from rewarm.pipeline.lineage.workspace import CONVERTED_FORMAT, RECORD, Workspace
from rewarm.pipeline.recipe.recipe import load_recipe
from rewarm.pipeline.update.inputs import create
from rewarm.stages.core.errors import BusyError
from rewarm.stages.core.storage import Folder
from rewarm.stages.train import model_config

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace(str(tmp_path / "lm"))
    create(made, load_recipe("tiny"))
    with_base(made)
    return made


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("30m", 1800), ("1.5h", 5400), ("2d", 172800), (" 0 ", 0), ("2H", 7200)],
)
def test_durations(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["soon", "-1", "1 hour", "", "h", "1e9", "inf"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="90s, 30m, 2h"):
        duration(text)


def test_a_busy_workspace_is_waited_for(workspace: Workspace, rewarm: Command) -> None:
    with holding(workspace.folder.path, "rewarm update first", 60) as holder:
        code, _, error = rewarm("discard", workspace.folder, "--wait", "1")
        assert (code, "`rewarm update first`" in error) == (5, True)
        threading.Timer(3, holder.process.kill).start()
        code, out, error = rewarm("discard", workspace.folder, "--wait", "1m")
        assert (code, out) == (0, "there is no unfinished update\n"), error


def waits() -> set[str]:
    """The commands that have ``--wait``."""
    command: Any = typer.main.get_command(app)
    return {name for name, one in command.commands.items() if any(option.name == "wait" for option in one.params)}


# Each command that holds a lease, with its arguments and the folder that it holds.
HOLDING = {
    "init": (["{root}/new", "--recipe", "tiny", "--data", "docs={root}/x.jsonl"], "new"),
    "update": (["{root}/lm", "--data", "news={root}/x.jsonl"], "lm"),
    "study": (["{root}/lm", "--data", "news={root}/x.jsonl", "--grid", "replay.share=0,0.1"], "lm/studies/news"),
    "recipe": (["{root}/lm", "--set", "replay.share=0.1"], "lm"),
    "discard": (["{root}/lm"], "lm"),
    "promote": (["{root}/lm", "0"], "lm"),
    "rollback": (["{root}/lm"], "lm"),
    "verify": (["{root}/lm", "--repair"], "lm"),
    "convert": (["{root}/old"], "old"),
    "prune": (["{root}/lm", "--yes"], "lm"),
    "watch": (["{root}/lm", "--inbox", "{root}/inbox", "--once"], "lm/watch"),
}


@pytest.mark.faults
def test_every_command_that_holds_a_workspace_waits_for_it_on_request(workspace: Workspace, rewarm: Command) -> None:
    root = workspace.folder.path.parent
    (root / "inbox").mkdir()
    (root / "x.jsonl").write_text('{"text": "a document"}\n')
    model = workspace.update("0000-docs") / "trunk" / "model"
    model_config(load_recipe("tiny").model, 300, 0, 64).save_pretrained(model.path)
    record = {**workspace.record(), "format": CONVERTED_FORMAT}
    Folder(root / "old").write_json(RECORD, record)
    # the demo passes it on to init and update; anneal and adopt look for a trained trunk first
    assert HOLDING.keys() == waits() - {"demo", "anneal", "adopt"}
    for name, (arguments, held) in HOLDING.items():
        with holding(root / held, "rewarm other", 2):
            code, out, error = rewarm(name, *(one.format(root=root) for one in arguments), "--wait", "1s")
        assert code == BusyError.code, f"{name}: {error}"
        assert "waiting for up to 1 s for `rewarm other`" in out + error, f"{name}: {error}"


def test_who_promoted_is_recorded(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, name in ((1, "news"), (2, "code")):
        Lineage(workspace).record(update(number, name))
    for one in ("0000-docs", "0001-news", "0002-code"):
        (workspace.update(one) / "release" / "model").write("x", b"")
    lineage = Lineage(workspace)
    lineage.promote("0001-news", "better", "ada@desk")
    lineage.rollback(by="deploy")
    by = [entry.get("by") for entry in Lineage(workspace).history]
    assert by == [None, None, None, "ada@desk", "deploy"]
    assert [entry.get("by") for entry in json.loads(workspace.folder.read("releases.json"))["history"]] == by
    place = workspace.folder / "commits"
    lost = place.read(file_of(3))
    assert b'"by": "ada@desk"' in lost and b'"by"' not in place.read(file_of(2)), "older commits stay as they are"
    place.delete(file_of(3))
    repair(workspace)
    assert place.read(file_of(3)) == lost
    assert read_log(workspace.folder).history[3]["by"] == "ada@desk"
    monkeypatch.setenv("REWARM_USER", "ci-bot")
    assert person() == "ci-bot"
    monkeypatch.delenv("REWARM_USER")
    assert "@" in person()
