"""A real update on a disk whose calls fail for a while: a stale handle, an input/output error, no space left."""

import errno
import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from faulty_disk import Disk, compiled
from small_lineage import Lineage, command, rewarm

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]
AWAY_S = 15.0
COMPARED = ("weights", "losses", "bits_per_byte", "forgetting", "gap", "lm_eval", "tokens", "replay", "gate")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("disk"))


@pytest.fixture
def workspace(base: Lineage, tmp_path: Path) -> Path:
    copy = tmp_path / "workspace"
    shutil.copytree(base.workspace, copy)
    return copy


@pytest.fixture
def disk(workspace: Path, library: Path, tmp_path: Path) -> Disk:
    return Disk(workspace, library, tmp_path / "errno")


def trains(workspace: Path) -> bool:
    return bool(list(workspace.glob("updates/0001-code/checkpoints/train/checkpoint_*/progress.json")))


def start(base: Lineage, workspace: Path, disk: Disk, log: Path, deadline_s: float) -> subprocess.Popen[bytes]:
    """An update on a Ray of its own."""
    environment = {**disk.environment, "REWARM_STORE_DEADLINE": str(deadline_s)}
    with log.open("ab") as stream:
        return subprocess.Popen(command(*base.update(workspace)), stdout=stream, stderr=stream, env=environment)


def fail_when_it_trains(workspace: Path, number: int, disk: Disk, update: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 400
    while not trains(workspace):
        assert update.poll() is None, log.read_text()[-4000:]
        assert time.monotonic() < deadline, log.read_text()[-4000:]
        time.sleep(0.05)
    disk.fail(number)


def status(uri: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(rewarm("status", uri, "--json").stdout)
    return found


def assert_as_undisturbed(workspace: Path, updated: Path) -> None:
    found, expected = status(workspace), status(updated)
    assert found["release"] == "0001-code"
    for field in COMPARED:
        assert found["updates"][1][field] == expected["updates"][1][field], field
    verified = rewarm("verify", workspace)
    assert verified.returncode == 0, verified.stdout


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO, errno.ENOSPC])
def test_a_disk_that_fails_for_a_while_in_training(
    base: Lineage, updated: Path, workspace: Path, disk: Disk, tmp_path: Path, number: int
) -> None:
    log = tmp_path / "log"
    update = start(base, workspace, disk, log, deadline_s=600)
    try:
        fail_when_it_trains(workspace, number, disk, update, log)
        time.sleep(AWAY_S)
        disk.fail(0)
        assert update.wait(400) == 0, log.read_text()[-4000:]
    finally:
        update.kill()
        update.wait()
    assert_as_undisturbed(workspace, updated)


@pytest.mark.parametrize(("number", "code"), [(errno.ESTALE, 6), (errno.ENOSPC, 8)])
def test_a_disk_that_fails_for_longer_than_the_deadline(
    base: Lineage, updated: Path, workspace: Path, disk: Disk, tmp_path: Path, number: int, code: int
) -> None:
    log = tmp_path / "log"
    update = start(base, workspace, disk, log, deadline_s=5)
    try:
        fail_when_it_trains(workspace, number, disk, update, log)
        assert update.wait(400) == code, log.read_text()[-4000:]
    finally:
        update.kill()
        update.wait()
    disk.fail(0)
    assert status(workspace)["release"] == "0000-docs"
    assert rewarm("verify", workspace).returncode == 0
    again = start(base, workspace, disk, log, deadline_s=5)
    assert again.wait(600) == 0, log.read_text()[-4000:]
    assert status(workspace)["updates"][1]["train"]["resumed_from"], "it went on from its checkpoint"
    assert_as_undisturbed(workspace, updated)
