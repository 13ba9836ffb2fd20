"""``--wait`` for a busy workspace, and who promoted: with real processes that hold it."""

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from lease_processes import holding
from watch_world import update, with_base

from rewarm.pipeline.api.releases import person
from rewarm.pipeline.cli.options import duration
from rewarm.pipeline.lineage.commits import file_of, read_log
from rewarm.pipeline.lineage.lineage import Lineage
from rewarm.pipeline.lineage.verify.repair import repair
from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.pipeline.recipe.recipe import load_recipe
from rewarm.pipeline.update.inputs import create

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
