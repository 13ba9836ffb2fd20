"""Deleting and flushing on a disk so that a kill or a power cut leaves nothing half done under a name."""

import os
import shutil
import uuid
from pathlib import Path

REMOVED = ".removed"  # ends the names of folders that have been taken away and are being deleted


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def set_aside(path: Path) -> Path:
    """Take a folder away from its name, in one step; where it lies now."""
    return path.rename(path.with_name(f".{path.name}.{uuid.uuid4().hex}{REMOVED}"))


def sync(path: Path) -> None:
    """Flush a file, or a folder's list of names, to the disk, so that a rename never outlives its bytes."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def share(path: Path) -> None:
    """Give a file that only its owner can open the mode that a new file has here (0666 less the umask).

    Some libraries (safetensors) make their files 0600, whatever the umask says.
    """
    if not path.is_file() or path.is_symlink() or path.stat().st_mode & 0o077:
        return
    fresh = path.with_name(f".{path.name}.{uuid.uuid4().hex}.mode")
    handle = os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    try:
        mode = os.fstat(handle).st_mode
    finally:
        os.close(handle)
        fresh.unlink()
    path.chmod(mode & 0o777 | path.stat().st_mode & 0o700)


def claim(scratch: Path, target: Path) -> bool:
    """Give a finished file its name if nothing has that name yet; whether it got it.

    A hard link is created by the kernel or refused, whoever else tries. A disk without hard links (exFAT, some network
    disks) has only the look before the rename: the caller's lock must keep others out.
    """
    try:
        os.link(scratch, target)
    except FileExistsError:
        return False
    except OSError:
        if target.exists():
            return False
        scratch.replace(target)
    sync(target.parent)
    return True
