"""The lineage's line: where the next update starts after a refusal; and releases, changed in one step."""

from dataclasses import replace
from pathlib import Path

import pytest
from records import record as make
from records import verdict
from release_world import files_of

from rewarm.pipeline.lineage.commits import COMMITS
from rewarm.pipeline.lineage.lineage import PLAN, Lineage
from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.pipeline.recipe.recipe import load_recipe
from rewarm.pipeline.record import REFUSED, RELEASED, UNDECIDED, UPDATE, Replay, UpdateRecord, encode
from rewarm.pipeline.update.context import earlier_datasets
from rewarm.pipeline.update.inputs import create, find
from rewarm.stages.core.errors import UnreachableError, UsageError
from rewarm.stages.core.progress import Silent
from rewarm.stages.ingest import IngestSettings
from rewarm.stages.train import ScheduleSettings, schedule_for


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace(str(tmp_path / "workspace"))
    create(made, load_recipe("tiny"))
    return made


def update(name: str, state: str = RELEASED, follows: str | None = None, position: int = 100) -> UpdateRecord:
    return make(
        name,
        state=state,
        position=position,
        tokens={"planned": 100, "new": 50, "replayed": 50, "annealed": 0},
        replay={"by_dataset": {"base": {"sequences": 1, "tokens": 100, "due": 90.0, "from": position - 100}}},
        schedule=schedule_for(ScheduleSettings(), 0, position, None).to_json(),
        weights={"trunk": name},
        order_seed=3,
        gate=None if name.startswith("0000") else verdict(state != REFUSED, f"judged {name}"),
        follows=follows,
    )


def record(workspace: Workspace, done: UpdateRecord) -> None:
    (workspace.update(done.id) / "release" / "model").write("config.json", b"{}")
    workspace.update(done.id).write_json(PLAN, {})
    Lineage(workspace).record(done)


def line(workspace: Workspace, trunk: str) -> list[str]:
    return [one.id for one in Lineage(workspace, trunk).learned]  # type: ignore[arg-type]


@pytest.fixture
def refused(workspace: Workspace) -> Workspace:
    """A base, and an update that the gate refused."""
    record(workspace, update("0000-base", position=100))
    record(workspace, update("0001-bad", REFUSED, "0000-base", 200))
    return workspace


def test_before_a_refused_update_has_not_been(refused: Workspace) -> None:
    lineage = Lineage(refused, "before")
    assert lineage.head is not None
    assert (lineage.head.id, lineage.position, lineage.replayed().read) == ("0000-base", 100, {"base": ((100, 1),)})
    assert list(lineage.datasets()) == ["base"] == [one.name for one in earlier_datasets(refused, lineage)]
    assert lineage.trunk() == refused.update("0000-base") / "trunk" / "model"
    followed = lineage.followed()
    assert followed is not None
    laid = update("0000-base", position=100).schedule
    assert laid is not None
    assert followed == laid.schedule
    assert [one.id for one in lineage.updates] == ["0000-base", "0001-bad"], "it stays to be looked at, numbered"


def test_a_dataset_of_which_nothing_was_trained_is_not_learned(workspace: Workspace) -> None:
    record(workspace, update("0000-base"))
    arrivals = {"docs": {"sequences": 4, "tokens": 300}, "tiny": {"sequences": 0, "tokens": 30}}
    both = replace(update("0001-docs"), datasets=["docs", "tiny"], replay=Replay(arrivals=arrivals))
    record(workspace, both)
    lineage = Lineage(workspace)
    assert list(lineage.datasets()) == ["base", "docs"] == [one.name for one in earlier_datasets(workspace, lineage)]
    assert list(lineage.ingested()) == ["base", "docs", "tiny"], "its name is taken"


def test_continue_goes_on_from_what_was_refused(refused: Workspace) -> None:
    lineage = Lineage(refused, "continue")
    assert lineage.head is not None
    assert (lineage.head.id, lineage.position, list(lineage.datasets())) == ("0001-bad", 200, ["base", "bad"])
    assert [one.age for one in earlier_datasets(refused, lineage)] == [2, 1]
    assert lineage.release == "0000-base"


def test_the_policy_is_the_recipes_where_none_is_given(refused: Workspace) -> None:
    assert Lineage(refused).policy == "before"
    assert line(refused, "before") == [one.id for one in Lineage(refused).learned]
    written = refused.record()
    written["recipe"]["gate"]["trunk"] = "continue"
    refused.folder.write_json("workspace.json", written)
    assert Lineage(refused).policy == "continue"


def test_the_line_is_where_each_update_really_started(refused: Workspace) -> None:
    record(refused, update("0002-good", RELEASED, "0000-base", 200))
    for trunk in ("before", "continue"):
        assert line(refused, trunk) == ["0000-base", "0002-good"], "what 0002 did not learn does not come back"
    record(refused, update("0003-more", REFUSED, "0002-good", 300))
    record(refused, update("0004-on", RELEASED, "0003-more", 400))
    for trunk in ("before", "continue"):
        assert line(refused, trunk) == ["0000-base", "0002-good", "0003-more", "0004-on"], "nor can it be unlearned"
    assert [one.age for one in earlier_datasets(refused, Lineage(refused))] == [4, 3, 2, 1]


def test_a_record_that_names_no_start_follows_the_one_before(workspace: Workspace) -> None:
    for number, name in enumerate(["base", "one", "two"]):
        record(workspace, update(f"{number:04d}-{name}"))
    assert line(workspace, "before") == ["0000-base", "0001-one", "0002-two"]


