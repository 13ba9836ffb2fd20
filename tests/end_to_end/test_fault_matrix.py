"""Kills at the commits of an update (``make test-faults``).

The process that is about to give a file its name, or has just done so, is suspended there; then it, its command, its
node or all of the cluster is killed. However often that happens, the update ends in the same bytes, committed once.
The seconds of each cell are printed (``pytest -s``).
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from held_writer import Hold
from small_lineage import Lineage, alive, raylet_of, started_by, wait_gone, words
from update_process import COMMITS, UPDATE, Update, assert_as_undisturbed, status

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1500)]
FILES = {  # that workers complete, in order
    "ingest, a read shard": "*/datasets/code/.staging/[0-9]*",
    "ingest, documents": "*/datasets/code/documents/*.parquet",
    "tokenize, a shard": "*/datasets/code/tokens/train/*",
    "train, a checkpoint": f"{UPDATE}/checkpoints/train/checkpoint_*/progress.json",
    "train, the model": f"{UPDATE}/trunk/model",
    "anneal, a checkpoint": f"{UPDATE}/checkpoints/anneal/checkpoint_*/progress.json",
    "anneal, the model": f"{UPDATE}/release/model",
    "evaluate, losses": f"{UPDATE}/evaluation/losses/pieces/*",
}
SUSPENDED_S = 15.0
Start = Callable[[dict[str, str]], Update]


def say(kind: str, when: str, name: str, began: float) -> None:
    print(f"{kind} killed {when} {name}: {time.monotonic() - began:.1f} s")


@pytest.mark.parametrize(("kind", "when"), [("driver", "before"), ("head", "after")])
def test_killed_at_each_commit_of_the_command(
    updated: Path, copied: Path, hold: Hold, start: Start, kind: str, when: str
) -> None:
    """One update, killed at each of its commits in turn; ``head``: with all of its Ray, as when the machine is lost."""
    for name, pattern in COMMITS.items():
        if (when, name) == ("after", "releases"):
            break  # it is finished with its commit
        began = time.monotonic()
        hold.at(when, pattern)
        update = start(hold.environment)
        held = hold.wait(update.process)
        assert held is not None, f"{name}: never came; {update.said()}"
        assert held.pid == update.process.pid, f"{name}: {words(held)}"
        update.kill(everything=kind == "head")
        say(kind, when, name, began)
    hold.nowhere()
    update = start(hold.environment)
    assert update.wait() == 0, update.said()
    assert_as_undisturbed(copied, updated)


def test_a_worker_is_killed_at_each_file_that_it_completes(
    updated: Path, copied: Path, hold: Hold, start: Start
) -> None:
    """Before and after it gives the file its name; the same command replaces the worker each time."""
    update, last = None, list[str]()
    for name, pattern in FILES.items():
        for when in ("before", "after"):
            began = time.monotonic()
            hold.at(when, pattern)
            update = update or start(hold.environment)
            held = hold.wait(update.process)
            if held is None:  # the one before was the last of its kind
                assert (name, when) == ("evaluate, losses", "after"), f"{when} {name}: never came; {update.said()}"
                last.append(name)
                break
            assert held.pid != update.process.pid, name
            held.kill()
            say("worker", when, name, began)
    assert update is not None
    assert update.wait() == 0, update.said()
    assert status(copied)["updates"][1]["attempts"]["count"] == 1, "of the command"
    assert_as_undisturbed(copied, updated)


def test_the_head_is_killed_at_each_file_that_a_worker_completes(
    updated: Path, copied: Path, hold: Hold, start: Start
) -> None:
    for name, pattern in FILES.items():
        began = time.monotonic()
        hold.at("before", pattern)
        update = start(hold.environment)
        held = hold.wait(update.process)
        assert held is not None, f"{name}: never came; {update.said()}"
        assert held.pid != update.process.pid, name
        update.kill(everything=True)
        say("head", "before", name, began)
    hold.nowhere()
    update = start(hold.environment)
    assert update.wait() == 0, update.said()
    assert_as_undisturbed(copied, updated)


@pytest.mark.parametrize("name", ["ingest, documents", "train, a checkpoint", "evaluate, losses"])
def test_the_node_of_a_worker_is_lost(
    base: Lineage, updated: Path, copied: Path, hold: Hold, tmp_path: Path, name: str
) -> None:
    """An update on a head and three nodes of one CPU; the raylet and the workers of one of them are killed."""
    nodes = [(0, 0), (1, 0), (1, 0), (1, 0)]
    asked = {"do": "update", "workspace": str(copied), "data": [f"code={base.code}"], "nodes": nodes}
    root = Path(__file__).parents[2]
    environment = {**hold.environment, "PYTHONPATH": os.pathsep.join([str(root), str(root / "tests")])}
    began = time.monotonic()
    hold.at("before", FILES[name])
    with (tmp_path / "log").open("wb") as log:
        arguments = [sys.executable, str(root / "tests" / "fake_cluster.py"), json.dumps(asked)]
        cluster = subprocess.Popen(arguments, stdout=log, stderr=log, env=environment)
    try:
        held = hold.wait(cluster)
        assert held is not None, (tmp_path / "log").read_text()[-3000:]
        raylet = psutil.Process(raylet_of(held))
        hold.nowhere()
        for one in [raylet, *raylet.children(recursive=True), held]:
            with suppress(psutil.NoSuchProcess):
                one.kill()
        assert cluster.wait(600) == 0, (tmp_path / "log").read_text()[-3000:]
    finally:
        left = started_by(psutil.Process(cluster.pid)) if cluster.poll() is None else []
        cluster.kill()
        for one in left:
            with suppress(psutil.NoSuchProcess):
                one.kill()
        cluster.wait()
    say("node", "before", name, began)
    assert_as_undisturbed(copied, updated)


def test_a_worker_that_is_suspended_for_a_while(updated: Path, copied: Path, hold: Hold, start: Start) -> None:
    """Nobody takes it for dead, and nothing is repeated."""
    hold.at("before", FILES["train, a checkpoint"])
    update = start(hold.environment)
    held = hold.wait(update.process)
    assert held is not None, update.said()
    hold.nowhere()
    time.sleep(SUSPENDED_S)
    assert update.process.poll() is None, update.said()
    held.resume()
    assert update.wait() == 0, update.said()
    assert status(copied)["updates"][1]["train"]["resumed_from"] == []
    assert_as_undisturbed(copied, updated)


def test_a_late_writer_of_a_killed_command_changes_nothing(
    updated: Path, copied: Path, hold: Hold, start: Start
) -> None:
    """A worker is suspended at its checkpoint; all else is killed, and the command run again; then the worker wakes."""
    hold.at("before", FILES["train, a checkpoint"])
    first = start(hold.environment)
    held = hold.wait(first.process)
    assert held is not None, first.said()
    family = [one for one in first.family() if one.pid != held.pid]
    for one in (psutil.Process(first.process.pid), *family):
        with suppress(psutil.NoSuchProcess):
            one.kill()
    first.process.wait()
    wait_gone(family)
    assert alive(held)
    hold.nowhere()
    second = start(hold.environment)
    checkpoints = copied / "updates" / "0001-code" / "checkpoints" / "train"
    while not list(checkpoints.glob("checkpoint_*/progress.json")):
        assert second.process.poll() is None, second.said()
        time.sleep(0.01)
    held.resume()
    assert second.wait() == 0, second.said()
    wait_gone([held], 30)
    assert not alive(held), "it ends with its Ray"
    assert_as_undisturbed(copied, updated)
