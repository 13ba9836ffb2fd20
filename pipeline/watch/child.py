"""Child processes of a watch: a rewarm command that is started, followed and stopped, and the log it writes.

A child is killed when the watch ends, however that ends. Logs are written to local files, because objects in a bucket
cannot be appended to.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from rewarm.pipeline import failure
from rewarm.pipeline.escaping import message, visible
from rewarm.pipeline.failure import Failure
from rewarm.stages.core.errors import COLOURS, UnreachableError
from rewarm.stages.core.local_files import open_private
from rewarm.stages.core.patience import limited, patiently
from rewarm.stages.core.storage import Folder
from rewarm.stages.core.temporary import temporary

GRACE = 30.0  # seconds for an update to end after SIGINT, which also ends its local Ray
POLL = 0.2
LAUNCHER = "rewarm.pipeline.watch_child"
LAST_LINES, LONGEST = 5, 2000  # lines and characters of the log to show if a command ended without a message


@dataclass(frozen=True)
class Ended:
    """Outcome of a command."""

    code: int  # exit code of the process; negative for a signal
    failure: Failure | None  # its error record; None if it succeeded or was killed
    last_lines: str = ""  # last lines of its log

    @property
    def because(self) -> str:
        """Reason for the outcome, for people."""
        if self.code < 0:
            return f"killed by signal {-self.code}"
        if self.failure is not None:
            return self.failure.message[:LONGEST]
        return self.last_lines or f"exit code {self.code}, without any output"


class Child:
    """One running command; its output goes to a log and, as it arrives, to stdout."""

    def __init__(self, arguments: Sequence[str], log: Path, output: Path | None = None) -> None:
        """``output`` receives the command's stdout if that is a result rather than log output."""
        command = [sys.executable, "-P", "-m", LAUNCHER, str(os.getpid()), *arguments]
        self._scratch = ExitStack()
        self._failure = self._scratch.enter_context(temporary("watch")) / "failure.json"
        environment = {**os.environ, failure.FILE: str(self._failure)}
        environment.pop(failure.FORM, None)  # the log is for people
        with open_private(log) as stream:
            self._shown = self._began = stream.seek(0, os.SEEK_END)
            with (output or Path(os.devnull)).open("wb") as result:
                # A separate process group, so that Ctrl-C reaches the command only through the watch.
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
        """Wait for the command to end, calling ``meanwhile`` repeatedly; end it once ``stopping`` returns true.

        The log is followed rather than a pipe, because leftovers of a killed Ray can keep a pipe open for a minute.
        """
        while (code := self.process.poll()) is None:
            with suppress(UnreachableError), limited(0):  # the log's disk fails: shown later
                self._mirror()
            if stopping():
                self._end()
            meanwhile()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(POLL)
        self._mirror()
        found = failure.read(self._failure)
        self._scratch.close()
        return Ended(code, found, self._last_lines())

    def _end(self) -> None:
        """Interrupt the command once; kill it if it has not ended after the grace period."""
        if self._asked is None:
            self._asked = time.monotonic()
            self.process.send_signal(signal.SIGINT)
        elif time.monotonic() - self._asked > GRACE:
            self.process.kill()

    def _mirror(self) -> None:
        data = patiently(lambda: read_from(self.log, self._shown), str(self.log))
        self._shown += len(data)
        if data:
            sys.stdout.write(visible(COLOURS.sub("", data.decode(errors="replace"))))
            sys.stdout.flush()

    def _last_lines(self) -> str:
        """Return the last lines that the command logged."""
        data = patiently(lambda: read_from(self.log, self._began, LONGEST), str(self.log))
        lines = data.decode(errors="replace").rstrip().splitlines()
        return message("\n".join(lines[-LAST_LINES:]))


def read_from(log: Path, start: int, at_most: int | None = None) -> bytes:
    """Return the bytes of a log from ``start`` on, or the last ``at_most`` of them."""
    with log.open("rb") as stream:
        stream.seek(start if at_most is None else max(start, stream.seek(0, os.SEEK_END) - at_most))
        return stream.read()


PR_SET_PDEATHSIG = 1  # linux/prctl.h


def tie(parent: int) -> None:
    """Have the kernel kill this process when its parent ends, however that ends.

    A killed update can be resumed; an orphaned one would write at the same time as the next.
    """
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # the parent ended before the call
        os.kill(os.getpid(), signal.SIGKILL)


class Logs:
    """The folder ``watch/logs``; if it is in a bucket, a log is written on this machine and uploaded afterwards."""

    def __init__(self, folder: Folder) -> None:
        self.folder, self._stack = folder, ExitStack()
        self._scratch = None if folder.is_local else self._stack.enter_context(temporary("watch"))

    def file(self, name: str) -> Path:
        """Return a local log file to append to; for a bucket, it starts as a copy of the stored log."""
        if self._scratch is None:
            return self.folder.path / name
        file = self._scratch / name
        if not file.exists() and self.folder.exists(name):
            file.write_bytes(self.folder.read(name))
        return file

    def keep(self, name: str) -> None:
        """Store a log, so that it outlives this process."""
        if self._scratch is not None:
            self.folder.upload(self._scratch / name, name)
