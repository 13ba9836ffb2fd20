"""This process as a holder, whether another has ended, and the clock that leases run on."""

import os
import secrets
import shlex
import socket
import sys
import time
from pathlib import Path

from pipeline.lease.protocol import Holder
from pipeline.redaction import redact_words

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
