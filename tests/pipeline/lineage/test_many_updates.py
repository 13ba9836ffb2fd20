"""Ten thousand updates and more: their ids no longer sort as text, and every command keeps their order."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from records import record, write_updates

from rewarm.pipeline.lineage.lineage import PLAN, UPDATE, Lineage
from rewarm.pipeline.lineage.prune import needed
from rewarm.pipeline.lineage.status import SHOWN, status
from rewarm.pipeline.lineage.verify.findings import Findings
from rewarm.pipeline.lineage.verify.records import check_numbers, check_records, check_releases, recorded
from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.pipeline.progress.log import Journal, logged_updates
from rewarm.pipeline.recipe.recipe import load_recipe
from rewarm.pipeline.record import encode, number_of
from rewarm.pipeline.report.from_lineage import report_record
from rewarm.pipeline.update.context import earlier_datasets
from rewarm.pipeline.update.inputs import create
from rewarm.stages.core.digests import now
from rewarm.stages.core.storage import Folder

COUNT = 10_050
LAST = f"{COUNT - 1}-crawl-{COUNT - 1}"
NEXT = f"{COUNT}-next"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    made = Workspace(str(tmp_path_factory.mktemp("many") / "lm"))
    create(made, load_recipe("tiny"))
    write_updates(made, COUNT)
    yield made


@pytest.mark.faults
def test_the_order_is_that_of_the_numbers(workspace: Workspace) -> None:
    lineage = Lineage(workspace)
    assert [entry.number for entry in lineage.entries] == list(range(COUNT))
    assert [entry.number for entry in lineage.learned] == list(range(COUNT))
    assert (lineage.head, lineage.release, lineage.position) == (lineage.entries[-1], LAST, COUNT)
    assert lineage.find("9999").id == "9999-crawl-9999" and lineage.find("10000").id == "10000-crawl-10000"
    assert lineage.find(None).id == LAST
    assert [one.id for one in lineage.possible_starts()] == [LAST]
    assert [one.age for one in earlier_datasets(workspace, lineage)] == list(range(COUNT, 0, -1))


@pytest.mark.faults
def test_the_last_updates_are_shown(workspace: Workspace) -> None:
    found = status(Lineage(workspace))
    assert [update.number for update in found.updates] == list(range(COUNT - SHOWN, COUNT))
    assert found.earlier == COUNT - SHOWN
    shown = report_record(Lineage(workspace), {}, last=100).finished
    assert list(map(number_of, shown)) == list(range(COUNT))


@pytest.mark.faults
def test_the_records_are_whole(workspace: Workspace) -> None:
    findings = Findings(workspace.folder)
    log = check_records(workspace, findings)
    updates = recorded(workspace)
    assert log is not None and [update.number for update in updates] == list(range(COUNT))
    check_numbers(workspace, updates, findings)
    check_releases(workspace, updates, log, findings)
    assert findings.problems == []


@pytest.mark.faults
def test_the_next_update_is_the_one_that_is_begun(workspace: Workspace) -> None:
    workspace.update(NEXT).write_json(PLAN, {"arrival": "next", "data": {"next": "0d"}, "started": now()})
    try:
        assert Lineage(workspace).unfinished == NEXT
        assert status(Lineage(workspace)).updates[-1].id == NEXT
        workspace.update(NEXT).write(UPDATE, encode(record(NEXT)))
        assert Lineage(workspace).unfinished == NEXT
    finally:
        workspace.folder.delete(f"updates/{NEXT}")


def test_logs_are_in_the_order_of_the_updates(tmp_path: Path) -> None:
    for update in ("10000-a", "9999-z", "0001-b", "0010-a"):
        Journal(Folder(tmp_path), update).line("begins")
    assert logged_updates(Folder(tmp_path)) == ["0001-b", "0010-a", "9999-z", "10000-a"]


@pytest.mark.faults
def test_the_newest_releases_are_kept(workspace: Workspace) -> None:
    kept = needed(Lineage(workspace), 2)
    assert [f"{COUNT - 1}-crawl-{COUNT - 1}/release", f"{COUNT - 2}-crawl-{COUNT - 2}/release"] == [
        name for name in kept if name.endswith("/release")
    ]
