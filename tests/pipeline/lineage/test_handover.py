"""Which optimizer state an update is handed, and what is refused before anything is spent."""

from dataclasses import replace
from pathlib import Path

import pytest
from records import record

from rewarm.pipeline.lineage.lineage import PLAN, Lineage
from rewarm.pipeline.lineage.optimizer import OPTIMIZER, TRUNK_RUN, drop_optimizers, keep_optimizer, start_optimizer
from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.pipeline.recipe.recipe import load_recipe
from rewarm.pipeline.record import REFUSED, RELEASED, Training
from rewarm.stages.core.errors import UsageError
from rewarm.stages.train import ScheduleSettings, TrainSettings, schedule_for
from rewarm.stages.train.checkpoints import Saved, write_progress
from rewarm.stages.train.job import Log

KEPT = TrainSettings(keep_optimizer=True)
SCHEDULE = schedule_for(ScheduleSettings(), 0, 4096, None).to_json()


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(str(tmp_path))


def finish(workspace: Workspace, name: str, trained: bool = True, state: str = RELEASED, **train: object) -> None:
    """Write a finished update's records and, as training does, its last checkpoint."""
    folder = workspace.update(name)
    recipe = load_recipe("tiny", [f"train.{key}={value}" for key, value in {"precision": "bf16", **train}.items()])
    (folder / "checkpoints" / TRUNK_RUN / "checkpoint_1").write("progress.json", name.encode())
    folder.write_json(PLAN, {"arrival": name, "data": {}, "recipe": recipe.identity(), "started": ""})
    schedule = SCHEDULE if trained else None
    training = Training(optimizer=recipe.train.optimizer) if trained else None
    made = record(name, datasets=[], state=state, position=4096, schedule=schedule)
    Lineage(workspace).record(replace(made, train=training))


def checkpoint(workspace: Workspace, name: str) -> str:
    return f"/elsewhere/updates/{name}/checkpoints/{TRUNK_RUN}/checkpoint_1"  # the workspace was moved since


def test_the_base_and_a_reset_begin_with_an_empty_optimizer(workspace: Workspace) -> None:
    assert start_optimizer(Lineage(workspace), KEPT) is None
    finish(workspace, "0000-base")
    assert start_optimizer(Lineage(workspace), TrainSettings()) is None


def test_the_heads_state_is_kept_until_the_next_update_is_finished(workspace: Workspace) -> None:
    finish(workspace, "0000-base")
    first = workspace.update("0000-base")
    keep_optimizer(first, checkpoint(workspace, "0000-base"), KEPT)
    keep_optimizer(first, checkpoint(workspace, "0000-base"), KEPT)  # as after a kill: it is there already
    found = start_optimizer(Lineage(workspace), KEPT)
    assert found == first / "trunk" / OPTIMIZER
    assert found.read("progress.json") == b"0000-base"
    assert (first / "checkpoints" / TRUNK_RUN).folders() == []
    finish(workspace, "0001-news")
    keep_optimizer(workspace.update("0001-news"), checkpoint(workspace, "0001-news"), KEPT)
    drop_optimizers(Lineage(workspace))
    assert not found.exists()
    assert start_optimizer(Lineage(workspace), KEPT) == workspace.update("0001-news") / "trunk" / OPTIMIZER


def test_states_stay_where_an_update_may_start_after_a_refusal(workspace: Workspace) -> None:
    for name, state in (("0000-base", RELEASED), ("0001-bad", REFUSED), ("0002-worse", REFUSED)):
        finish(workspace, name, state=state)
        keep_optimizer(workspace.update(name), checkpoint(workspace, name), KEPT)
        drop_optimizers(Lineage(workspace))
    kept = {name: (workspace.update(name) / "trunk" / OPTIMIZER) for name in ("0000-base", "0001-bad", "0002-worse")}
    assert all(folder.exists() for folder in kept.values())
    assert start_optimizer(Lineage(workspace, "before"), KEPT) == kept["0000-base"]
    assert start_optimizer(Lineage(workspace, "continue"), KEPT) == kept["0002-worse"]
    (workspace.update("0001-bad") / "release" / "model").write("config.json", b"{}")
    Lineage(workspace).promote("0001-bad", "read by a person")
    drop_optimizers(Lineage(workspace))
    assert start_optimizer(Lineage(workspace, "before"), KEPT) == kept["0001-bad"], "promoted by hand after all"
    finish(workspace, "0003-good")
    drop_optimizers(Lineage(workspace))
    assert not any(folder.exists() for folder in kept.values())


