"""What a run leaves for those who are not at its terminal: a log of its lines, and where it stands right now.

Both lie in ``WORKSPACE/logs/``: ``<update>.txt`` has a line for every stage and note and one a minute in between, of
all runs of that update; ``progress.json`` is the last run's standing, written anew every two seconds. Neither is part
of a result: nothing reads them but people, and what cannot be written is left out rather than ending a run.
"""

import os
import socket
from contextlib import suppress
from dataclasses import asdict, dataclass, field

import orjson
from pydantic import TypeAdapter

from rewarm.pipeline.escaping import entry
from rewarm.stages.core.errors import StageError
from rewarm.stages.core.identity import now
from rewarm.stages.core.local_files import create_private, keep_private
from rewarm.stages.core.patience import limited
from rewarm.stages.core.shapes import read_as
from rewarm.stages.core.storage import Folder

LOGS = "logs"
PROGRESS = "progress.json"
SUFFIX = ".txt"
LINE_S = 5.0  # how long a line waits for a store that does not answer; in a bucket the next line brings it too
QUIET_AFTER = 60.0  # seconds without a sign of life after which a run is taken for dead
RUNNING, DONE, FAILED, STOPPED = "running", "done", "failed", "stopped"


@dataclass(frozen=True)
class Standing:
    """Where a run stands. Times are seconds since the epoch, by the clock of the run's machine."""

    update: str
    state: str  # running, done, failed or stopped
    time: float  # when this was written
    began: float  # of the run
    stage: str = ""
    number: int = 0  # of the stage, from 1
    stages: int = 0  # as many as are known
    label: str = ""  # of the line of work inside the stage
    unit: str = ""
    done: float = 0.0
    total: float = 0.0  # 0: not known
    rate: float | None = None  # units a second, of late
    left: float | None = None  # seconds of the line of work
    run_left: float | None = None  # seconds of the whole run, where every stage's can be told
    figures: dict[str, float] = field(default_factory=dict)
    host: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)

    def alive(self, at: float) -> bool:
        """Whether the run gave a sign of life of late."""
        return self.state == RUNNING and at - self.time < QUIET_AFTER


STANDINGS = TypeAdapter(Standing)


class TextLog:
    """A log that grows by lines, each with the time."""

    def __init__(self, folder: Folder, name: str) -> None:
        self.folder, self.name = folder, name
        self._kept: str | None = None  # the whole log, where a file cannot be appended to

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
    """One update's log and standing, as its run writes them; where they cannot be written, the run goes on."""

    def __init__(self, home: Folder, update: str) -> None:
        self.folder, self.update = home / LOGS, update
        self._log = TextLog(self.folder, f"{update}{SUFFIX}")

    def line(self, text: str) -> None:
        """Append one line, with the time."""
        with suppress(OSError, StageError), limited(LINE_S):
            self._log.line(text)

    def stand(self, standing: Standing) -> None:
        """Say where the run stands. It need not survive a power cut, so nothing waits for the disk here."""
        data = orjson.dumps(asdict(standing))
        with suppress(OSError, StageError), limited(0):  # the next one comes in two seconds
            if self.folder.is_local:
                self.folder.path.mkdir(parents=True, exist_ok=True)
                scratch = self.folder.path / f".{PROGRESS}.tmp"
                scratch.write_bytes(data)
                scratch.replace(self.folder.path / PROGRESS)
            else:
                self.folder.write(PROGRESS, data)


def read_standing(home: Folder) -> Standing | None:
    """Where the last run on a workspace stands or ended; None where none has left a word."""
    folder = home / LOGS
    if not folder.exists(PROGRESS):
        return None
    return read_as(folder, PROGRESS, STANDINGS)


def logged_updates(home: Folder) -> list[str]:
    """The updates that have a log, by name."""
    return [name.removesuffix(SUFFIX) for name in (home / LOGS).files(SUFFIX)]


def read_log(home: Folder, update: str) -> str:
    """An update's log so far."""
    return (home / LOGS).read(f"{update}{SUFFIX}").decode("utf-8", "replace")
