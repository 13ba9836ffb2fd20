"""Commands of the README and of the pages under docs/ that need no training, run on a small lineage."""

import contextlib
import io
from collections.abc import Callable
from pathlib import Path

import pytest
from documentation import README, calls

from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.pipeline.progress.log import Journal

Command = Callable[..., tuple[int, str, str]]
RUN = {  # by command: options that keep an example from being run here
    **dict.fromkeys(
        ("schedule", "settings", "monitoring", "report", "data", "quarantine", "trace", "discard", "recipe"), ()
    ),
    **dict.fromkeys(("tokenize", "promote", "rollback", "verify", "prune", "export", "convert"), ()),
    "status": ("--watch", "demo/workspace"),
    "samples": ("demo/workspace",),
    "logs": ("--follow",),
    "push": ("hf://ORG/NAME", "s3://models/lm"),
}
DRY = ("init", "update", "study")  # run with --dry-run, on data that the lineage does not have
"""Everything else is parsed by ``test_readme.py``: it trains, follows a run, or needs a network."""


def runs(words: list[str]) -> bool:
    """Whether an example is run here."""
    command, *rest = words
    if command in RUN:
        return not set(rest) & set(RUN[command])
    if command == "watch":
        return bool({"--status", "--pause", "--resume"} & set(rest))
    return command in DRY and "--dry-run" in rest and "forum=data/forum" in rest


EXAMPLES = [words for words in calls() if runs(words)]


@pytest.mark.parametrize("words", EXAMPLES, ids=" ".join)
def test_the_example_runs(words: list[str], lm: Workspace, rewarm: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(lm.folder.path).parent
    monkeypatch.chdir(folder)
    (folder / "data" / "forum").mkdir(parents=True)
    for at in range(3):
        (folder / "data" / "forum" / f"{at}.txt").write_text(
            f"A question about arrays, and its answer, number {at}. " * 9
        )
    Journal(lm.folder, "0001-news").line("begins")
    code, out, err = rewarm(*words)
    assert code == 0, err
    assert out or err


def test_enough_examples_run() -> None:
    commands = {words[0] for words in EXAMPLES}
    assert commands >= {*RUN, "watch", "update", "study"}


def test_the_readme_loads_an_export(lm: Workspace, rewarm: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(lm.folder.path).parent)
    [words] = [words for words in calls() if words[:2] == ["export", "lm"] and "lm-news" in words]
    assert rewarm(*words)[0] == 0
    [snippet] = README.blocks("python")
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(snippet, "README.md", "exec"), {})
    assert said.getvalue().startswith("The function returns")
