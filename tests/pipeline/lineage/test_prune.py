"""``rewarm prune``: what goes, what stays and why; and that everything still works on what is left."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from edited_records import edit_record
from release_world import begun, files_of

from rewarm.pipeline.lineage.lineage import Lineage
from rewarm.pipeline.lineage.prune import find_leftovers, find_prunable, take_out
from rewarm.pipeline.lineage.weights import is_pruned, weight_files
from rewarm.pipeline.lineage.workspace import Workspace

Command = Callable[..., tuple[int, str, str]]
IDS = ["0000-docs", "0001-news", "0002-code", "0003-more"]


def weights(workspace: Workspace) -> set[str]:
    """The models that still have their weights."""
    return {
        f"{name}/{part}"
        for name in IDS
        for part in ("trunk", "release")
        if weight_files(workspace.update(name) / part / "model")
    }


def refuse(workspace: Workspace, name: str) -> None:
    """Make a record say that the gate refused the update."""
    edit_record(workspace, name, lambda record: record.update(state="refused"))


def test_without_yes_it_only_says_what_would_go(lm: Workspace, rewarm: Command) -> None:
    before = files_of(lm.folder)
    code, out, error = rewarm("prune", lm.folder, "--json")
    found = json.loads(out)
    assert (code, found["pruned"]) == (0, False), error
    gone = {one["path"] for one in found["prune"] if one["kind"].endswith("weights")}
    assert gone == {
        *("updates/0001-news/trunk/model", "updates/0002-code/trunk/model", "updates/0000-docs/release/model"),
        "updates/0000-docs/initial/model/model.safetensors",
    }
    assert found["bytes"] == sum(one["bytes"] for one in found["prune"]) > 10_000
    assert found["keep"]["0003-more/release"] == "the current release"
    assert files_of(lm.folder) == before


def test_what_is_left_still_works(lm: Workspace, rewarm: Command, tmp_path: Path) -> None:
    code, out, error = rewarm("prune", lm.folder, "--keep", "1", "--yes")
    assert code == 0, error
    assert weights(lm) == {"0000-docs/trunk", "0003-more/trunk", "0003-more/release"}
    assert not weight_files(lm.update("0000-docs") / "initial" / "model")
    assert (lm.update("0001-news") / "release" / "model").files() != [], "configuration, tokenizer and card stay"
    code, out, error = rewarm("verify", lm.folder, "--json")
    found = json.loads(out)
    assert (code, found["problems"], found["orphans"]) == (0, [], []), found
    assert sum("pruned" in note for note in found["notes"]) == 5
    for command in (["status"], ["report"], ["trace"], ["export", "--to", tmp_path / "current"]):
        code, _, error = rewarm(command[0], lm.folder, *command[1:])
        assert code == 0, (command, error)
    news = tmp_path / "late.jsonl"
    news.write_text("\n".join(json.dumps({"text": f"a document, number {number}"}) for number in range(50)))
    code, out, error = rewarm("update", lm.folder, "--data", f"late={news}", "--dry-run", "--json")
    assert code == 0, error
    assert json.loads(out)["starts_from"] == "0003-more"
    for command in (["promote", "1"], ["export", "1", "--to", tmp_path / "x"], ["push", "1", "--to", tmp_path / "x"]):
        code, _, error = rewarm(command[0], lm.folder, *command[1:])
        assert code == 2, command
        assert "pruned on" in error
    assert not (tmp_path / "x").exists()
    code, out, _ = rewarm("prune", lm.folder, "--keep", "1", "--yes")
    assert (code, "nothing to delete" in out) == (0, True)


def test_the_release_to_roll_back_to_stays(lm: Workspace, rewarm: Command) -> None:
    assert rewarm("rollback", lm.folder)[0] == 0
    assert rewarm("prune", lm.folder, "--keep", "2", "--yes")[0] == 0
    assert {"0002-code/release", "0001-news/release"} <= weights(lm)
    assert "0003-more/release" in weights(lm), "the newest, to be looked at"
    assert rewarm("rollback", lm.folder)[0] == 0
    assert Lineage(lm).release == "0001-news"


def test_a_refused_update_and_the_trunk_before_it_stay(lm: Workspace) -> None:
    refuse(lm, "0003-more")
    kept = find_prunable(Lineage(lm), 1, studies=False).kept
    assert {"0003-more/trunk", "0003-more/release", "0002-code/trunk", "0002-code/release"} <= set(kept)
    assert "0001-news/release" not in kept


def test_an_update_under_way_keeps_everything(lm: Workspace, rewarm: Command, tmp_path: Path) -> None:
    (tmp_path / "late.jsonl").write_text(json.dumps({"text": "a document"}))
    begun(lm, "late", tmp_path / "late.jsonl")
    (lm.update("0004-late") / "checkpoints" / "train").write("state.pt", b"1")
    (lm.dataset("late") / "documents").write("00000.parquet", b"1")
    (lm.dedup("late")).write("doc_ids.arrow", b"1")
    before = {**files_of(lm.update("0004-late")), **files_of(lm.dataset("late")), **files_of(lm.dedup("late"))}
    assert rewarm("prune", lm.folder, "--keep", "1", "--yes")[0] == 0
    after = {**files_of(lm.update("0004-late")), **files_of(lm.dataset("late")), **files_of(lm.dedup("late"))}
    assert after == before
    assert "0003-more/trunk" in weights(lm), "it starts from there"


def test_leftovers_go_and_what_is_not_ours_stays(lm: Workspace, rewarm: Command) -> None:
    root = lm.folder.path
    gone = ["datasets/dropped/tokens/train/0.arrow", "updates/0009-torn/x", "updates/.releases.json.0f.tmp"]
    kept = ["datasets/dropped/quarantine/0.parquet", "notes.txt"]
    (lm.update("0002-code") / "trunk" / "optimizer").write("progress.json", b"{}")
    for place in [*gone, *kept]:
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).write_bytes(b"1")
    assert rewarm("prune", lm.folder, "--yes")[0] == 0
    assert not any((root / place).exists() for place in gone)
    assert all((root / place).exists() for place in kept)
    assert [one.kind for one in find_leftovers(Lineage(lm))] == ["unknown"]
    assert not (lm.update("0002-code") / "trunk" / "optimizer").exists()
    assert (lm.update("0003-more") / "trunk" / "optimizer").exists(), "the next update may go on with it"


def test_a_prune_that_was_killed_is_taken_up(lm: Workspace, rewarm: Command) -> None:
    model = lm.update("0001-news").path / "release" / "model"
    shutil.copy(model / "model.safetensors", model / "second.safetensors")
    found = find_prunable(Lineage(lm), 1, studies=False)
    first = next(one for one in found.weights if (one.update, one.part) == ("0001-news", "release"))
    left = (model / "second.safetensors").read_bytes()
    take_out(lm.update(first.update), first)
    (model / "second.safetensors").write_bytes(left)  # as if it had been killed before this file went
    assert is_pruned(lm.update(first.update), "release")
    assert "weights" in {one.kind for one in find_leftovers(Lineage(lm))}
    code, _, error = rewarm("promote", lm.folder, first.update)
    assert code == 2, "half a model is never taken for a whole one"
    assert "pruned" in error
    assert rewarm("prune", lm.folder, "--keep", "1", "--yes")[0] == 0
    assert not weight_files(lm.update("0001-news") / "release" / "model")


def test_restored_weights_count_again(lm: Workspace, rewarm: Command, tmp_path: Path) -> None:
    model = lm.update("0001-news").path / "release" / "model"
    shutil.copy(model / "model.safetensors", tmp_path)
    assert rewarm("prune", lm.folder, "--keep", "1", "--yes")[0] == 0
    assert rewarm("promote", lm.folder, "1")[0] == 2
    shutil.copy(tmp_path / "model.safetensors", model)
    assert rewarm("promote", lm.folder, "1")[0] == 0
    assert rewarm("verify", lm.folder)[0] == 0


@pytest.mark.parametrize("damage", ["releases.json", "updates/0002-code/update.json"])
def test_nothing_goes_where_records_are_damaged(lm: Workspace, rewarm: Command, damage: str) -> None:
    (lm.folder.path / damage).write_text("{")
    before = files_of(lm.folder)
    for more in ([], ["--yes"]):
        code, _, error = rewarm("prune", lm.folder, *more)
        assert code == 7
        assert damage in error
    assert files_of(lm.folder) == before


def test_studies_lose_their_finished_trials_models_alone(lm: Workspace, rewarm: Command) -> None:
    trials = lm.folder / "studies" / "first" / "trials"
    for name, more in (("done", ["trial.json"]), ("begun", [])):
        models = ["trunk/model/model.safetensors", "release/model/config.json"]
        for file in [*models, "trunk/curve.json", "checkpoints/train/x.pt", *more]:
            (trials / name).write(file, b"1")
    assert rewarm("prune", lm.folder, "--yes")[0] == 0
    assert (trials / "done" / "trunk" / "model").files() == ["model.safetensors"]
    assert rewarm("prune", lm.folder, "--yes", "--studies")[0] == 0
    assert set(files_of(trials / "done")) == {"trial.json", "trunk/curve.json", "release/model/config.json"}
    assert len(files_of(trials / "begun")) == 4
