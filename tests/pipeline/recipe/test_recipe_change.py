"""``rewarm recipe``: a workspace's recipe, changed for later updates, with a record of each change."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import small_workspace
import yaml
from release_world import files_of

from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.pipeline.recipe.recipe import Recipe, load_recipe
from rewarm.pipeline.study.results import Row, Study
from rewarm.pipeline.study.run import apply_best
from rewarm.pipeline.update.inputs import recipe_of
from rewarm.pipeline.update.recipe_change import changes_of

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made")
    small_workspace.make(root / "small")
    for trunk in root.glob("small/updates/*/trunk/model/config.json"):
        trunk.write_text(json.dumps({**small_workspace.CONFIG, "max_position_embeddings": 256}))
    return root / "small"


@pytest.fixture
def small(made: Path, tmp_path: Path) -> Workspace:
    shutil.copytree(made, tmp_path / "small")
    return Workspace(str(tmp_path / "small"))


def test_a_changed_recipe_is_recorded_and_followed(small: Workspace, rewarm: Command) -> None:
    before = recipe_of(small)
    code, out, error = rewarm(
        *("recipe", small.folder, "--set", "replay.share=0.125", "--set", "gate.max_forgetting_by_dataset={docs: 0.1}"),
        *("--by", "mia", "--because", "news shifts more"),
    )
    assert code == 0, error
    assert f"replay.share was {before.replay.share}, is now 0.125, for later updates" in out
    assert "gate.max_forgetting_by_dataset.docs was None, is now 0.1" in out
    after = recipe_of(small)
    assert (after.replay.share, after.gate.max_forgetting_by_dataset) == (0.125, {"docs": 0.1})
    (change,) = changes_of(small)
    assert (change.by, change.because, change.after) == ("mia", "news shifts more", "0002-code")
    assert change.settings["replay.share"] == (before.replay.share, 0.125)
    assert small.record()["format"] == 3
    assert rewarm("recipe", small.folder, "--set", "replay.share=0.25")[0] == 0
    assert [one.settings for one in changes_of(small)][1:] == [{"replay.share": (0.125, 0.25)}]


def test_the_printed_recipe_is_the_recipe(small: Workspace, rewarm: Command, tmp_path: Path) -> None:
    rewarm("recipe", small.folder, "--set", "replay.share=0.125", "--by", "mia")
    code, out, _ = rewarm("recipe", small.folder)
    assert code == 0
    assert out.startswith("# after 0002-code, ") and "by mia: replay.share: 0.05 → 0.125" in out
    assert Recipe.model_validate(yaml.safe_load(out)) == recipe_of(small)
    (tmp_path / "mine.yaml").write_text(out)
    assert load_recipe(str(tmp_path / "mine.yaml")) == recipe_of(small)
    found = json.loads(rewarm("recipe", small.folder, "--json")[1])
    assert found["recipe"]["replay"]["share"] == 0.125 and len(found["changes"]) == 1


def test_a_dry_run_and_a_value_that_is_there_write_nothing(small: Workspace, rewarm: Command) -> None:
    before = files_of(small.folder)
    code, out, _ = rewarm("recipe", small.folder, "--set", "replay.share=0.5", "--dry-run")
    assert (code, "replay.share was 0.05, would become 0.5" in out) == (0, True)
    code, out, _ = rewarm("recipe", small.folder, "--set", "replay.share=0.05")
    assert (code, "nothing changed" in out) == (0, True)
    assert files_of(small.folder) == before


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("model.config.hidden_size=64", "fixed when the workspace was created"),
        ("tokenizer.vocab_size=999", "fixed when the workspace was created"),
        ("distill.temperature=0.5", "fixed when the workspace was created"),
        ("seed=7", "data order was drawn with seed=0"),
        ("ingest.duplicates.shingle=7", "were indexed with bands=20, rows=6, shingle=5"),
        ("replay.shar=0.1", "did you mean replay.share"),
        ("replay.share=2", "expected a share"),
        ("budget.base_tokens=5", "the base is finished"),
        ("train.seq_len=512", "max_position_embeddings"),
        ("replay={by: shares, shares: {dcos: 1}}", "no dataset 'dcos'"),
    ],
)
def test_what_the_lineage_depends_on_is_not_changed(small: Workspace, rewarm: Command, given: str, reason: str) -> None:
    before = files_of(small.folder)
    code, _, error = rewarm("recipe", small.folder, "--set", given)
    assert code == 2 and reason in error, error
    assert files_of(small.folder) == before


def test_nothing_is_changed_under_an_unfinished_update(small: Workspace, rewarm: Command) -> None:
    small.update("0003-more").write_json("plan.json", {"arrival": "more", "data": {}, "recipe": {}})
    code, _, error = rewarm("recipe", small.folder, "--set", "replay.share=0.5")
    assert code == 2 and "update 0003-more is not finished" in error and "rewarm discard" in error


def test_init_says_what_to_do_with_a_workspace_that_has_a_base(
    small: Workspace, rewarm: Command, tmp_path: Path
) -> None:
    code, _, error = rewarm("init", small.folder, "--recipe", "tiny", "--data", f"docs={tmp_path / 'missing'}")
    assert code == 2
    for part in ("already has a base (0000-docs)", "rewarm update", "rewarm recipe", "another folder"):
        assert part in error


def test_a_study_that_changes_the_recipe_records_it(small: Workspace) -> None:
    best = Row("replay.share=0.5", "grid", {"replay.share": 0.5}, [0], {}, {}, 1.0, None, 1.0, {}, {}, 9, 9.0, 9.0)
    apply_best(small, Study("news", ["docs"], ["news"], [best], 0.5), "mia")
    (change,) = changes_of(small)
    assert change.settings == {"replay.share": (0.05, 0.5)} and "study" in change.because and change.by == "mia"