def test_the_name_of_a_refused_dataset_is_taken(refused: Workspace, tmp_path: Path) -> None:
    data = tmp_path / "data.txt"
    data.write_text("a text")
    for trunk in ("before", "continue"):
        with pytest.raises(UsageError, match=r"by update 0001-bad, which the gate refused"):
            find({"bad": [str(data)]}, Lineage(refused, trunk), IngestSettings(), Silent())  # type: ignore[arg-type]
        assert find({"mended": [str(data)]}, Lineage(refused, trunk), IngestSettings(), Silent())  # type: ignore[arg-type]


# -- releases --------------------------------------------------------------------------------------------------------


def test_a_release_says_why_and_a_refusal_changes_none(refused: Workspace) -> None:
    before = Lineage(refused).history
    record(refused, update("0002-worse", REFUSED, "0000-base"))
    assert Lineage(refused).history == before
    record(refused, update("0003-good", RELEASED, "0000-base"))
    lineage = Lineage(refused)
    assert lineage.release == "0003-good"
    assert [(entry["update"], entry["because"]) for entry in lineage.history] == [
        ("0000-base", ""),
        ("0003-good", "judged 0003-good"),
    ]


def test_an_undecided_release_waits_for_a_person_who_needs_no_reason(workspace: Workspace) -> None:
    record(workspace, update("0000-base"))
    record(workspace, update("0001-doubt", UNDECIDED, "0000-base"))
    held = Lineage(workspace)
    assert (held.release, held.unfinished) == ("0000-base", None)
    assert (line(workspace, "before"), line(workspace, "continue")) == (["0000-base"], ["0000-base", "0001-doubt"])
    held.promote("0001-doubt")
    promoted = Lineage(workspace)
    assert (promoted.release, promoted.history[-1]["because"]) == ("0001-doubt", "decided by a person")
    assert line(workspace, "before") == ["0000-base", "0001-doubt"], "it counts as learned from then on"


def test_killed_between_record_and_commit_it_is_unfinished_and_ends_by_the_same_call(refused: Workspace) -> None:
    """The commit is the only write that finishes an update; a record alone does not."""
    done = update("0002-good", RELEASED, "0000-base")
    refused.update(done.id).write(UPDATE, encode(done))
    torn = Lineage(refused)
    assert refused.update("0002-good").exists(UPDATE)
    assert (torn.unfinished, torn.release) == ("0002-good", "0000-base")
    assert [one.id for one in torn.updates] == ["0000-base", "0001-bad"]
    torn.record(replace(done, finished="2026-01-02T00:00:00+00:00"))
    assert (torn.unfinished, torn.release) == (None, "0002-good")
    assert len(torn.history) == 2


def test_a_commit_that_fails_leaves_the_lineage_as_it_was(refused: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full, or the process is killed, at the last moment before the commit has its name."""
    before = files_of(refused.folder / COMMITS)

    def fail(scratch: Path, target: Path) -> bool:
        raise OSError("no space left on device")

    with monkeypatch.context() as patched, pytest.raises(UnreachableError, match="no space"):
        patched.setattr("rewarm.stages.core.storage.claim", fail)
        record(refused, update("0002-good", RELEASED, "0000-base"))
    assert files_of(refused.folder / COMMITS) == before
    assert Lineage(refused).unfinished == "0002-good"
    record(refused, update("0002-good", RELEASED, "0000-base"))
    assert Lineage(refused).release == "0002-good"


def test_a_refused_release_is_promoted_by_hand_for_a_reason(refused: Workspace) -> None:
    lineage = Lineage(refused)
    with pytest.raises(UsageError, match=r"0001-bad: the gate refused.*give a reason"):
        lineage.promote("0001-bad")
    lineage.promote("0001-bad", "the old data do not matter any more")
    assert lineage.release == "0001-bad"
    assert refused.folder.read_json("releases.json")["history"][-1]["because"] == "the old data do not matter any more"
    assert line(refused, "before") == ["0000-base", "0001-bad"], "what is used is built on"
    lineage.promote("0001-bad", "again")
    assert len(lineage.history) == 2, "nothing changed"
    assert lineage.rollback() == "0000-base"
    assert line(refused, "before") == ["0000-base"]


def test_rollback_goes_back_step_by_step(refused: Workspace) -> None:
    record(refused, update("0002-good", RELEASED, "0000-base"))
    record(refused, update("0003-more", RELEASED, "0002-good"))
    lineage = Lineage(refused)
    lineage.promote("0000-base", "a look back")
    assert lineage.rollback() == "0003-more"
    assert lineage.rollback() == "0002-good"
    assert lineage.head is not None
    assert lineage.head.id == "0003-more", "only the release went back"
    record(refused, update("0004-new", RELEASED, "0003-more"))
    lineage = Lineage(refused)
    assert lineage.rollback() == "0002-good" == lineage.release
    assert lineage.rollback() == "0000-base"
    with pytest.raises(UsageError, match="no release before 0000-base"):
        lineage.rollback()
    assert [entry.get("rolled_back") for entry in lineage.history[-3:]] == [None, "0004-new", "0002-good"]


def test_what_is_gone_cannot_be_promoted(refused: Workspace) -> None:
    record(refused, update("0002-good", RELEASED, "0000-base"))
    (refused.update("0000-base") / "release").delete()
    lineage = Lineage(refused)
    for change in (lambda: lineage.promote("0000-base", "why not"), lineage.rollback):
        with pytest.raises(UsageError, match="0000-base: its release no longer exists"):
            change()
    assert lineage.release == "0002-good"
    with pytest.raises(UsageError, match="no update '7'"):
        lineage.promote("7")


def test_a_workspace_without_a_base(workspace: Workspace) -> None:
    lineage = Lineage(workspace)
    assert (lineage.head, lineage.learned, lineage.release, lineage.history) == (None, [], None, [])
    with pytest.raises(UsageError, match="no release before the first"):
        lineage.rollback()
