"""Process on the cluster that reports the metrics of a watched workspace between its updates.

The watch itself does not use Ray, so that it survives a cluster failure; this process does not survive one and is
restarted. If every update runs on its own local Ray, there is no cluster to report to between updates.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

from rewarm.stages.core.local_files import open_private

PAUSE = 60.0  # seconds between two starts, so that a cluster that is not up yet is tried again


class Observer:
    """Keeper of that process if ``RAY_ADDRESS`` names a cluster, as in a submitted job; it ends with this process."""

    def __init__(self, workspace: str, log: Path) -> None:
        self.workspace, self.log = workspace, log
        self.process: subprocess.Popen[bytes] | None = None
        self._started = 0.0

    def keep(self) -> None:
        """Start the process if it is not running; at most once a minute."""
        if not os.environ.get("RAY_ADDRESS") or (self.process is not None and self.process.poll() is None):
            return
        if self.process is not None and time.monotonic() - self._started < PAUSE:
            return
        self._started = time.monotonic()
        with open_private(self.log, "wb") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "rewarm.pipeline.monitoring.workspace", str(os.getpid()), self.workspace],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                process_group=0,  # Ctrl-C is for the watch
            )

    def end(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
