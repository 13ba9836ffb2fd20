"""The log and the current progress of a run, for readers away from its terminal.

Both are in ``WORKSPACE/logs/``: ``<update>.txt`` has a line for every stage and note, and one per minute in between,
for all runs of that update; ``progress.json`` has the progress of the last run, rewritten every two seconds. Neither
affects results, so a failed write is skipped rather than ending the run.
"""

import os
import socket
from contextlib import suppress
from dataclasses import asdict, dataclass, field

import orjson
from pydantic import TypeAdapter

from rewarm.pipeline.escaping import entry
from rewarm.stages.core.digests import now
from rewarm.stages.core.errors import StageError
from rewarm.stages.core.local_files import create_private, keep_private
from rewarm.stages.core.patience import limited
from rewarm.stages.core.shapes import read_as
from rewarm.stages.core.storage import Folder

LOGS = "logs"
PROGRESS = "progress.json"
SUFFIX = ".txt"
LINE_S = 5.0  # how long a line waits for a store that does not answer; in a bucket the next line includes it
QUIET_AFTER = 60.0  # seconds without a write after which a run counts as dead
RUNNING, DONE, FAILED, STOPPED = "running", "done", "failed", "stopped"


@dataclass(frozen=True)
class Standing:
    """The progress of a run. Times are seconds since the epoch, by the clock of the run's machine."""

    update: str
    state: str  # running, done, failed or stopped
    time: float  # when this was written
    began: float  # start of the run
    stage: str = ""
    number: int = 0  # number of the stage, from 1
    stages: int = 0  # number of known stages
    label: str = ""  # the task inside the stage
    unit: str = ""
    done: float = 0.0
    total: float = 0.0  # 0: unknown
    rate: float | None = None  # recent rate, units per second
    left: float | None = None  # seconds left in the task
    run_left: float | None = None  # seconds left in the whole run; None unless every stage can be predicted
    figures: dict[str, float] = field(default_factory=dict)
    host: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)

    def alive(self, at: float) -> bool:
        """Return whether the run has written its progress recently."""
        return self.state == RUNNING and at - self.time < QUIET_AFTER


STANDINGS = TypeAdapter(Standing)


class TextLog:
    """A log of lines, each with the time."""

    def __init__(self, folder: Folder, name: str) -> None:
        self.folder, self.name = folder, name
        self._kept: str | None = None  # the whole log, for stores without appending

    def line(self, text: str) -> None:
        """Append one line."""
        line = f"{now()}  {entry(text)}\n"
        if self.folder.is_local:
            self.folder.path.mkdir(parents=True, exist_ok=True)
            file = self.folder.path / self.name
            with open(file, "a", encoding="utf-8", opener=create_private) as log:
                keep_private(file)
                log.write(line)
            return
        if self._kept is None:
            self._kept = self.folder.read(self.name).decode() if self.folder.exists(self.name) else ""
        self._kept += line
        self.folder.write(self.name, self._kept.encode())


class Journal:
    """The log and the progress of one update, as its run writes them; failed writes do not end the run."""

    def __init__(self, home: Folder, update: str) -> None:
        self.folder, self.update = home / LOGS, update
        self._log = TextLog(self.folder, f"{update}{SUFFIX}")

    def line(self, text: str) -> None:
        """Append one line, with the time."""
        with suppress(OSError, StageError), limited(LINE_S):
            self._log.line(text)

    def stand(self, standing: Standing) -> None:
        """Write the progress of the run, without ``fsync``: it need not survive a power failure."""
        data = orjson.dumps(asdict(standing))
        with suppress(OSError, StageError), limited(0):  # the next write follows in two seconds
            if self.folder.is_local:
                self.folder.path.mkdir(parents=True, exist_ok=True)
                scratch = self.folder.path / f".{PROGRESS}.tmp"
                scratch.write_bytes(data)
                scratch.replace(self.folder.path / PROGRESS)
            else:
                self.folder.write(PROGRESS, data)


def read_standing(home: Folder) -> Standing | None:
    """Read the progress of the last run on a workspace; None if there was no run."""
    folder = home / LOGS
    if not folder.exists(PROGRESS):
        return None
    return read_as(folder, PROGRESS, STANDINGS)


def logged_updates(home: Folder) -> list[str]:
    """Return the ids of the updates that have a log, in the order of their numbers."""
    ids = [name.removesuffix(SUFFIX) for name in (home / LOGS).files(SUFFIX)]
    return sorted(ids, key=lambda update: (len(update.partition("-")[0]), update))  # 9999 before 10000


def read_log(home: Folder, update: str) -> str:
    """Read an update's log so far."""
    return (home / LOGS).read(f"{update}{SUFFIX}").decode("utf-8", "replace")
