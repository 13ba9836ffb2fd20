"""A watch of a long lineage, and one with a long journal: looking again costs no more than at the beginning."""

import time
from pathlib import Path

import orjson
import pytest
from records import record, write_updates
from unsteady_store import address, store, unsteady, with_credentials

from rewarm.pipeline.lineage.lineage import Lineage
from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.pipeline.recipe.recipe import load_recipe
from rewarm.pipeline.update.inputs import create
from rewarm.pipeline.watch.journal import Draft
from rewarm.pipeline.watch.run import Watch, now
from rewarm.pipeline.watch.settings import WatchSettings
from rewarm.stages.core.storage import Folder

UPDATES = 40
EVENTS = 30_000


def watch(workspace: Workspace, inbox: Path) -> Watch:
    inbox.mkdir(exist_ok=True)
    made = Watch(workspace, load_recipe("tiny"), WatchSettings(inbox=str(inbox)), lambda line: None)
    made.stop()  # a step looks, takes nothing and does not wait
    return made


def in_bucket(tmp_path: Path, updates: int, port: int) -> Workspace:
    """A lineage that was written on the disk, in a bucket."""
    local = Workspace(str(tmp_path / f"lm-{updates}"))
    create(local, load_recipe("tiny"))
    write_updates(local, updates)
    target = Folder(address(port, f"lm-{updates}"))
    for path in sorted(local.folder.path.rglob("*")):
        if path.is_file():
            target.write(path.relative_to(local.folder.path).as_posix(), path.read_bytes())
    return Workspace(target.uri)


def test_an_idle_look_costs_as_many_requests_however_long_the_lineage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in with_credentials().items():
        monkeypatch.setenv(name, value)
    asked = {}
    with store() as lake, unsteady(lake.port, 0, share=0.0) as counting:
        for updates in (3, UPDATES):
            workspace = in_bucket(tmp_path, updates, lake.port)
            made = watch(Workspace(address(counting.port, workspace.folder.name)), tmp_path / "inbox")
            made.step()
            before = counting.met["passed"]
            made.step()
            asked[updates] = counting.met["passed"] - before
    assert asked[UPDATES] == asked[3] <= 9, asked


def test_updates_of_other_commands_are_seen_when_it_looks_again(tmp_path: Path) -> None:
    workspace = Workspace(str(tmp_path / "lm"))
    create(workspace, load_recipe("tiny"))
    write_updates(workspace, 3)
    made = watch(workspace, tmp_path / "inbox")
    (tmp_path / "inbox/crawl-3").mkdir()
    (tmp_path / "inbox/crawl-3/x.jsonl").write_text("{}\n")
    made.step()
    assert made.lineage().unfinished is None
    workspace.update("0003-crawl-3").write_json("plan.json", {"arrival": "crawl-3", "data": {"crawl-3": "x"}})
    assert made.lineage().unfinished == "0003-crawl-3"
    Lineage(workspace).record(record("0003-crawl-3"))
    made.step()
    (arrival,) = made.book.arrivals.values()
    assert (arrival.state, arrival.update) == ("released", "0003-crawl-3")
    assert [entry.id for entry in made.lineage().entries] == [entry.id for entry in Lineage(workspace).entries]


def test_a_log_that_was_replaced_is_read_anew(tmp_path: Path) -> None:
    workspace = Workspace(str(tmp_path / "lm"))
    create(workspace, load_recipe("tiny"))
    write_updates(workspace, 3)
    made = watch(workspace, tmp_path / "inbox")
    assert len(made.lineage().entries) == 3
    (workspace.folder.path / "commits/00000002.json").unlink()
    workspace.folder.delete("releases.json")
    workspace.folder.delete("updates/0002-crawl-2")
    assert len(made.lineage().entries) == 2


def test_a_long_journal_is_read_once_and_appended_to_at_its_end(tmp_path: Path) -> None:
    workspace = Workspace(str(tmp_path / "lm"))
    create(workspace, load_recipe("tiny"))
    made = watch(workspace, tmp_path / "inbox")
    made.records.write([Draft("paused"), Draft("resumed")])
    line = orjson.dumps({"at": "2026-01-01T00:00:00.000+00:00", "kind": "resumed", "path": "", "details": {}})
    lines = [line.replace(b"{", b'{"seq":%d,' % seq, 1) + b"\n" for seq in range(1, EVENTS + 1)]
    journal = workspace.folder.path / "watch/journal.jsonl"
    journal.write_bytes(b"".join(lines))
    made = watch(workspace, tmp_path / "inbox")
    assert (made.records.journal._seq, made.records.journal._offset) == (EVENTS, journal.stat().st_size)
    begun = time.process_time()
    for _ in range(20):
        made.records.journal.append(Draft("paused"), now())
    appended = time.process_time() - begun
    assert [event.seq for event in made.records.journal.read()] == list(range(EVENTS + 1, EVENTS + 21))
    short = watch(Workspace(create_short(tmp_path)), tmp_path / "inbox").records.journal
    begun = time.process_time()
    for _ in range(20):
        short.append(Draft("paused"), now())
    assert appended < 10 * (time.process_time() - begun), "the whole of it is not read for each event"


def create_short(tmp_path: Path) -> str:
    workspace = Workspace(str(tmp_path / "short"))
    create(workspace, load_recipe("tiny"))
    return workspace.folder.uri
