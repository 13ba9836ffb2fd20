"""Writers that are suspended and killed at random moments (``make test-faults``): no write is lost to another's."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rewarm.pipeline.lineage.lease import find_holder
from rewarm.stages.core.storage import Folder

pytestmark = pytest.mark.faults
TTL = 1.0
WRITERS = 3
SECONDS = 40

# Counts up in a file, by reading it and writing it: a write by anyone who does not hold the lease takes counts away.
WRITER = """
import random, sys, time
from rewarm.pipeline.lineage.lease import LeaseLostError
from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.stages.core.errors import BusyError, UsageError

workspace = Workspace(sys.argv[1])
while True:
    try:
        with workspace.lease(wait_s=5) as lease:
            for _ in range(20):
                count = workspace.folder.read_json("count.json") + 1 if workspace.folder.exists("count.json") else 1
                with workspace.folder.writing("count.json") as scratch:
                    scratch.write_text(str(count))
                    time.sleep(random.uniform(0, 0.02))
                print("wrote", count, lease.epoch, flush=True)
    except LeaseLostError:
        print("lost", flush=True)
    except BusyError:
        pass
"""


class Writer:
    """A process, and the file with what it says."""

    def __init__(self, workspace: Path, said: Path) -> None:
        self.said = said
        environment = {**os.environ, "REWARM_LEASE_TTL": str(TTL)}
        with said.open("w") as out:
            self.process = subprocess.Popen([sys.executable, "-c", WRITER, str(workspace)], stdout=out, env=environment)

    def lines(self) -> list[list[str]]:
        """What it has said; a last line that its kill cut off is no word of its."""
        return [line.split() for line in self.said.read_text().splitlines(keepends=True) if line.endswith("\n")]


@pytest.mark.parametrize("seed", [1, 2])
def test_no_count_is_lost(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    workspace = tmp_path / "workspace"
    everyone = [Writer(workspace, tmp_path / f"{number}.txt") for number in range(WRITERS)]
    writers = list(everyone)
    end = time.monotonic() + SECONDS
    try:
        while time.monotonic() < end:
            time.sleep(dice.uniform(0.2, 1.5))
            # Mostly the holder: the others have nothing to lose.
            held = find_holder(Folder(workspace))
            holders = [w for w in writers if held is not None and held["holder"].split()[1] == str(w.process.pid)]
            chosen = holders[0] if holders and dice.random() < 0.8 else dice.choice(writers)
            if dice.random() < 0.3:
                chosen.process.kill()
                chosen.process.wait()
                writers.remove(chosen)
                writers.append(Writer(workspace, tmp_path / f"{len(everyone)}.txt"))
                everyone.append(writers[-1])
            else:
                chosen.process.send_signal(signal.SIGSTOP)
                time.sleep(dice.choice([TTL / 2, 2 * TTL]))
                chosen.process.send_signal(signal.SIGCONT)
    finally:
        for writer in writers:
            writer.process.kill()
            writer.process.wait()
    said = [line for writer in everyone for line in writer.lines()]
    counts = sorted((int(line[1]), int(line[2])) for line in said if line[0] == "wrote")
    assert len({epoch for _, epoch in counts}) > 5
    assert ["lost"] in said, "nobody was suspended for long enough to lose the lease"
    assert len({count for count, _ in counts}) == len(counts), "two believed to have made the same count"
    assert [epoch for _, epoch in counts] == sorted(epoch for _, epoch in counts), "a late holder wrote"
