"""The loop's own decisions, over a lineage that has a base: ticks, another writer, stores that do not answer."""

import json
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from watch_world import found, with_base

from rewarm.pipeline.failure import failure_of
from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.pipeline.recipe.recipe import load_recipe
from rewarm.pipeline.update.inputs import create
from rewarm.pipeline.watch.child import Ended
from rewarm.pipeline.watch.journal import Draft, read_stamp, stamp
from rewarm.pipeline.watch.run import CLOCK, Watch, now
from rewarm.pipeline.watch.settings import WatchSettings
from rewarm.stages.core.errors import DamagedError, FullError, StageError, UnreachableError, UsageError

Maker = Callable[..., Watch]


@pytest.fixture
def workspace(home: str) -> Workspace:
    made = Workspace(home)
    create(made, load_recipe("tiny"))
    with_base(made)
    return made


@pytest.fixture
def watch(workspace: Workspace, tmp_path: Path) -> Maker:
    """Makes a watch of an inbox with one complete arrival."""
    inbox = tmp_path / "inbox" / "news"
    inbox.mkdir(parents=True)
    (inbox / "x.jsonl").write_text('{"text": "a document"}\n')
    (inbox / "_SUCCESS").touch()

    def make(**settings: Any) -> Watch:
        chosen = WatchSettings(inbox=str(inbox.parent), **settings)
        return Watch(workspace, load_recipe("tiny"), chosen, lambda line: None)

    return make


def kinds(watch: Watch) -> list[str]:
    lines = watch.folder.read("journal.jsonl").decode().splitlines()
    return [json.loads(line)["kind"] for line in lines]


@pytest.mark.parametrize(("missed", "called"), [("skip", False), ("catch-up", True)])
def test_ticks_that_were_missed_while_it_was_down(watch: Maker, missed: str, called: bool) -> None:
    made = watch(cron="0 0 1 * *", missed=missed)
    made.stop()  # only looking and answering; nothing is taken
    made.step()
    first = read_stamp(made.folder.read_json(CLOCK)["handled"])
    assert now() - first < timedelta(seconds=60), "before its first start it missed nothing"
    made.folder.write_json(CLOCK, {"handled": stamp(now() - timedelta(days=40))})
    made.step()
    assert ("called" in kinds(made)) == called
    handled = read_stamp(made.folder.read_json(CLOCK)["handled"])
    assert (handled.day, handled.hour) == (1, 0)
    before = kinds(made)
    made.step()
    assert kinds(made) == before, "a tick is answered once"


def test_a_paused_watch_answers_its_ticks_afterwards(watch: Maker) -> None:
    made = watch(cron="0 0 1 * *")
    made.folder.write_json(CLOCK, {"handled": stamp(now() - timedelta(days=40))})
    made.records.write([Draft("paused")])
    made.stop()
    made.step()
    assert "called" not in kinds(made)
    made.records.write([Draft("resumed")])
    made.step()
    assert "called" in kinds(made)


def test_another_writer_is_waited_for(watch: Maker, workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    made = watch()
    made.look()
    (arrival,) = made.book.arrivals.values()
    plan = {"planned": arrival.fingerprint, "plan": {}}
    made.records.write([Draft("planned", arrival.path, plan)])
    with workspace.lease():
        made.run(once=True)
    assert kinds(made) == ["seen", "complete", "planned", "called", "started", "ran", "dropped", "busy"]
    assert made.book.arrivals[arrival.path].attempts == 0
    assert made.busy_until is not None
    assert not made.failed
    assert "another rewarm command is writing" in capsys.readouterr().out


def test_an_inbox_that_cannot_be_listed_is_told_once_and_again_when_it_can(watch: Maker, tmp_path: Path) -> None:
    made = watch()
    (tmp_path / "inbox").rename(tmp_path / "away")
    made.run(once=True)
    made.run(once=True)
    assert kinds(made) == ["trouble"]
    (tmp_path / "inbox").mkdir()
    made.run(once=True)
    assert kinds(made) == ["trouble", "recovered"]


MESSAGE = "s3://b/x: cannot be read (timeout); check the address, the network and the credentials"


@pytest.mark.parametrize(
    ("ended", "kind", "why"),
    [
        (Ended(2, failure_of(UsageError("no new document remains"))), "held", "broken"),
        (Ended(2, failure_of(UsageError(MESSAGE))), "held", "broken"),  # whatever the words are
        (Ended(6, failure_of(UnreachableError(MESSAGE, "s3://b/x"))), "failed", ""),
        (Ended(7, failure_of(DamagedError("update.json: expected a record, found none"))), "held", "damaged"),
        (Ended(8, failure_of(FullError("/shared: no space left"))), "failed", ""),
        (Ended(1, failure_of(StageError("a worker died"))), "failed", ""),
        (Ended(1, None, "Fatal Python error"), "failed", ""),
        (Ended(-9, None), "failed", ""),
        (Ended(0, None), "failed", ""),
    ],
)
def test_what_becomes_of_a_failed_command(watch: Maker, ended: Ended, kind: str, why: str) -> None:
    made = watch()
    made.look()
    (path,) = made.book.arrivals
    made._failed(path, ended, "broken")
    assert kinds(made) == ["seen", "complete", kind]
    assert made.failed == (why != "broken")
    arrival = made.book.arrivals[path]
    assert arrival.because
    assert arrival.why == why
    assert arrival.error == (ended.failure.error if ended.failure and kind == "failed" else "")


def test_a_store_that_does_not_answer_never_holds_an_arrival(watch: Maker) -> None:
    made = watch(retries=1, backoff=1.0)
    made.look()
    (path,) = made.book.arrivals
    gone = Ended(6, failure_of(UnreachableError("s3://b: no response for 600 s", "s3://b")))
    for _ in range(5):
        made._failed(path, gone, "broken")
    assert made.book.arrivals[path].state == "failed"
    made._failed(path, Ended(1, None, "a worker died"), "broken")
    assert made.book.arrivals[path].why == "exhausted"


def test_a_dropped_update_lets_the_others_go(watch: Maker, workspace: Workspace) -> None:
    one = found("gone")
    seen = Draft("seen", one.path, {"name": "gone", "fingerprint": "a", "files": 1, "bytes": 1})
    begun = Draft("started", one.path, {"attempts": 1, "begun": "a", "sets": []})
    workspace.update("0001-gone").write_json("plan.json", {"arrival": "gone", "data": {"gone": "x"}})
    made = watch(after_failure="discard")
    made.records.write([seen, begun, Draft("paused")])
    made.look()
    assert made._take_next() is False, "not while it is paused"
    made.records.write([Draft("resumed")])
    assert made._take_next()
    assert kinds(made)[-1] == "held"
    assert not workspace.update("0001-gone").exists()


def test_a_clock_that_is_set_back_delays_no_look(watch: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    made = watch(every=0.6)
    made.records.write([Draft("paused")])
    made.look()
    monkeypatch.setattr("rewarm.pipeline.watch.run.now", lambda: now() - timedelta(days=1))
    begun = time.monotonic()
    made._wait()
    assert time.monotonic() - begun < 10, "it would have waited for a day"


def test_a_clock_that_is_set_forward_ends_the_wait(watch: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    made = watch(every=3600.0)
    made.records.write([Draft("paused")])
    made.look()
    monkeypatch.setattr("rewarm.pipeline.watch.run.now", lambda: now() + timedelta(days=1))
    begun = time.monotonic()
    made._wait()
    assert time.monotonic() - begun < 10
