"""Resuming an update does not read its arrival again; a file that was changed in the meantime is read."""

import time
from pathlib import Path

import pytest
from small_workspace import make

from rewarm.pipeline.lineage.lineage import PLAN, Lineage
from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.pipeline.update.inputs import READ, Arrival, identify_arrival, keep_read, taken_in
from rewarm.stages.core.progress import Silent
from rewarm.stages.ingest import IngestSettings

UPDATE = "0003-more"


class Reading(Silent):
    """Counts the bytes that are read, and keeps notes."""

    def __init__(self) -> None:
        self.read = 0.0
        self.notes = list[str]()

    def advance(self, by: float = 1, **figures: float) -> None:
        self.read += by

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A lineage, and an arrival that was written an hour ago by the clock that decides it."""
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + 3600 * 10**9)
    (tmp_path / "more.jsonl").write_text('{"text": "a new document"}\n')
    return make(tmp_path / "lm")


def seen(workspace: Workspace) -> tuple[Arrival, Reading]:
    progress, file = Reading(), workspace.folder.path.parent / "more.jsonl"
    return identify_arrival({"more": [str(file)]}, Lineage(workspace), IngestSettings(), progress), progress


def begin(workspace: Workspace) -> Arrival:
    arrival, progress = seen(workspace)
    assert progress.read > 0
    workspace.update(UPDATE).write_json(PLAN, {"arrival": "more", "data": arrival.digests})
    keep_read(workspace, UPDATE, arrival)
    return arrival


def test_an_update_that_is_resumed_does_not_read_its_files_again(workspace: Workspace) -> None:
    before = begin(workspace)
    arrival, progress = seen(workspace)
    assert (arrival, progress.read) == (before, 0)
    assert "not read again: 1 of 1 files" in progress.notes[0]


def test_a_changed_file_is_noticed(workspace: Workspace) -> None:
    before = begin(workspace)
    (workspace.folder.path.parent / "more.jsonl").write_text('{"text": "another document"}\n')
    arrival, progress = seen(workspace)
    assert arrival.digests != before.digests
    assert progress.read > 0 and not progress.notes


def test_what_was_read_and_is_damaged_is_read_again_and_said(workspace: Workspace) -> None:
    before = begin(workspace)
    workspace.update(UPDATE).write(READ, b'{"more": {"more.jsonl": 5}}')
    arrival, progress = seen(workspace)
    assert arrival == before
    assert progress.read > 0 and progress.notes[0].startswith("all files are read again: ")


def test_a_finished_update_knows_its_files_without_reading_them(workspace: Workspace) -> None:
    file = workspace.folder.path.parent / "code.jsonl"
    file.write_text('{"text": "some code"}\n')
    paths = {"code": [str(file)]}
    arrival = identify_arrival({"other": [str(file)]}, Lineage(workspace), IngestSettings(), Silent())
    arrival = Arrival({}, {"code": arrival.digests["other"]}, read={"code": arrival.read["other"]})
    plan = workspace.update("0002-code").read_json(PLAN)
    workspace.update("0002-code").write_json(PLAN, {**plan, "data": arrival.digests})
    keep_read(workspace, "0002-code", arrival)
    progress = Reading()
    found = taken_in(paths, Lineage(workspace), IngestSettings(), progress)
    assert found is not None and found.id == "0002-code"
    assert progress.read == 0
