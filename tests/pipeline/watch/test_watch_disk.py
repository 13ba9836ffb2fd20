"""A watch whose workspace is on a disk that fails for a while in the middle of an update: both resume by themselves."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from faulty_disk import Disk, compiled
from watch_world import with_base

from rewarm.pipeline.lineage.lineage import Lineage
from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.pipeline.recipe.recipe import load_recipe
from rewarm.pipeline.update.inputs import create

WATCH = "import rewarm.pipeline.watch.child as child; child.LAUNCHER = 'stand_in_update'; from rewarm.pipeline.cli import main; main()"  # noqa: E501
AWAY_S = 6.0


def start(workspace: Path, inbox: Path, disk: Disk, log: Path) -> subprocess.Popen[bytes]:
    options = ["--inbox", str(inbox), "--every", "0.5", "--quiet", "3600", "--backoff", "0.5", "--retries", "0"]
    tests = str(Path(__file__).parents[2])
    paths = {"PYTHONPATH": os.pathsep.join([tests, *sys.path]), "REWARM_STORE_DEADLINE": "120"}
    command = [sys.executable, "-c", WATCH, "watch", str(workspace), *options]
    with log.open("ab") as stream:
        return subprocess.Popen(command, stdout=stream, stderr=stream, env={**disk.environment, **paths})


def arrive(inbox: Path, name: str) -> None:
    (inbox / name).mkdir(parents=True)
    for file in ("x.jsonl", "_SUCCESS"):
        (inbox / name / file).write_text("{}\n")


def kinds(workspace: Path, name: str) -> list[str]:
    journal = workspace / "watch" / "journal.jsonl"
    lines = journal.read_text().splitlines() if journal.exists() else []
    return [one["kind"] for one in map(json.loads, lines) if one["path"].endswith(f"/{name}")]


def wait_for(met: Callable[[], bool], watch: subprocess.Popen[bytes], log: Path, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not met():
        assert watch.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        time.sleep(0.1)


@pytest.mark.parametrize(
    "number", [errno.ENOSPC, *(pytest.param(one, marks=pytest.mark.faults) for one in (errno.ESTALE, errno.EIO))]
)
def test_a_disk_that_fails_in_the_middle_of_an_update(tmp_path: Path, number: int) -> None:
    made = Workspace(str(tmp_path / "lm"))
    create(made, load_recipe("tiny"))
    with_base(made)
    workspace, inbox, log = made.folder.path, tmp_path / "inbox", tmp_path / "log"
    disk = Disk(workspace, compiled(tmp_path), tmp_path / "errno")
    arrive(inbox, "a")
    watch = start(workspace, inbox, disk, log)
    try:
        wait_for(lambda: len(made.update("0001-a").folders()) >= 3, watch, log, 60)
        disk.fail(number)
        time.sleep(AWAY_S / 2)
        arrive(inbox, "b")
        time.sleep(AWAY_S / 2)
        disk.fail(0)
        wait_for(lambda: "released" in kinds(workspace, "b"), watch, log, 90)
        watch.send_signal(signal.SIGTERM)
        assert watch.wait(60) == 0, log.read_text()[-3000:]
    finally:
        watch.kill()
        watch.wait()
    for name in "ab":
        told = [kind for kind in kinds(workspace, name) if kind in ("started", "failed", "held", "released")]
        assert told == ["started", "released"], "its first attempt went on"
    assert [update.id for update in Lineage(made).updates] == ["0000-docs", "0001-a", "0002-b"]
    assert (workspace / "ran.txt").read_text().splitlines() == ["begin a", "end a", "begin b", "end b"]
