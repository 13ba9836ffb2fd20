"""A real update whose workspace is in a bucket that refuses all connections for a while, at several of its stages."""

import json
import os
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs
import pytest
from small_lineage import Lineage, command, rewarm
from unsteady_store import CREDENTIALS, Door, Store, address, store

from rewarm.stages.core.storage import Folder

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1500)]
AWAY_S = 60.0
COMPARED = ("weights", "losses", "bits_per_byte", "forgetting", "gap", "lm_eval", "tokens", "replay", "gate")


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with pytest.MonkeyPatch.context() as patch, store() as found:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        patch.setenv("REWARM_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield found


@pytest.fixture
def door(lake: Store) -> Iterator[Door]:
    """The way to the store of the commands; the test itself asks the store directly."""
    made = Door(lake.port)
    yield made
    made.shut()


@pytest.fixture
def workspace(base: Lineage, lake: Store) -> Folder:
    """A copy of the base's workspace in the bucket, as seen by the test."""
    home = Folder(address(lake.port, f"lm-{uuid.uuid4().hex}"))
    filesystem, path = home.filesystem()
    pafs.copy_files(
        str(base.workspace), path, source_filesystem=pafs.LocalFileSystem(), destination_filesystem=filesystem
    )
    return home


def start(base: Lineage, door: Door, workspace: Folder, log: Path, deadline_s: float) -> subprocess.Popen[bytes]:
    """An update on a Ray of its own, which reaches the bucket through the door."""
    arguments = base.update(Path("/"))
    arguments[1] = address(door.port, workspace.name)
    environment = {**os.environ, "REWARM_STORE_DEADLINE": str(deadline_s)}
    with log.open("ab") as stream:
        return subprocess.Popen(command(*arguments), stdout=stream, stderr=stream, env=environment)


def wait_for(met: Callable[[], bool], update: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 400
    while not met():
        assert update.poll() is None, log.read_text()[-4000:]
        assert time.monotonic() < deadline, log.read_text()[-4000:]
        time.sleep(0.2)


def trains(workspace: Folder) -> bool:
    """Whether the update has left a checkpoint of the trunk's training."""
    checkpoints = workspace / "updates" / "0001-code" / "checkpoints" / "train"
    return any((checkpoints / name).exists("progress.json") for name in checkpoints.folders())


def evaluates(workspace: Folder) -> bool:
    """Whether the release is made, and what follows is its evaluation."""
    return (workspace / "updates" / "0001-code" / "release").committed()


def status(uri: str | Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(rewarm("status", uri, "--json").stdout)
    return found


def assert_as_undisturbed(workspace: Folder, updated: Path) -> None:
    found, expected = status(workspace.uri), status(updated)
    assert found["release"] == "0001-code"
    for field in COMPARED:
        assert found["updates"][1][field] == expected["updates"][1][field], field
    done = rewarm("verify", workspace.uri, "--json")
    verified = json.loads(done.stdout)
    assert (done.returncode, verified["problems"], verified["orphans"]) == (0, [], []), done.stderr


def test_a_store_that_refuses_for_a_minute_in_training_and_in_evaluation(
    base: Lineage, updated: Path, door: Door, workspace: Folder, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    update = start(base, door, workspace, log, deadline_s=600)
    try:
        for stage in (trains, evaluates):
            wait_for(lambda stage=stage: stage(workspace), update, log)  # type: ignore[misc]
            door.shut_for(AWAY_S)
            assert update.poll() is None, log.read_text()[-4000:]
        assert update.wait(600) == 0, log.read_text()[-4000:]
    finally:
        update.kill()
        update.wait()
    assert "no response for" in log.read_text(), "it says what it waits for"
    assert status(workspace.uri)["updates"][1]["train"]["resumed_from"] == [], "no attempt was lost"
    assert_as_undisturbed(workspace, updated)


@pytest.mark.parametrize("stage", [trains, evaluates])
def test_a_store_that_is_away_for_longer_than_the_deadline(
    base: Lineage, updated: Path, door: Door, workspace: Folder, tmp_path: Path, stage: Callable[[Folder], bool]
) -> None:
    log = tmp_path / "log"
    update = start(base, door, workspace, log, deadline_s=10)
    try:
        wait_for(lambda: stage(workspace), update, log)
        door.shut()
        assert update.wait(400) == 6, log.read_text()[-4000:]
    finally:
        update.kill()
        update.wait()
    last = log.read_text().rstrip().splitlines()[-1]
    assert last.startswith("rewarm: ") and "no response in" in last and "REWARM_STORE_DEADLINE" in last, last
    assert status(workspace.uri)["release"] == "0000-docs"
    assert rewarm("verify", workspace.uri).returncode == 0

    door.open()
    again = start(base, door, workspace, log, deadline_s=10)
    assert again.wait(600) == 0, log.read_text()[-4000:]
    if stage is trains:
        assert status(workspace.uri)["updates"][1]["train"]["resumed_from"], "it went on from its checkpoint"
    assert_as_undisturbed(workspace, updated)
