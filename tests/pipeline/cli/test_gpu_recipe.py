"""A recipe for GPUs on a machine without any: every command that would train says at once what to do."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from watch_world import with_base

from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.pipeline.recipe.recipe import load_recipe
from rewarm.pipeline.update.inputs import create
from rewarm.stages.train import model_config

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="a machine without GPUs is meant")
Command = Callable[..., tuple[int, str, str]]
SAYS = "train.device gpu with train.num_workers 8 needs 8 GPUs, but this machine has 0: --set train.device=cpu"
NEWS = ("--data", "news={root}/x.jsonl")
COMMANDS = (
    ("init", "{root}/new", "--recipe", "neox-405m", *NEWS),
    ("init", "{root}/new", "--recipe", "neox-405m", *NEWS, "--dry-run"),
    ("update", "{root}/lm", *NEWS),
    ("update", "{root}/lm", *NEWS, "--dry-run"),
    ("plan", "{root}/lm", *NEWS),
    ("study", "{root}/lm", *NEWS, "--grid", "replay.share=0,0.1"),
    ("study", "{root}/lm", *NEWS, "--grid", "replay.share=0,0.1", "--dry-run"),
    ("watch", "{root}/lm", "--inbox", "{root}/inbox", "--once"),
    ("watch", "{root}/lm", "--inbox", "{root}/inbox"),
    ("watch", "{root}/lm", "--inbox", "{root}/inbox", "--dry-run"),
)


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: f"{words[0]} {words[-1] if '-' in words[-1] else ''}")
def test_it_says_at_once_what_to_do(
    rewarm: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("rewarm.stages.core.cluster.start", lambda *_: pytest.fail("Ray was started"))
    monkeypatch.setattr("ray.is_initialized", lambda: False)  # other tests of this process may have started one
    recipe = load_recipe("neox-405m")
    made = Workspace(str(tmp_path / "lm"))
    create(made, recipe)
    with_base(made)
    config = model_config(recipe.model, 300, 0, recipe.train.seq_len)
    config.save_pretrained((made.update("0000-docs") / "trunk" / "model").path)
    (tmp_path / "inbox").mkdir()
    (tmp_path / "x.jsonl").write_text('{"text": "a document"}\n')
    before = {str(path) for path in tmp_path.rglob("*")}
    code, out, error = rewarm(*(word.format(root=tmp_path) for word in words))
    assert (code, out) == (2, ""), error
    assert SAYS in error
    left = {str(path) for path in tmp_path.rglob("*")} - before
    assert {Path(path).name for path in left} <= {"new", ".lease", ".lease.lock"}
