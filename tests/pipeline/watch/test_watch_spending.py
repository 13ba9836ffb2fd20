"""What attempts really cost: those that were killed count, whoever was killed, and limits see them."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from small_lineage import started_by, wait_gone
from watch_world import START, after, began, happen, ready, with_base

from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.pipeline.recipe.recipe import load_recipe
from rewarm.pipeline.update.inputs import create
from rewarm.pipeline.watch import observe
from rewarm.pipeline.watch.journal import Draft
from rewarm.pipeline.watch.settings import WatchSettings
from rewarm.pipeline.watch.state import Book

WATCH = (
    "import rewarm.pipeline.watch.child as child, rewarm.pipeline.watch.spending as spending; child.LAUNCHER = 'stand_in_update'; "  # noqa: E501
    "spending.INTERVAL = 0.1; from rewarm.pipeline.cli import main; main()"
)
PRICE = "cost.per_worker_hour=3600"  # 1 for each worker and second; the stand-in's plan says 1.00 for all
PLAN = {"cost": 10.0, "currency": "EUR", "workers": 2}


def ran(name: str, start: str, cost: float | None) -> Draft:
    return Draft("ran", f"/in/{name}", {"began": start, "seconds": 5.0, "cost": cost})


@pytest.mark.parametrize(
    ("drafts", "limits", "message"),
    [
        ([], {"max_cost": 10}, ""),
        ([began("a"), ran("a", "2026-11-21T12", 4.0)], {"max_cost": 10}, ""),  # 4 spent, 6 to go
        ([began("a"), ran("a", "2026-11-21T12", 10.5)], {"max_cost": 10}, "0.00 EUR on top of 10.50 for 1 attempts"),
        ([began("a"), ran("a", "2026-11-21T12", 4.0), ran("a", "2026-11-21T12", 4.0)], {"max_cost": 10}, ""),  # once
        (
            [began("a"), ran("a", "2026-11-21T12", 6.0), ran("a", "2026-11-21T13", 5.0)],
            {"max_cost": 10.9},
            "on top of 11.00 for 2 attempts, more than the 10.90",
        ),
        (
            [began("a"), ran("a", "2026-11-21T12", 4.0), Draft("dropped", "/in/a", {"begun": ""})],
            {"max_cost": 10},
            "10.00 EUR on top of 4.00",
        ),
        ([began("a"), ran("a", "2026-10-31T12", 9.0)], {"max_total_cost": 2}, ""),  # of last month: 1 to go
        ([began("a"), ran("a", "2026-11-21T12", 9.0)], {"max_total_cost": 9.5}, "9.00 already spent on attempts"),
        ([began("a"), ran("a", "2026-11-21T12", None)], {"max_total_cost": 9.5}, "10.00 EUR"),
        ([began("b"), ran("b", "2026-11-21T12", 3.0)], {"max_total_cost": 12}, "with 3.00 already spent"),  # planned: 2
        ([began("b")], {"max_total_cost": 12}, ""),  # of an earlier rewarm: its plan
        ([began("b")], {"max_total_cost": 11}, "with 2.00 already spent"),
        ([began("a"), ran("a", "2026-11-21T12", 99.0), Draft("retry", "/in/a")], {"max_total_cost": 12}, ""),
    ],
)
def test_limits_see_what_attempts_cost(drafts: list[Draft], limits: dict[str, float], message: str) -> None:
    book = Book()
    for name, cost in (("a", 10.0), ("b", 2.0)):
        planned = Draft("planned", f"/in/{name}", {"plan": {**PLAN, "cost": cost}, "planned": "a"})
        happen(book, START, *ready(name, START), planned)
    happen(book, after(1), *drafts)
    settings = WatchSettings(inbox="/in", **limits)  # type: ignore[arg-type]
    said = observe.over(book, book.arrivals["/in/a"], settings, after(2)) or ""
    assert (message in said) if message else not said, said


def start(workspace: Path, inbox: Path, log: Path, *options: str) -> subprocess.Popen[bytes]:
    tests = str(Path(__file__).parent.parent.parent)
    words = ["watch", str(workspace), "--inbox", str(inbox), "--every", "0.3", "--backoff", "0.1", "--set", PRICE]
    with log.open("ab") as stream:
        return subprocess.Popen(
            [sys.executable, "-c", WATCH, *words, *options],
            stdout=stream,
            stderr=stream,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([tests, *sys.path])},
        )


def wait_for(what: Callable[[], Any], log: Path) -> Any:
    deadline = time.monotonic() + 120
    while not (found := what()):
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        time.sleep(0.05)
    return found


def test_killed_attempts_are_paid_for(tmp_path: Path) -> None:
    """One attempt is killed alone and one together with the watch: both are in the journal, and the limit holds."""
    made = Workspace(str(tmp_path / "lm"))
    create(made, load_recipe("tiny"))
    with_base(made)
    home, inbox, log = made.folder.path, tmp_path / "inbox", tmp_path / "log"
    (inbox / "a").mkdir(parents=True)
    for file in ("x.jsonl", "_SUCCESS"):
        (inbox / "a" / file).write_text("{}\n")
    running, journal = home / "watch" / "running.json", home / "watch" / "journal.jsonl"

    def events(kind: str) -> list[dict[str, Any]]:
        lines = journal.read_text().splitlines() if journal.exists() else []
        return [one for one in map(json.loads, lines) if one["kind"] == kind]

    def spent() -> float:
        return float(json.loads(running.read_bytes())["cost"]) if running.exists() else 0.0

    watch = start(home, inbox, log)
    wait_for(lambda: spent() > 0.3, log)
    family = started_by(psutil.Process(watch.pid))
    for process in family:
        process.kill()
    (first,) = wait_for(lambda: events("ran"), log)
    assert first["details"]["cost"] > 0.3
    wait_for(lambda: len(events("started")) == 2 and spent() > 0.3, log)
    family = started_by(psutil.Process(watch.pid))
    watch.kill()
    watch.wait()
    wait_gone(family, 10)
    lost = json.loads(running.read_bytes())

    watch = start(home, inbox, log, "--max-total-cost", "0.6")
    (held,) = wait_for(lambda: events("held"), log)
    watch.terminate()
    watch.wait(60)
    costs = [one["details"]["cost"] for one in events("ran")]
    assert costs == [first["details"]["cost"], lost["cost"]], "each once, though only one was seen to end"
    assert held["details"]["why"] == "cost" and "for 2 attempts" in held["details"]["because"]
    assert not running.exists()
    assert len(events("started")) == 2, "no third attempt"
