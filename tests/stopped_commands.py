"""Commands in processes of their own that are stopped by Ctrl-C or SIGTERM: how they end, when, and what they leave."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from small_lineage import alive, started_by, words

LIMIT_S = 10.0  # between the signal and the end, on a machine that is not busy with other things
LINGER_S = 30.0  # between the end of a command and that of the last process that it started
PATIENCE_S = 300.0


@dataclass(frozen=True)
class Stopped:
    """The end of a command that was stopped."""

    code: int
    seconds: float  # from the signal to the end of the command
    cleared: float  # from the signal to the end of the last process that it had started
    said: str  # on stderr
    lingering: list[list[str]]  # command lines of processes that had not ended ``LINGER_S`` after the command
    left: list[str]  # in its folder of temporary files
    busy: float  # seconds of a command's start just after it, about one on an idle machine

    @property
    def limit(self) -> float:
        """How long it may take on this machine now: ten seconds, and more where even a command's start takes long."""
        return LIMIT_S * max(1.0, self.busy)

    @property
    def last_line(self) -> str:
        return self.said.rstrip().rpartition("\n")[2]


@contextmanager
def private_temporaries() -> Iterator[Path]:
    """A folder for a command's temporary files and its Ray; short, as paths of sockets must be."""
    made = Path(tempfile.mkdtemp(prefix="rws", dir="/tmp"))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def stop_when(
    command: list[str],
    met: Callable[[psutil.Process], bool],
    number: signal.Signals,
    environment: Mapping[str, str] | None = None,
) -> Stopped | None:
    """Start a command, and stop it as soon as ``met`` holds; None if it ended before that.

    SIGINT goes to its process group, as from a terminal; SIGTERM to the command alone.
    """
    with private_temporaries() as folder, (folder / "stderr").open("w+b") as errors:
        env = {**os.environ, **(environment or {}), "TMPDIR": str(folder)}
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors, process_group=0, env=env)
        try:
            return stopped(process, met, number, folder)
        finally:
            process.kill()
            process.wait()


def stopped(
    process: subprocess.Popen[bytes], met: Callable[[psutil.Process], bool], number: signal.Signals, folder: Path
) -> Stopped | None:
    """Stop a running command when ``met`` holds."""
    command, deadline = psutil.Process(process.pid), time.monotonic() + PATIENCE_S
    while not met(command):
        if process.poll() is not None:
            return None
        assert time.monotonic() < deadline, (folder / "stderr").read_text()[-3000:]
        time.sleep(0.01)
    began = time.monotonic()
    if number == signal.SIGINT:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    code = process.wait(120)
    ended = time.monotonic()
    while (running := users_of(folder)) and time.monotonic() < ended + LINGER_S:
        time.sleep(0.1)
    cleared = time.monotonic()
    said = (folder / "stderr").read_text(errors="replace")
    lingering = [words(one) for one in running]
    return Stopped(code, ended - began, cleared - began, said, lingering, left_in(folder), seconds_to_start())


def seconds_to_start() -> float:
    """How long this machine now takes until a command has begun."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", "import rewarm.pipeline.lineage.lineage, rewarm.pipeline.cli"], check=True)
    return time.monotonic() - began


def users_of(folder: Path) -> list[psutil.Process]:
    """All processes that a command with this folder of temporary files has started and that have not ended."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("TMPDIR") == str(folder) and alive(process):
                found.append(process)
    return found


def left_in(folder: Path) -> list[str]:
    """Temporary files that a command has left; the session folder of a Ray is kept for its logs."""
    servers = sorted(path.name for path in folder.glob("rewarm-warm-*/*.starting"))
    return [*(path.name for path in folder.glob("rewarm-*") if "warm" not in path.name), *servers]


def has_started(word: str) -> Callable[[psutil.Process], bool]:
    """Whether the command has started a process with this word in its command line."""
    return lambda command: any(word in " ".join(words(one)) for one in started_by(command))


def there(folder: Path, pattern: str) -> Callable[[psutil.Process], bool]:
    """Whether a folder has files of this pattern that an earlier command had not left there."""
    left: dict[int, set[tuple[Path, int]]] = {}  # by the process of the command, when it was asked about first

    def met(command: psutil.Process) -> bool:
        found = versions(folder, pattern)
        return bool(found - left.setdefault(command.pid, found))

    return met


def versions(folder: Path, pattern: str) -> set[tuple[Path, int]]:
    """The files of a pattern with their times; a file that is being renamed may be missing."""
    found = set()
    for path in folder.glob(pattern):
        with suppress(FileNotFoundError):
            found.add((path, path.stat().st_mtime_ns))
    return found


def began(step: Path) -> Callable[[psutil.Process], bool]:
    """Whether the command has begun a step of an update, by its folder."""
    return there(step, "started.json")
