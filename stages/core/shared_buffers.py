"""Buffers of DeepSpeed's reduction through shared memory: those of killed processes stay until somebody removes them.

A buffer is removed if no process maps it and it was not made just now. A process that maps a buffer keeps it when its
name is removed, so that one whose maps cannot be read (of another container, say) loses nothing.
"""

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

PREFIX = "deepspeed_allreduce_buffer_"
SETTLED_S = 600.0  # a process may have made a buffer and not mapped it yet


def remove_buffers(shared: Path = Path("/dev/shm"), proc: Path = Path("/proc")) -> str | None:
    """Remove this user's buffers that no process maps; return a sentence that says how many, or None."""
    count, size = 0, 0
    for buffer in unmapped(shared, proc):
        with suppress(OSError):
            held = buffer.stat().st_blocks * 512
            buffer.unlink()
            count, size = count + 1, size + held
    if not count:
        return None
    return f"removed {count} buffers of DeepSpeed that killed processes left in {shared} ({size / 1e6:,.1f} MB)"


def unmapped(shared: Path, proc: Path) -> Iterator[Path]:
    """Yield this user's buffers that no process maps, as far as the processes' maps can be read."""
    old = []
    for buffer in shared.glob(f"{PREFIX}*"):
        with suppress(OSError):
            found = buffer.stat()
            if found.st_uid == os.getuid() and time.time() - found.st_mtime > SETTLED_S:
                old.append(buffer)
    mapped: set[str] = set()
    for maps in proc.glob("[0-9]*/maps") if old else ():
        with suppress(OSError):  # it has ended, or is another user's
            lines = maps.read_text(errors="replace").splitlines()
            mapped |= {line.rpartition("/")[2] for line in lines if PREFIX in line}
    yield from (buffer for buffer in old if buffer.name not in mapped)
