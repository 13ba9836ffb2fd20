"""Commands that hold a workspace, as processes of their own, told by lines what to do next."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.synchronize import Barrier
from pathlib import Path
from queue import Queue
from typing import Any

from rewarm.pipeline.lineage.lease.holding import take
from rewarm.stages.core.errors import BusyError
from rewarm.stages.core.storage import Folder

COMMAND = """
import ctypes, os, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts background jobs without it
from rewarm.pipeline.cli.app import exits
from rewarm.pipeline.lineage.workspace import Workspace

workspace, purpose, wait = Workspace(sys.argv[1]), sys.argv[2], float(sys.argv[3])
with exits(), workspace.lease(purpose, wait) as lease:
    print("held", lease.epoch, flush=True)
    for line in sys.stdin:
        what, name = line.split()
        if what == "write":
            workspace.folder.write_json(name, {"by": purpose})
        elif what == "suspended-write":
            with (workspace.folder / "updates").writing(name) as scratch:
                scratch.write_text(purpose)
                os.kill(os.getpid(), signal.SIGSTOP)
        elif what == "suspended-delete":
            os.kill(os.getpid(), signal.SIGSTOP)
            workspace.folder.delete(name)
        elif what == "sleep":
            time.sleep(float(name))
        elif what == "sleep-with-the-interpreter-locked":
            ctypes.PyDLL(None).usleep(int(float(name) * 1e6))
        print("done", flush=True)
"""

# A command before another, which then runs as in a container of its own: same kernel, other pids.
CONTAINER = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc")


class Command:
    """One such process."""

    def __init__(
        self, workspace: str | Path, purpose: str, ttl: float, wait: float = 0, within: Sequence[str] = ()
    ) -> None:
        self.process = subprocess.Popen(
            [*within, sys.executable, "-c", COMMAND, str(workspace), purpose, str(wait)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "REWARM_LEASE_TTL": str(ttl)},
        )

    def says(self) -> str:
        """Its next line."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def tell(self, what: str, name: str) -> None:
        """Let it do something, without waiting for it."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{what} {name}\n")
        self.process.stdin.flush()

    def do(self, what: str, name: str) -> str:
        """Let it do something; what it says then."""
        self.tell(what, name)
        return self.says()

    def suspend(self) -> None:
        """Stop all its threads where they are."""
        self.process.send_signal(signal.SIGSTOP)
        self.wait_suspended()

    def wait_suspended(self) -> None:
        """Wait until it has stopped."""
        while Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
            time.sleep(0.01)

    def wake(self) -> None:
        """Let it go on."""
        self.process.send_signal(signal.SIGCONT)

    def end(self) -> tuple[int, str]:
        """Let it come to its end: exit code and what it wrote to stderr."""
        _, errors = self.process.communicate(timeout=60)
        return self.process.returncode, errors


@contextmanager
def holding(
    workspace: str | Path, purpose: str, ttl: float, wait: float = 0, within: Sequence[str] = ()
) -> Iterator[Command]:
    """A process that holds the workspace now; ended at the end, whatever it is doing."""
    command = Command(workspace, purpose, ttl, wait, within)
    try:
        assert command.says().startswith("held"), command.end()
        yield command
    finally:
        command.process.kill()
        command.process.communicate()


def race(barrier: Barrier, uris: list[str], name: str, won: "Queue[Any]") -> None:
    """Reach for one lease after the other, each at the same moment as the others do; tell which were won."""
    mine, leases = [], []
    for uri in uris:
        barrier.wait()
        try:
            leases.append(take(Folder(uri), name, 0, 60))
        except BusyError:
            continue
        mine.append(uri)
    won.put(mine)
    barrier.wait()  # nobody ends, and frees its leases by that, before all have tried


def run_race(uris: list[str], racers: int) -> list[str]:
    """What was won, with every lease as often as somebody believed to have it."""
    context = multiprocessing.get_context("spawn")
    barrier, won = context.Barrier(racers), context.Queue()
    names = [f"racer {number}" for number in range(racers)]
    processes = [context.Process(target=race, args=(barrier, uris, name, won)) for name in names]
    for process in processes:
        process.start()
    found = sorted(uri for _ in processes for uri in won.get(timeout=120))
    for process in processes:
        process.join()
    assert found == sorted(set(found)), "two won the same"
    return found