def test_a_later_checkpoint_takes_the_place_of_an_earlier_one(workspace: Workspace) -> None:
    finish(workspace, "0000-base")
    folder = workspace.update("0000-base")
    (folder / "trunk" / OPTIMIZER).write("torn", b"")
    keep_optimizer(folder, checkpoint(workspace, "0000-base"), KEPT)
    assert (folder / "trunk" / OPTIMIZER).files() == ["progress.json"]


def test_a_state_that_is_not_there_or_does_not_fit_is_refused(workspace: Workspace) -> None:
    finish(workspace, "0000-imported", trained=False)
    with pytest.raises(UsageError, match="imported model"):
        start_optimizer(Lineage(workspace), KEPT)
    finish(workspace, "0001-news")
    keep_optimizer(
        workspace.update("0001-news"), checkpoint(workspace, "0001-news"), TrainSettings(save_optimizer=False)
    )
    with pytest.raises(UsageError, match=r"0001-news.*save_optimizer"):
        start_optimizer(Lineage(workspace), KEPT)
    keep_optimizer(workspace.update("0001-news"), checkpoint(workspace, "0001-news"), KEPT)
    assert start_optimizer(Lineage(workspace), KEPT.model_copy(update={"num_workers": 2})) is not None
    for name, value in (("zero_stage", 3), ("precision", "fp32")):
        with pytest.raises(UsageError, match=f"train.{name}={getattr(KEPT, name)}.*{value}"):
            start_optimizer(Lineage(workspace), KEPT.model_copy(update={name: value}))


@pytest.mark.parametrize("trained", [True, False])
def test_another_optimizer_is_refused_unless_it_is_asked_for(workspace: Workspace, trained: bool) -> None:
    finish(workspace, "0000-base", trained)
    muon = TrainSettings(optimizer="muon")
    why = "0000-base was trained with adamw" if trained else "the model was imported"
    with pytest.raises(UsageError, match=rf"train.optimizer=muon: {why}.*train.switch_optimizer=true"):
        start_optimizer(Lineage(workspace), muon)
    assert start_optimizer(Lineage(workspace), muon.model_copy(update={"switch_optimizer": True})) is None
    assert start_optimizer(Lineage(workspace), TrainSettings()) is None


def test_the_optimizer_is_the_last_trained_updates(workspace: Workspace) -> None:
    finish(workspace, "0000-base", optimizer="muon")
    assert start_optimizer(Lineage(workspace), TrainSettings(optimizer="muon")) is None
    with pytest.raises(UsageError, match="0000-base was trained with muon"):
        start_optimizer(Lineage(workspace), TrainSettings())


def test_muons_state_fits_only_as_many_workers(workspace: Workspace) -> None:
    finish(workspace, "0000-base", optimizer="muon")
    update = workspace.update("0000-base")
    keep_optimizer(update, checkpoint(workspace, "0000-base"), KEPT)
    write_progress(update / "trunk" / OPTIMIZER, Saved(3, 2, "", {}, Log()))
    muon = KEPT.model_copy(update={"optimizer": "muon", "num_workers": 2})
    assert start_optimizer(Lineage(workspace), muon) is not None
    with pytest.raises(UsageError, match=r"saved by 2 workers.*train.num_workers=2"):
        start_optimizer(Lineage(workspace), muon.model_copy(update={"num_workers": 1}))
