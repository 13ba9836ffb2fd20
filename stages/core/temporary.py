"""Temporary folders that have an owner: the process that holds the lock of a file in them.

The kernel releases the lock however the process ends, and other containers see it too. A folder whose lock is free
therefore has no owner any more, and the next command removes it (``stages.core.leftovers``). Folders without such a
file are never touched.
"""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX = "rewarm-"
LOCK = "rewarm.lock"
SETTLED_S = 60.0  # a process may have made a folder and not locked it yet


@contextmanager
def temporary(purpose: str) -> Iterator[Path]:
    """Provide a temporary folder; it is removed at the end of the block or, after a kill, by a later command."""
    outer = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{purpose}-"))
    with owning(outer):
        try:
            inner = outer / "files"  # who lists or uploads the folder does not meet the lock
            inner.mkdir()
            yield inner
        finally:
            clear(outer)


@contextmanager
def owning(folder: Path) -> Iterator[None]:
    """Own a folder during the block. On a disk without locks it has no owner, and is never removed by others."""
    handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            (folder / LOCK).unlink(missing_ok=True)
        yield
    finally:
        os.close(handle)


def clear(folder: Path) -> None:
    """Remove a folder, its lock last, so that what cannot be removed now is found again later."""
    with suppress(OSError):
        for entry in folder.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            elif entry.name != LOCK:
                entry.unlink(missing_ok=True)
        if not any(entry.name != LOCK for entry in folder.iterdir()):
            (folder / LOCK).unlink(missing_ok=True)
            folder.rmdir()


def remove_ended(root: Path, pattern: str, kept_s: float = SETTLED_S) -> tuple[int, int]:
    """Remove this user's folders in ``root`` that have no owner any more; return their number and bytes.

    A folder is kept for ``kept_s`` seconds after its last use, ended or not.
    """
    count = size = 0
    for lock in root.glob(f"{pattern}/{LOCK}"):
        with suppress(OSError):  # an owner holds the lock, or another command was faster
            if not is_own(lock.parent) or time.time() - last_used(lock.parent) < kept_s:
                continue
            handle = os.open(lock, os.O_RDWR | os.O_NOFOLLOW)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(handle).st_nlink:  # otherwise another command has just removed it
                    held = sum(file.lstat().st_blocks * 512 for file in lock.parent.rglob("*"))
                    clear(lock.parent)
                    count, size = count + 1, size + held
            finally:
                os.close(handle)
    return count, size


def is_own(folder: Path) -> bool:
    """Return whether a folder is this user's, and not a link to one."""
    return not folder.is_symlink() and folder.stat().st_uid == os.getuid()


def last_used(folder: Path) -> float:
    """Return when a folder, its lock, or a log in it last changed."""
    return max(file.stat().st_mtime for file in (folder, folder / LOCK, *folder.glob("logs/*")))
