"""Where a trial starts: from the lineage, or from a base that another trial trained."""

from dataclasses import replace
from pathlib import Path

from watch_world import update

from rewarm.pipeline.lineage.lineage import Lineage
from rewarm.pipeline.lineage.workspace import TRIAL, Workspace
from rewarm.pipeline.recipe.recipe import load_recipe
from rewarm.pipeline.record import Weights, to_json
from rewarm.pipeline.study.grid import Trial
from rewarm.pipeline.study.run import base_trials, starts_anew
from rewarm.pipeline.study.trial import TrialWorkspace, rebased
from rewarm.pipeline.update.inputs import create


def test_a_trial_of_a_further_seed_starts_from_a_base_of_its_own(tmp_path: Path) -> None:
    home = Workspace(str(tmp_path))
    create(home, load_recipe("tiny"))
    base = update(0, "docs", weights={"trunk": "ours"}, losses={"release": {"docs": 4.0}}, position=100)
    Lineage(home).record(base)
    other = replace(base, weights=Weights("theirs"), losses={"release": {"docs": 4.2}}, order_seed=7)
    workspace = TrialWorkspace(str(tmp_path), "s", ["news"], "trial-s7")
    workspace.trial("base-s7").write_json(TRIAL, {"state": "done", "trial": {}, "update": to_json(other)})
    made = rebased(workspace, Lineage(workspace), "base-s7")
    assert made.head is not None
    assert (made.head.id, made.head.facts.weights.trunk, made.head.facts.order_seed) == ("0000-docs", "theirs", 7)
    assert made.trunk() == workspace.trial("base-s7") / "trunk" / "model"
    current = made.current()
    assert current is not None
    assert current.losses == {"release": {"docs": 4.2}}, "forgetting is against the base of this seed"
    assert workspace.update("trial-s7") == workspace.trial("trial-s7")
    assert Lineage(home).trunk() == home.update("0000-docs") / "trunk" / "model"


def test_only_further_seeds_train_a_base_and_only_updates_start_from_it() -> None:
    tried = [Trial(label, kind, {}, seed) for seed in (3, 4) for label, kind in (("a", "row"), ("joint", "joint"))]
    assert [(trial.kind, trial.seed) for trial in base_trials(tried)] == [("base", 4)]
    recipe = load_recipe("tiny", ["seed=3"])
    assert [starts_anew(trial, recipe) for trial in (*tried, *base_trials(tried))] == [False, False, True, False, False]
