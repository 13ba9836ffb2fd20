"""Which trunk may be annealed again, and with which settings, before anything is spent."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from records import record

from rewarm.pipeline.lineage.lineage import Lineage
from rewarm.pipeline.lineage.optimizer import optimizers_needed
from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.pipeline.record import REFUSED, RELEASED, Laid, UpdateRecord, Weights, part_of
from rewarm.pipeline.update.anneal_trunk import check_settings, find_source, refuse_unread
from rewarm.stages.anneal import AnnealSettings
from rewarm.stages.core.errors import UsageError
from rewarm.stages.replay import MIXTURE
from rewarm.stages.train import ScheduleSettings, schedule_for


def laid(kind: str) -> Laid:
    settings = ScheduleSettings.model_validate({"kind": kind})
    return part_of(Laid, {**vars(schedule_for(settings, 0, 4096, None)), "settings": settings.identity()})


def finish(workspace: Workspace, name: str, kind: str = "infinite", **changes: Any) -> None:
    (workspace.update(name) / "mixture").write(MIXTURE, b"{}")
    made: UpdateRecord = replace(
        record(name), **{"schedule": laid(kind), "weights": Weights(f"trunk of {name}", ""), **changes}
    )
    Lineage(workspace).record(made)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace(str(tmp_path))
    finish(made, "0000-docs")
    finish(made, "0001-news")
    finish(made, "0002-bad", state=REFUSED)
    return made


def anneal_of(workspace: Workspace, name: str, source: str, state: str) -> None:
    weights = Weights(f"trunk of {source}", "")
    finish(workspace, name, datasets=[], schedule=None, follows=source, state=state, weights=weights)


def test_the_trunk_that_the_next_update_starts_from_is_annealed(workspace: Workspace) -> None:
    assert find_source(Lineage(workspace), None).id == "0001-news"
    assert find_source(Lineage(workspace, "continue"), None).id == "0002-bad"
    assert find_source(Lineage(workspace), "bad").id == "0002-bad", "its release was refused: another may pass"


def test_a_trunk_that_would_take_the_lineage_back_is_refused(workspace: Workspace) -> None:
    with pytest.raises(UsageError, match=r"0000-docs: the next update starts from the trunk of 0001-news"):
        find_source(Lineage(workspace), "docs")
    with pytest.raises(UsageError, match="0001-news: the next update starts from the trunk of 0002-bad"):
        find_source(Lineage(workspace, "continue"), "news")


def test_a_released_anneal_of_a_refused_update_is_where_the_next_one_starts(workspace: Workspace) -> None:
    anneal_of(workspace, "0003-anneal-bad", "0002-bad", RELEASED)
    lineage = Lineage(workspace)
    assert [entry.id for entry in lineage.learned] == ["0000-docs", "0001-news", "0002-bad", "0003-anneal-bad"]
    assert list(lineage.datasets()) == ["docs", "news", "bad"], "its data is learned with its trunk"
    assert lineage.followed() is not None, "the schedule is that of the trunk"
    assert find_source(lineage, None).id == "0002-bad", "an anneal of an anneal is one of the same trunk"
    assert optimizers_needed(lineage) == {"0002-bad"}


def test_a_refused_anneal_changes_no_start(workspace: Workspace) -> None:
    anneal_of(workspace, "0003-anneal-news", "0001-news", REFUSED)
    lineage = Lineage(workspace)
    assert lineage.head is not None
    assert lineage.head.id == "0001-news"
    assert optimizers_needed(lineage) == {"0001-news", "0002-bad"}


def test_what_cannot_be_annealed_is_refused(tmp_path: Path) -> None:
    workspace = Workspace(str(tmp_path))
    with pytest.raises(UsageError, match="no trunk to anneal yet"):
        find_source(Lineage(workspace), None)
    finish(workspace, "0000-imported", schedule=None)
    with pytest.raises(UsageError, match="imported"):
        find_source(Lineage(workspace), None)
    finish(workspace, "0001-news", kind="cosine")
    with pytest.raises(UsageError, match="cosine schedule has decayed"):
        find_source(Lineage(workspace), None)


@pytest.mark.parametrize(
    ("settings", "why"), [({"shape": "average"}, "states of a finished trunk"), ({"data": "best"}, "while its update")]
)
def test_settings_that_need_the_update_itself_are_refused(settings: dict[str, Any], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        check_settings(AnnealSettings.model_validate(settings))


def test_settings_that_it_does_not_read_are_refused() -> None:
    refuse_unread(["anneal.share=0.4", "gate.max_forgetting=0.2", "train.num_workers=1"])
    with pytest.raises(UsageError, match=r"--set train.optimizer, replay.share: would have no effect"):
        refuse_unread(["anneal.share=0.4", "train.optimizer=muon", "replay.share=0.5"])
