"""Deleting and flushing on a disk so that a kill or a power cut leaves nothing half done under a name."""

import os
import shutil
import stat
import uuid
from pathlib import Path

PRIVATE, SHARED = 0o600, 0o660  # modes of files that may name what is nobody else's business
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


def create_private(path: str, flags: int) -> int:
    """An ``opener`` for ``open`` whose new files only their owner can open, from their first byte on."""
    return os.open(path, flags | os.O_CLOEXEC, PRIVATE)


def keep_private(path: Path) -> None:
    """Let only a file's owner open it (0600); in a folder that its group may write to, the group too (0660).

    Whoever lets a group write to a folder works on it with that group: its members renew each other's leases and go on
    with each other's updates. Where the file cannot be given to the folder's group, or belongs to another member, it
    stays as it is.
    """
    folder, file = path.parent.stat(), path.stat()
    mode = SHARED if folder.st_mode & stat.S_IWGRP else PRIVATE
    try:
        if mode == SHARED and file.st_gid != folder.st_gid:
            os.chown(path, -1, folder.st_gid)
        if stat.S_IMODE(file.st_mode) != mode:
            path.chmod(mode)
    except PermissionError:
        return


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
