"""A watch whose workspace is in a bucket that goes away for a while, or fails at random: it and its updates go on."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from unsteady_store import Store, address, store, unsteady, with_credentials
from watch_world import with_base

from rewarm.pipeline.lineage.lineage import Lineage
from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.pipeline.recipe.recipe import load_recipe
from rewarm.pipeline.update.inputs import create
from rewarm.stages.core.storage import Folder

WATCH = "import rewarm.pipeline.watch.child as child; child.LAUNCHER = 'stand_in_update'; from rewarm.pipeline.cli import main; main()"  # noqa: E501


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in with_credentials().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("REWARM_STORE_DEADLINE", "120")


def start(workspace: str, inbox: Path, log: Path) -> subprocess.Popen[bytes]:
    options = ["--inbox", str(inbox), "--every", "0.5", "--quiet", "3600", "--backoff", "0.5", "--retries", "3"]
    tests = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([tests, *sys.path])}
    command = [sys.executable, "-c", WATCH, "watch", workspace, *options]
    with log.open("ab") as stream:
        return subprocess.Popen(command, stdout=stream, stderr=stream, env=environment)


def arrive(inbox: Path, name: str) -> None:
    (inbox / name).mkdir(parents=True)
    for file in ("x.jsonl", "_SUCCESS"):
        (inbox / name / file).write_text("{}\n")


def kinds(workspace: str, name: str) -> list[str]:
    folder = Folder(workspace) / "watch"
    lines = folder.read("journal.jsonl").splitlines() if folder.exists("journal.jsonl") else []
    return [one["kind"] for one in map(json.loads, lines) if one["path"].endswith(f"/{name}")]


def wait_for(met: Callable[[], bool], watch: subprocess.Popen[bytes], log: Path, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not met():
        assert watch.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        time.sleep(0.3)


def made(lake: Store) -> str:
    workspace = Workspace(address(lake.port, "lm"))
    create(workspace, load_recipe("tiny"))
    with_base(workspace)
    return workspace.folder.uri


def end(watch: subprocess.Popen[bytes]) -> None:
    watch.send_signal(signal.SIGTERM)
    assert watch.wait(60) == 0


@pytest.mark.parametrize("away", [15.0, pytest.param(75.0, marks=pytest.mark.faults)])
def test_a_store_that_goes_away_in_the_middle_of_an_update(tmp_path: Path, away: float) -> None:
    inbox, log = tmp_path / "inbox", tmp_path / "log"
    arrive(inbox, "a")
    with store() as lake:
        workspace = made(lake)
        steps = Workspace(workspace).update("0001-a")
        watch = start(workspace, inbox, log)
        try:
            wait_for(lambda: len(steps.folders()) >= 3, watch, log, 60)
            timer = lake.suspend_for(away)
            time.sleep(away / 2)
            arrive(inbox, "b")
            timer.join()
            wait_for(lambda: "released" in kinds(workspace, "b"), watch, log, 90)
            end(watch)
        finally:
            watch.kill()
            watch.wait()
        for name in "ab":
            assert [kind for kind in kinds(workspace, name) if kind in ("started", "failed", "held", "released")] == [
                "started",
                "released",
            ], "its first attempt went on"
        assert [update.id for update in Lineage(Workspace(workspace)).updates] == ["0000-docs", "0001-a", "0002-b"]
        assert [name.partition(" ")[2] for name in (Folder(workspace) / "ran").files()] == [
            *("begin a", "end a", "begin b", "end b")
        ]


def test_a_watch_is_stopped_also_while_its_store_is_away(tmp_path: Path) -> None:
    inbox, log = tmp_path / "inbox", tmp_path / "log"
    inbox.mkdir()
    with store() as lake:
        workspace = made(lake)
        watch = start(workspace, inbox, log)
        try:
            wait_for(lambda: (Folder(workspace) / "watch").exists(".lease"), watch, log, 60)
            time.sleep(1)
            lake.suspend()
            time.sleep(2)
            began = time.monotonic()
            watch.send_signal(signal.SIGTERM)
            assert watch.wait(90) == 0, log.read_text()[-3000:]
            assert time.monotonic() - began < 60
        finally:
            lake.resume()
            watch.kill()
            watch.wait()


@pytest.mark.faults
@pytest.mark.parametrize(("seed", "kills"), [(1, 0), (2, 0), (3, 0), (4, 2), (5, 2)])
def test_a_store_that_fails_at_random(tmp_path: Path, seed: int, kills: int) -> None:
    """With ``kills``, the watch and its update are killed too, as soon as the first arrivals' updates have begun."""
    inbox, log = tmp_path / "inbox", tmp_path / "log"
    for name in ("a", "b", "bad", "c"):
        arrive(inbox, name)
    with store() as lake, unsteady(lake.port, seed, share=0.1) as proxy:
        workspace = made(lake)
        watch = start(address(proxy.port, "lm"), inbox, log)

        def settled() -> bool:
            return all({"held", "released"} & set(kinds(workspace, name)) for name in ("a", "b", "bad", "c"))

        try:
            for name in "ab"[:kills]:
                wait_for(lambda name=name: "started" in kinds(workspace, name), watch, log, 300)  # type: ignore[misc]
                watch.kill()
                watch.wait()
                watch = start(address(proxy.port, "lm"), inbox, log)
            wait_for(settled, watch, log, 300)
            end(watch)
        finally:
            watch.kill()
            watch.wait()
        found = [update.id for update in Lineage(Workspace(workspace)).updates]
        assert found == ["0000-docs", "0001-a", "0002-b", "0003-c"]
        for name in "abc":
            told = [kind for kind in kinds(workspace, name) if kind in ("started", "failed", "held", "released")]
            begun = told.count("started")
            assert told == [*["started"] * begun, "released"] and 1 <= begun <= 1 + (name in "ab"[:kills]), (name, told)
        assert kinds(workspace, "bad").count("held") == 1
        assert all(proxy.met.values()), proxy.met
