"""A study by the command line: trials side by side on Tune, a kill in the middle, a larger grid, the winner applied."""

import json
import shutil
from pathlib import Path

import pytest
from small_lineage import Lineage, command, kill_when, rewarm

SMALL = ("--set", "budget.update_tokens=6000", "--set", "train.num_workers=1", "--set", "train.cpus_per_worker=1")


@pytest.fixture(scope="module")
def workspace(base: Lineage, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace of its own with a base: the study writes into it, and its winner changes the recipe."""
    copy = tmp_path_factory.mktemp("study") / "workspace"
    shutil.copytree(base.workspace, copy)
    return copy


def study(base: Lineage, workspace: Path, *more: str) -> list[object]:
    return ["study", workspace, "--data", f"code={base.code}", *SMALL, *more]


@pytest.mark.faults
def test_a_study_goes_on_after_a_kill(base: Lineage, tmp_path: Path) -> None:
    shutil.copytree(base.workspace, tmp_path / "workspace")
    trials = tmp_path / "workspace" / "studies" / "code" / "trials"
    run = study(base, tmp_path / "workspace", "--grid", "replay.share=0,0.5")
    assert kill_when(command(*run), lambda: len(list(trials.glob("*/trial.json"))) >= 1)
    finished = {path: path.read_bytes() for path in trials.glob("*/trial.json")}
    assert rewarm(*run).returncode == 0
    assert all(path.read_bytes() == data for path, data in finished.items()), "finished trials are kept"


@pytest.mark.faults
def test_a_study_compares_and_its_winner_becomes_the_recipe(base: Lineage, workspace: Path) -> None:
    done = rewarm(*study(base, workspace, "--grid", "replay.share=0,0.5", "--baselines", "joint", "--apply", "--json"))
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    rows = {row["name"]: row for row in found["rows"]}
    assert list(rows) == ["replay.share=0", "replay.share=0.5", "joint"]
    assert rows["replay.share=0"]["losses"]["docs"]["mean"] > rows["replay.share=0.5"]["losses"]["docs"]["mean"]
    assert rows["joint"]["tokens"] > 5 * rows["replay.share=0"]["tokens"], "from scratch costs the base again"
    assert set(rows["joint"]["losses"]) == {"docs", "code"}
    assert all(row["seeds"] == [0] and row["flops"] > 0 and row["seconds"] > 0 for row in rows.values())
    assert found["forecast"]["share"] is None, "two shares are too few for a law"
    assert found["best"]["name"].startswith("replay.share=")
    recipe = json.loads((workspace / "workspace.json").read_text())["recipe"]
    assert recipe["replay"]["share"] == found["best"]["replay.share"]
    assert json.loads(rewarm("status", workspace, "--json").stdout)["release"] == "0000-docs", "nothing was promoted"
    assert (workspace / "studies" / "code" / "index.html").exists()


@pytest.mark.faults
def test_further_seeds_draw_replay_and_base_and_baselines_say_what_they_are(base: Lineage, tmp_path: Path) -> None:
    shutil.copytree(base.workspace, tmp_path / "workspace")
    rows = ("--grid", "replay.share=0.5", "--baselines", "d0-only,constant-min", "--seeds", "2", "--from-base")
    done = rewarm(*study(base, tmp_path / "workspace", *rows, "--json", "--set", "budget.base_tokens=6000"))
    assert done.returncode == 0, done.stderr[-3000:]
    found = {row["name"]: row for row in json.loads(done.stdout)["rows"]}
    row = found["replay.share=0.5"]
    assert row["seeds"] == [0, 1]
    assert row["share"]["mean"] == pytest.approx(0.5, abs=0.02)
    assert found["d0-only"]["share"] is None
    assert set(found["d0-only"]["losses"]) == {"docs", "code"}, "measured on what it never saw"
    assert found["d0-only"]["losses"]["code"]["mean"] > row["losses"]["code"]["mean"]
    assert "drops to η_min" in found["constant-min"]["meaning"]
    trials = tmp_path / "workspace" / "studies" / "code" / "trials"
    starts, orders = {}, {}
    for path in trials.glob("replay.share-0.5-*"):
        seed = path.name[-1]
        starts[seed] = json.loads((path / "trunk" / "manifest.json").read_text())["identity"]["inputs"]["start"]
        update = json.loads((path / "trial.json").read_text())["update"]
        orders[seed] = {part.get("order") for part in update["replay"]["by_dataset"].values()}
    (own,) = trials.glob("base-*-s1")
    assert starts["1"] == json.loads((own / "trial.json").read_text())["update"]["weights"]["trunk"] != starts["0"]
    assert orders == {"0": {"original"}, "1": {"reshuffled"}}


def test_a_dry_run_says_what_would_be_tried(base: Lineage) -> None:
    shown = rewarm(
        "study",
        base.workspace,
        "--data",
        f"more={base.docs}",
        "--grid",
        "replay.share=0,0.1",
        "--seeds",
        "2",
        "--dry-run",
    )
    assert shown.returncode == 0, shown.stderr
    assert len(json.loads(shown.stdout)["trials"]) == 4
    assert not (base.workspace / "studies").exists()
    refused = rewarm("study", base.workspace, "--data", f"more={base.docs}", "--grid", "replay.share=0,7")
    assert refused.returncode == 2
    assert "replay.share" in refused.stderr
