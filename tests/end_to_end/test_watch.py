"""A watch with real updates: one tick, and arrivals at odd moments through kills of the watch and of all of Ray."""

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from small_lineage import Lineage, command, rewarm, started_by, wait_gone
from watch_webhook import webhook

SLOW = 400


def fill(folder: Path, files: list[Path], complete: bool) -> None:
    """Put files into an arrival's folder, and the marker where it is complete with them."""
    folder.mkdir(exist_ok=True)
    for file in files:
        shutil.copy(file, folder)
    if complete:
        (folder / "_SUCCESS").touch()


@pytest.fixture
def workspace(base: Lineage, tmp_path: Path) -> Path:
    """A copy of the base, for a test that updates it in its own way."""
    copy = tmp_path / "workspace"
    shutil.copytree(base.workspace, copy)
    return copy


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


def journal(workspace: Path) -> list[dict[str, Any]]:
    file = workspace / "watch" / "journal.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def events(workspace: Path, name: str) -> list[str]:
    return [event["kind"] for event in journal(workspace) if event["path"].endswith(f"/{name}")]


def lineage(workspace: Path) -> list[str]:
    return sorted(file.parent.name for file in workspace.glob("updates/*/update.json"))


@pytest.mark.faults
def test_one_tick_plans_holds_what_is_too_dear_and_takes_it_in_once(
    base: Lineage, workspace: Path, inbox: Path
) -> None:
    fill(inbox / "code", sorted(base.code.iterdir()), complete=True)
    priced = ["--set", "cost.per_worker_hour=3600", "--set", "evaluate.task_documents=0"]
    once = ["watch", workspace, "--inbox", inbox, "--once", *priced]
    dear = rewarm(*once, "--max-cost", "0.01")
    assert dear.returncode == 0, dear.stdout + dear.stderr
    assert events(workspace, "code") == ["seen", "complete", "planned", "held"]
    assert "more than the 0.01 allowed" in dear.stdout
    assert lineage(workspace) == ["0000-docs"]
    done = rewarm(*once, "--max-cost", "1e6")
    assert done.returncode == 0, done.stdout + done.stderr
    assert events(workspace, "code")[4:] == ["lifted", "started", "ran", "released"], "planned before, and not again"
    assert lineage(workspace) == ["0000-docs", "0001-code"]
    planned = next(event for event in journal(workspace) if event["kind"] == "planned")
    assert planned["details"]["plan"]["cost"] > 0.01
    before = journal(workspace)
    again = rewarm(*once)
    assert again.returncode == 0
    assert journal(workspace) == before, "it is not taken in twice"
    log = (workspace / "watch" / "logs" / "code-1.log").read_text()
    assert "evaluate" in log
    assert log in done.stdout


class Running:
    """A watch in a process of its own."""

    def __init__(self, workspace: Path, inbox: Path, url: str, log: Path) -> None:
        options = ["--every", "1", "--quiet", "3600", "--backoff", "1", "--webhook", url]
        options += ["--set", "evaluate.task_documents=0"]
        with log.open("ab") as stream:
            arguments = command("watch", workspace, "--inbox", inbox, *options)
            self.process = subprocess.Popen(arguments, stdout=stream, stderr=stream)
        self.log = log

    def wait_for(self, what: Callable[[], bool]) -> None:
        deadline = time.monotonic() + SLOW
        while not what():
            assert time.monotonic() < deadline, self.log.read_text()[-4000:]
            assert self.process.poll() is None, self.log.read_text()[-4000:]
            time.sleep(0.05)

    def family(self) -> list[psutil.Process]:
        return started_by(psutil.Process(self.process.pid))

    def trains(self) -> bool:
        """Whether its update has workers that train."""
        for process in self.family():
            with suppress(psutil.Error):
                if "RayTrainWorker" in " ".join(process.cmdline()):
                    return True
        return False

    def kill(self) -> None:
        """Kill the watch alone; what it had started must go with it."""
        family = self.family()
        assert any("update" in process.cmdline() for process in family)
        self.process.kill()
        self.process.wait()
        wait_gone(family)

    def kill_cluster(self, itself: bool) -> None:
        """Kill the update and all of Ray at once, perhaps with the watch."""
        family = self.family()
        if itself:
            self.process.kill()
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        if itself:
            self.process.wait()
        wait_gone(family)


