"""Kills at random moments (``make test-faults``): whatever is left, the same command ends the same way."""

import json
import random
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from small_lineage import Lineage, command, rewarm, started_by, wait_gone, words

pytestmark = pytest.mark.faults
KILLS = 8
COMPARED = ("weights", "losses", "bits_per_byte", "forgetting", "lm_eval", "tokens", "replay")


@pytest.fixture(scope="module")
def undisturbed(updated: Path) -> dict[str, Any]:
    """What an undisturbed update makes of the base."""
    found: dict[str, Any] = json.loads(rewarm("status", updated, "--json").stdout)["updates"][1]
    return found


def kill_after(arguments: list[str], seconds: float, worker: bool) -> bool:
    """Run a command for some seconds, then kill its driver, or one training worker; whether it was still running."""
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        family = started_by(psutil.Process(process.pid))
        workers = [child for child in family if "RayTrainWorker" in " ".join(words(child))]
        if worker and workers:
            workers[0].kill()
            process.wait(600)
        else:
            process.kill()
            process.wait()
            wait_gone(family)
        return True
    return False


@pytest.mark.timeout(3000)
@pytest.mark.parametrize("seed", [1, 2])
def test_random_kills_change_nothing(base: Lineage, undisturbed: dict[str, Any], tmp_path: Path, seed: int) -> None:
    workspace = tmp_path / "workspace"
    shutil.copytree(base.workspace, workspace)
    dice = random.Random(seed)
    for _ in range(KILLS):
        if not kill_after(command(*base.update(workspace)), dice.uniform(2, 60), worker=dice.random() < 0.3):
            break
    time.sleep(1)
    rewarm(*base.update(workspace))
    found = json.loads(rewarm("status", workspace, "--json").stdout)
    assert found["release"] == "0001-code"
    for field in COMPARED:
        assert found["updates"][1][field] == undisturbed[field], field


@pytest.mark.timeout(1500)
def test_a_killed_run_goes_on_with_one_worker(base: Lineage, undisturbed: dict[str, Any], tmp_path: Path) -> None:
    workspace = tmp_path / "workspace"
    shutil.copytree(base.workspace, workspace)
    update = base.update(workspace)
    process = subprocess.Popen(command(*update), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    checkpoints = workspace / "updates" / "0001-code" / "checkpoints" / "train"
    while not list(checkpoints.glob("checkpoint_*/progress.json")):
        time.sleep(0.05)
        assert process.poll() is None
    family = started_by(psutil.Process(process.pid))
    process.kill()
    wait_gone(family)
    done = rewarm(*update, "--set", "train.num_workers=1")
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(rewarm("status", workspace, "--json").stdout)["updates"][1]
    assert found["train"]["world_size"] == 1
    assert found["train"]["resumed_from"][0] >= 10
    assert found["losses"]["release"] == pytest.approx(undisturbed["losses"]["release"], rel=1e-3)
