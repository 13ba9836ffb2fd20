"""A command of rewarm as a child of the watch: started, followed, ended.

A process that ends with the one that started it.

Where the commands of a watch put what they print: files that grow, which a bucket does not have.
"""

import ctypes
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rewarm.pipeline import failure
from rewarm.pipeline.escaping import message, visible
from rewarm.pipeline.failure import Failure
from rewarm.stages.core.local_files import create_private, keep_private
from rewarm.stages.core.storage import Folder

GRACE = 30.0  # seconds for an update to end after SIGINT, which also ends its local Ray
POLL = 0.2
COLOURS = re.compile(r"\x1b\[[0-9;]*m")  # what libraries colour their lines with
LAUNCHER = "rewarm.pipeline.watch_child"
LAST_LINES, LONGEST = 5, 2000  # of a log, lines and characters, that people are shown of an end without a message


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int  # of the process; of a signal, negative
    failure: Failure | None  # what it said of it, for machines; None if it ended well or was killed
    last_lines: str = ""  # of its log

    @property
    def because(self) -> str:
        """Why it ended, for people."""
        if self.code < 0:
            return f"killed by signal {-self.code}"
        if self.failure is not None:
            return self.failure.message[:LONGEST]
        return self.last_lines or f"it ended with exit code {self.code} and printed nothing"


class Child:
    """One running command; what it prints goes to a log, and to standard output as it comes."""

    def __init__(self, arguments: Sequence[str], log: Path, output: Path | None = None) -> None:
        """``output`` takes its standard output, where that is a result and not for the log."""
        log.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", LAUNCHER, str(os.getpid()), *arguments]
        self._scratch = tempfile.TemporaryDirectory(prefix="rewarm-watch-")
        self._failure = Path(self._scratch.name) / "failure.json"
        environment = {**os.environ, failure.FILE: str(self._failure)}
        environment.pop(failure.FORM, None)  # its log is for people
        with open(log, "ab", opener=create_private) as stream:
            keep_private(log)
            self._shown = self._began = stream.seek(0, os.SEEK_END)
            with (output or Path(os.devnull)).open("wb") as result:
                # A group of its own, so that Ctrl-C reaches it once: from the watch.
                self.process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=result if output else stream,
                    stderr=stream,
                    process_group=0,
                    env=environment,
                )
        self.log = log
        self._asked: float | None = None

    def wait(self, meanwhile: Callable[[], None], stopping: Callable[[], bool]) -> "Ended":
        """How it ended, with ``meanwhile`` called again and again; ended where ``stopping``.

        The log is followed rather than a pipe: what a killed Ray leaves behind may hold a pipe open for a minute.
        """
        while (code := self.process.poll()) is None:
            self._mirror()
            if stopping():
                self._end()
            meanwhile()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(POLL)
        self._mirror()
        found = failure.read(self._failure)
        self._scratch.cleanup()
        return Ended(code, found, self._last_lines())

    def _end(self) -> None:
        """Ask it once to end; kill it when it has not done so in time."""
        if self._asked is None:
            self._asked = time.monotonic()
            self.process.send_signal(signal.SIGINT)
        elif time.monotonic() - self._asked > GRACE:
            self.process.kill()

    def _mirror(self) -> None:
        with self.log.open("rb") as stream:
            stream.seek(self._shown)
            data = stream.read()
        self._shown += len(data)
        if data:
            sys.stdout.write(visible(COLOURS.sub("", data.decode(errors="replace"))))
            sys.stdout.flush()

    def _last_lines(self) -> str:
        """The last of what it has put into the log."""
        with self.log.open("rb") as stream:
            stream.seek(max(self._began, stream.seek(0, os.SEEK_END) - LONGEST))
            lines = stream.read().decode(errors="replace").rstrip().splitlines()
        return message("\n".join(lines[-LAST_LINES:]))


PR_SET_PDEATHSIG = 1  # linux/prctl.h


def tie(parent: int) -> None:
    """Have this process killed when its parent ends, however that ends.

    An update that is killed goes on later where it stood; one that is orphaned would write beside the next.
    """
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it ended before the kernel was told
        os.kill(os.getpid(), signal.SIGKILL)


class Logs:
    """The folder ``watch/logs``; where it lies in a bucket, a file grows on this machine and is put there after."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self._scratch = None if folder.is_local else tempfile.TemporaryDirectory(prefix="rewarm-watch-")

    def file(self, name: str) -> Path:
        """A log to write to; in a bucket it begins with what is there."""
        if self._scratch is None:
            return self.folder.path / name
        file = Path(self._scratch.name) / name
        if not file.exists() and self.folder.exists(name):
            file.write_bytes(self.folder.read(name))
        return file

    def keep(self, name: str) -> None:
        """Have a log stay when this process ends."""
        if self._scratch is not None:
            self.folder.upload(Path(self._scratch.name) / name, name)
