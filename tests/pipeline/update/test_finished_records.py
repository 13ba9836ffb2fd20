"""An update whose command was killed between its commit and what is written from it."""

from pathlib import Path

from small_workspace import make

from rewarm.pipeline.api.updates import finish_records
from rewarm.pipeline.lineage.commits import RELEASES, pointer
from rewarm.pipeline.lineage.lineage import Lineage
from rewarm.pipeline.lineage.optimizer import OPTIMIZER
from rewarm.pipeline.terminal import Terminal


def test_the_same_command_writes_what_the_commit_was_not_followed_by(tmp_path: Path) -> None:
    workspace = make(tmp_path / "lm")
    expected = pointer(Lineage(workspace).log)
    assert workspace.folder.read_json(RELEASES) == expected
    before = {**expected, "commits": expected["commits"] - 1, "history": expected["history"][:-1]}
    workspace.folder.write_json(RELEASES, before)
    unneeded = workspace.update("0000-docs") / "trunk" / OPTIMIZER
    unneeded.write("state.pt", b"moments")
    finish_records(workspace, Terminal(quiet=True))
    assert workspace.folder.read_json(RELEASES) == expected
    assert not unneeded.exists(), "no update can start from it any more"
    assert workspace.folder.exists("report/index.html")
    workspace.folder.delete("report/index.html")
    finish_records(workspace, Terminal(quiet=True))
    assert not workspace.folder.exists("report/index.html"), "nothing was behind"
