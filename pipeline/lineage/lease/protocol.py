"""The rules by which one process at a time writes to a workspace: records and clocks only, no files and no threads.

A lease is a record that its holder renews. Its ``epoch`` is the fencing token (M. Kleppmann, "How to do distributed
locking", 2016): it grows by one with every holder and never falls, so the record says at any time whose writes count.

Clocks of two machines are never compared. A holder trusts its lease for ``ttl_s`` from the moment at which it *began*
its last renewal; a contender takes over when it has seen the record unchanged for ``ttl_s`` on its own clock. The
contender saw the record after it was written, so its time runs out after the holder's, whatever the two clocks show
(C. Gray and D. Cheriton, "Leases", SOSP 1989, section 5, asks for a bounded rate only). On one machine both read the
same clock, so there the record's own reading is used, and a holder whose process is gone has no claim any more.

This process as a holder, whether another has ended, and the clock that leases run on.
"""

import os
import secrets
import shlex
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

from rewarm.pipeline.redaction import redact_words


@dataclass(frozen=True)
class Holder:
    """A process that holds, or wants, a lease."""

    host: str
    pid: int
    machine: str  # the boot and the namespace in which pid and clock mean something; empty: unknown
    started: int  # when the process began, clock ticks since boot: pids come again
    token: str  # random, of one hold: a process may take several

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


@dataclass(frozen=True)
class Record:
    """What stands in the workspace. Records of one hold differ in their ``beats``; no two records are equal."""

    holder: Holder
    purpose: str  # the command
    epoch: int  # the fencing token
    beats: int  # renewals so far
    acquired: str  # ISO 8601, UTC; for people, like ``renewed``: nothing is decided by them
    renewed: str
    clock_s: float  # the holder's clock when it began this renewal; means something on its machine only
    ttl_s: float  # how long the holder trusts this record
    released: bool = False

    def to_json(self) -> dict[str, Any]:
        """As JSON types."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Record":
        """What ``to_json`` gave. Raises ``TypeError`` or ``KeyError`` for anything else."""
        return cls(**{**value, "holder": Holder(**value["holder"])})

    def renewal(self, clock: float, now: str) -> "Record":
        """The next record of the same hold."""
        return replace(self, beats=self.beats + 1, clock_s=clock, renewed=now)

    def end(self, now: str) -> "Record":
        """The record that gives the lease back. It stays, because it knows the epoch."""
        return replace(self, beats=self.beats + 1, renewed=now, released=True)

    def held_by(self, holder: Holder) -> bool:
        """Whether this is a record of ``holder``'s own hold, and it was not given back."""
        return self.holder == holder and not self.released


def claim(before: Record | None, holder: Holder, purpose: str, ttl_s: float, clock: float, now: str) -> Record:
    """The first record of a new hold, with the next epoch."""
    epoch = before.epoch + 1 if before else 1
    return Record(holder, purpose, epoch, 0, acquired=now, renewed=now, clock_s=clock, ttl_s=ttl_s)


class Standing(Enum):
    """What a contender knows of a lease."""

    FREE = "free"  # it may be taken: given back, expired, or its holder is gone
    HELD = "held"  # its holder was seen alive, and has not been silent for its ttl since
    UNKNOWN = "unknown"  # seen, but not yet for long enough to tell


class Contender:
    """Watches a lease that it wants; call ``look`` again and again with what stands there."""

    def __init__(self, machine: str, gone: Callable[[Holder], bool]) -> None:
        """``gone`` tells of a holder on ``machine`` that its process has ended; asked of no others."""
        self.machine = machine
        self.gone = gone
        self.seen: Record | None = None
        self.since = 0.0  # own clock, when ``seen`` was seen first
        self.moved = False  # whether a renewal was seen

    def look(self, record: Record | None, clock: float) -> Standing:
        """Where the lease stands; ``clock`` (seconds) is read after the record was."""
        if record is None or record.released:
            return Standing.FREE
        if self.machine and record.holder.machine == self.machine:
            expired = clock - record.clock_s >= record.ttl_s
            return Standing.FREE if expired or self.gone(record.holder) else Standing.HELD
        if record != self.seen:
            self.moved = self.seen is not None
            self.seen, self.since = record, clock
        elif clock - self.since >= record.ttl_s:
            return Standing.FREE
        return Standing.HELD if self.moved else Standing.UNKNOWN


class Tenure:
    """The holder's side: its last record, and until when it needs no look at the store to trust it."""

    def __init__(self, record: Record) -> None:
        self.record = record

    def trusted(self, clock: float) -> bool:
        """Whether nobody can have taken over yet."""
        return clock - self.record.clock_s < self.record.ttl_s

    def kept(self, found: Record | None) -> bool:
        """Whether the record that stands in the store is still of this hold, however late."""
        return found is not None and found.epoch == self.record.epoch and found.held_by(self.record.holder)


BOOT = Path("/proc/sys/kernel/random/boot_id")
NAMESPACES = (Path("/proc/self/ns/pid"), Path("/proc/self/ns/time"))
PROGRAM = Path(__file__).parents[1] / "__main__.py"
ENDED = "ZX"  # states of /proc/PID/stat: a zombie writes no more, and in a container it may never be reaped
PURPOSE_LENGTH = 200  # characters of a command line; enough to know it again


def clock() -> float:
    """Seconds of a clock that all processes of a machine share and that goes on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def myself() -> Holder:
    """This process, for one hold."""
    start = started(os.getpid())
    return Holder(
        socket.gethostname(), os.getpid(), machine() if start else "", start or 0, secrets.token_hex(nbytes=8)
    )


def machine() -> str:
    """The boot and the namespaces of this process; empty where the system does not tell them.

    Two containers on one node have the boot in common, but not the meaning of a pid.
    """
    try:
        return "/".join([BOOT.read_text().strip(), *(str(path.readlink()) for path in NAMESPACES if path.is_symlink())])
    except OSError:
        return ""


def gone(holder: Holder) -> bool:
    """Whether a holder of this machine has ended; a process that cannot be looked at counts as alive."""
    try:
        os.kill(holder.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    found = started(holder.pid)
    return found is not None and found != holder.started


def started(pid: int) -> int | None:
    """When a process began, clock ticks since boot; -1 where it has ended, None where that cannot be read."""
    try:
        # The command's name stands in brackets and may hold any character, so the fields are counted from its end.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return -1 if fields[0] in ENDED else int(fields[19])


def command() -> str:
    """This process's command line as people typed it, without the secrets in it."""
    program = Path(sys.argv[0] or sys.executable)
    name = "rewarm" if program == PROGRAM else program.name  # python -m pipeline
    return shlex.join([name, *redact_words(sys.argv[1:])])[:PURPOSE_LENGTH]
