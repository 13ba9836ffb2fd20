"""A command of rewarm as a child of the watch: started, followed, ended."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

GRACE = 30.0  # seconds for an update to end after SIGINT, which also ends its local Ray
POLL = 0.2
LAUNCHER = "pipeline.watch.launch"


class Child:
    """One running command; what it prints goes to a log, and to standard output as it comes."""

    def __init__(self, arguments: Sequence[str], log: Path, output: Path | None = None) -> None:
        """``output`` takes its standard output, where that is a result and not for the log."""
        log.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", LAUNCHER, str(os.getpid()), *arguments]
        with log.open("ab") as stream:
            self._shown = self._began = stream.seek(0, os.SEEK_END)
            with (output or Path(os.devnull)).open("wb") as result:
                # A group of its own, so that Ctrl-C reaches it once: from the watch.
                self.process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=result if output else stream,
                    stderr=stream,
                    process_group=0,
                )
        self.log = log
        self._asked: float | None = None

    def wait(self, meanwhile: Callable[[], None], stopping: Callable[[], bool]) -> int:
        """Its exit code (of a signal, negative), with ``meanwhile`` called again and again; ended where ``stopping``.

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
        return code

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
            sys.stdout.write(data.decode(errors="replace"))
            sys.stdout.flush()

    def printed(self) -> str:
        """What it has put into the log."""
        with self.log.open("rb") as stream:
            stream.seek(self._began)
            return stream.read().decode(errors="replace")