@pytest.fixture
def watches(workspace: Path, inbox: Path, tmp_path: Path) -> Iterator[tuple[Any, Callable[[], Running]]]:
    """A webhook, and what starts a watch that tells it; none is left running."""
    started: list[Running] = []
    with webhook() as server:

        def start() -> Running:
            started.append(Running(workspace, inbox, server.url, tmp_path / "watch.log"))
            return started[-1]

        yield server, start
        for one in started:
            if one.process.poll() is None:
                one.kill_cluster(itself=True)


def trains(workspace: Path, update: str, checkpoints: int = 1) -> Callable[[], bool]:
    """Whether an update has left so many checkpoints."""
    return lambda: len(list(workspace.glob(f"updates/{update}/checkpoints/train/*/progress.json"))) >= checkpoints


@pytest.mark.faults
@pytest.mark.timeout(2400)
def test_three_arrivals_at_odd_moments_through_kills(
    base: Lineage, workspace: Path, inbox: Path, watches: tuple[Any, Callable[[], Running]]
) -> None:
    (server, start), files = watches, sorted(base.code.iterdir())

    watch = start()
    fill(inbox / "first", files[:60], complete=True)
    watch.wait_for(trains(workspace, "0001-first"))
    fill(inbox / "second", files[60:90], complete=False)
    watch.wait_for(lambda: "seen" in events(workspace, "second"))
    watch.kill()
    assert lineage(workspace) == ["0000-docs"]

    fill(inbox / "bad", [], complete=False)
    (inbox / "bad" / "x.jsonl").write_text("{not json\n" * 100)
    watch = start()
    watch.wait_for(watch.trains)
    watch.process.send_signal(signal.SIGTERM)
    assert watch.process.wait(90) == 0
    assert "interrupted" in events(workspace, "first")
    assert lineage(workspace) == ["0000-docs"]

    watch = start()
    watch.wait_for(lambda: "released" in events(workspace, "first"))
    (inbox / "bad" / "_SUCCESS").touch()
    watch.wait_for(lambda: "held" in events(workspace, "bad"))
    assert lineage(workspace) == ["0000-docs", "0001-first"]
    assert events(workspace, "second") == ["seen"], "it is not complete"

    fill(inbox / "second", files[90:], complete=True)
    watch.wait_for(trains(workspace, "0002-second"))
    watch.kill_cluster(itself=False)
    watch.wait_for(lambda: "failed" in events(workspace, "second"))
    watch.wait_for(lambda: events(workspace, "second").count("started") == 2)
    watch.wait_for(watch.trains)
    watch.kill_cluster(itself=True)
    assert lineage(workspace) == ["0000-docs", "0001-first"]

    watch = start()
    watch.wait_for(lambda: "released" in events(workspace, "second"))
    watch.wait_for(lambda: any(one["event"] == "released" and one["arrival"] == "second" for one in server.notices))
    time.sleep(3)  # three more looks: nothing is taken twice
    watch.process.send_signal(signal.SIGTERM)
    assert watch.process.wait(60) == 0

    assert lineage(workspace) == ["0000-docs", "0001-first", "0002-second"]
    for name, attempts in (("first", 3), ("second", 3)):
        kinds = events(workspace, name)
        assert (kinds.count("released"), kinds.count("planned")) == (1, 1)
        assert kinds.count("started") - kinds.count("busy") == attempts
    records = [json.loads((workspace / "updates" / name / "update.json").read_text()) for name in lineage(workspace)]
    assert [record["datasets"] for record in records] == [["docs"], ["first"], ["second"]]
    assert all(record["train"]["resumed_from"] for record in records[1:]), "what was trained before the kills stayed"
    second = json.loads((workspace / "datasets" / "second" / "account.json").read_text())
    assert second["files"] == 60, "all of it, and not what lay there at first"

    held = [one for one in server.notices if one["event"] == "held"]
    assert [(one["arrival"], one["why"]) for one in held] == [("bad", "broken")]
    assert "x.jsonl" in held[0]["text"]
    assert "bad" not in {path.name for path in (workspace / "datasets").iterdir()}
    assert [one["arrival"] for one in server.notices if one["event"] == "released"] == ["first", "second"]
    sequence = [one["seq"] for one in server.notices]
    assert sequence == sorted(set(sequence)), "each notice once, in order"
    shown = json.loads(rewarm("watch", workspace, "--status", "--json").stdout)
    assert {one["name"]: (one["state"], one["update"]) for one in shown["arrivals"]} == {
        "first": ("released", "0001-first"),
        "second": ("released", "0002-second"),
        "bad": ("held", ""),
    }
