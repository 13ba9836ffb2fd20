"""A command suspended in the middle of its training, and another that takes over (``make test-faults``)."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from small_lineage import Lineage, command, rewarm, started_by, wait_gone

from rewarm.pipeline.lineage.lease import find_holder
from rewarm.stages.core.storage import Folder

TTL = 5.0  # seconds; a pause of a busy machine is shorter


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_a_command_that_slept_through_a_take_over_commits_nothing(tmp_path: Path) -> None:
    lineage = Lineage(tmp_path)
    workspace = lineage.workspace
    environment = {**os.environ, "REWARM_LEASE_TTL": str(TTL)}
    arguments = command(*lineage.init(workspace))
    first = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        checkpoints = workspace / "updates" / "0000-docs" / "checkpoints" / "train"
        deadline = time.monotonic() + 400
        while not list(checkpoints.glob("checkpoint_*/progress.json")):
            assert first.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        held = find_holder(Folder(workspace))
        assert held is not None
        assert (held["epoch"], held["holder"].split()[1]) == (1, str(first.pid))

        second = subprocess.run(arguments, capture_output=True, text=True, check=False, env=environment, timeout=60)
        assert second.returncode == 5
        assert "another rewarm command is writing to this workspace: `rewarm init " in second.stderr

        family = started_by(psutil.Process(first.pid))
        first.send_signal(signal.SIGSTOP)
        time.sleep(TTL)
        third = subprocess.run(arguments, capture_output=True, text=True, check=False, env=environment, timeout=400)
        assert third.returncode == 0, third.stderr[-3000:]
        made = (workspace / "updates" / "0000-docs" / "update.json").read_bytes()

        first.send_signal(signal.SIGCONT)
        _, errors = first.communicate(timeout=120)
        assert first.returncode == 1, errors[-3000:]
        assert "this command no longer holds the workspace" in errors
        assert "Traceback" not in errors
        wait_gone(family)
        assert (workspace / "updates" / "0000-docs" / "update.json").read_bytes() == made
        found = json.loads(rewarm("status", workspace, "--json").stdout)
        assert [update["state"] for update in found["updates"]] == ["released"]
    finally:
        first.kill()
        first.communicate()
