"""The protocol of the lease that allows one writer per workspace: records and clocks only, no files and no threads.

A lease is a record that its holder renews. Its ``epoch`` is the fencing token (M. Kleppmann, "How to do distributed
locking", 2016): it grows by one with every holder and never decreases, so the record always identifies the process
whose writes are valid.

Clocks of two machines are never compared. A holder trusts its lease for ``ttl_s`` from the moment at which it *began*
its last renewal; a contender takes over when it has seen the record unchanged for ``ttl_s`` on its own clock. The
contender saw the record after it was written, so its timeout ends after the holder's, whatever the two clocks show
(C. Gray and D. Cheriton, "Leases", SOSP 1989, section 5, only requires a bounded rate). On one machine both processes
read the same clock, so the time in the record is used, and a holder whose process has ended loses the lease at once.
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
    machine: str  # the boot and the namespaces in which pid and clock are valid; empty: unknown
    started: int  # start of the process, clock ticks since boot, because pids are reused
    token: str  # random, one per hold: a process may hold several leases

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


@dataclass(frozen=True)
class Record:
    """The lease record in the workspace. Records of one hold differ in ``beats``; no two records are equal."""

    holder: Holder
    purpose: str  # the command
    epoch: int  # the fencing token
    beats: int  # renewals so far
    acquired: str  # ISO 8601, UTC; for display, like ``renewed``: no decision depends on them
    renewed: str
    clock_s: float  # the holder's clock when it began this renewal; valid on its machine only
    ttl_s: float  # how long the holder trusts this record
    released: bool = False

    def to_json(self) -> dict[str, Any]:
        """Convert to JSON types."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Record":
        """Convert from the output of ``to_json``. Raises ``TypeError`` or ``KeyError`` for anything else."""
        return cls(**{**value, "holder": Holder(**value["holder"])})

    def renewal(self, clock: float, now: str) -> "Record":
        """Return the next record of the same hold."""
        return replace(self, beats=self.beats + 1, clock_s=clock, renewed=now)

    def end(self, now: str) -> "Record":
        """Return the record that releases the lease. The store keeps it, because the next epoch follows from it."""
        return replace(self, beats=self.beats + 1, renewed=now, released=True)

    def held_by(self, holder: Holder) -> bool:
        """Return whether this is a record of ``holder``'s hold and the lease was not released."""
        return self.holder == holder and not self.released


def claim(before: Record | None, holder: Holder, purpose: str, ttl_s: float, clock: float, now: str) -> Record:
    """Return the first record of a new hold, with the next epoch."""
    epoch = before.epoch + 1 if before else 1
    return Record(holder, purpose, epoch, 0, acquired=now, renewed=now, clock_s=clock, ttl_s=ttl_s)


class Standing(Enum):
    """The state of a lease as a contender sees it."""

    FREE = "free"  # may be acquired: released, expired, or the holder's process has ended
    HELD = "held"  # the holder was seen alive within the last TTL
    UNKNOWN = "unknown"  # seen, but not for long enough to tell


class Contender:
    """A process that waits for a lease; call ``look`` repeatedly with the record in the store."""

    def __init__(self, machine: str, gone: Callable[[Holder], bool]) -> None:
        """``gone`` returns whether a holder's process has ended; it is only called for holders on ``machine``."""
        self.machine = machine
        self.gone = gone
        self.seen: Record | None = None
        self.since = 0.0  # own clock, when ``seen`` was first seen
        self.moved = False  # whether a renewal was seen

    def look(self, record: Record | None, clock: float) -> Standing:
        """Return the state of the lease; ``clock`` (seconds) must be read after the record."""
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
    """The holder's side: its last record, which it may trust for the TTL without reading the store."""

    def __init__(self, record: Record) -> None:
        self.record = record

    def trusted(self, clock: float) -> bool:
        """Return whether no other process can have taken over yet."""
        return clock - self.record.clock_s < self.record.ttl_s

    def kept(self, record: Record | None) -> bool:
        """Return whether the record in the store still belongs to this hold, however late."""
        return record is not None and record.epoch == self.record.epoch and record.held_by(self.record.holder)


BOOT = Path("/proc/sys/kernel/random/boot_id")
NAMESPACES = (Path("/proc/self/ns/pid"), Path("/proc/self/ns/time"))
PROGRAM = Path(__file__).parents[2] / "__main__.py"
ENDED = "ZX"  # states in /proc/PID/stat: a zombie cannot write, and in a container it may never be reaped
PURPOSE_LENGTH = 200  # characters of a command line, enough to recognize it


def clock() -> float:
    """Return seconds on a clock that all processes of a machine share and that keeps running during suspend."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def myself() -> Holder:
    """Return this process as a holder, with a new token."""
    start = started(os.getpid())
    return Holder(
        socket.gethostname(), os.getpid(), machine() if start else "", start or 0, secrets.token_hex(nbytes=8)
    )


def machine() -> str:
    """Return the boot and the namespaces of this process; empty if the system does not provide them.

    Two containers on one node share the boot id, but not the pid namespace.
    """
    try:
        return "/".join([BOOT.read_text().strip(), *(str(path.readlink()) for path in NAMESPACES if path.is_symlink())])
    except OSError:
        return ""


def gone(holder: Holder) -> bool:
    """Return whether a holder on this machine has ended; a process that cannot be inspected counts as alive."""
    try:
        os.kill(holder.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    found = started(holder.pid)
    return found is not None and found != holder.started


def started(pid: int) -> int | None:
    """Return the start of a process, clock ticks since boot; -1 if it has ended, None if it cannot be read."""
    try:
        # The command's name is in parentheses and may hold any character, so fields are counted after its end.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return -1 if fields[0] in ENDED else int(fields[19])


def command() -> str:
    """Return this process's command line as the user typed it, with secrets redacted."""
    program = Path(sys.argv[0] or sys.executable)
    name = "rewarm" if program == PROGRAM else program.name  # python -m rewarm.pipeline
    return shlex.join([name, *redact_words(sys.argv[1:])])[:PURPOSE_LENGTH]
