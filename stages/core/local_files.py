"""Copies of remote files on this machine's disk, kept from command to command.

Deleting and flushing on a disk so that a kill or a power cut leaves nothing half done under a name.

Files of an object store, through Arrow.
"""

import os
import shutil
import stat
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote

import pyarrow.fs as pafs

from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.faults import may_pass
from rewarm.stages.core.patience import patiently, shown

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


UNUSED_DAYS = 14.0  # days after which a copy that nobody asked for is removed


def cache_root() -> Path:
    """Where copies lie: in ``REWARM_CACHE``, else ``~/.cache/rewarm``."""
    return Path(os.environ.get("REWARM_CACHE", "~/.cache/rewarm")).expanduser() / "files"


def kept_copy(name: str, fetch: Callable[[Path], None]) -> Path:
    """The copy called ``name``, made by ``fetch`` (into the path it is given) where it is not there.

    Making one removes those that nobody has asked for in ``UNUSED_DAYS``, and what killed commands left. A file that
    is mapped or open stays readable for who has it.
    """
    root = cache_root()
    target = root / name
    with suppress(FileNotFoundError):
        os.utime(target)
        return target
    sweep(root)
    scratch = root / f".{name}.{uuid.uuid4().hex}"
    fetch(scratch)
    try:
        scratch.replace(target)
    except OSError:
        if not target.exists():  # else another process was faster
            raise
    finally:
        remove(scratch)
    return target


def sweep(root: Path) -> None:
    """Remove the copies that are older than ``UNUSED_DAYS``; several processes may."""
    oldest = time.time() - UNUSED_DAYS * 86400
    for path in root.iterdir() if root.exists() else ():
        with suppress(OSError):  # another process was faster
            if path.stat().st_mtime < oldest:
                remove(path)


AT_ONCE = 8  # files that are put at the same time
# Arrow's client waits 100 s for a server that says nothing; within those nothing can be told, nor ended.
STALLS: Mapping[str, Any] = {"connect_timeout": 5, "request_timeout": 10}
# What calls a ``PatientStore`` may be a thread of Arrow's pool, which waits for the file to be written: were the parts
# written by the same pool, as Arrow does by itself, eight files at a time would wait for each other for ever.
FOREGROUND: Mapping[str, Any] = {**STALLS, "background_writes": False}
SWITCHES = ("allow_bucket_creation", "allow_bucket_deletion", "check_directory_existence_before_creation")
FLAT = ("gs://", "gcs://")  # Arrow shows no folders of a Google bucket (apache/arrow#35993), and deletes none


def open_store(uri: str, settings: Mapping[str, Any] = FOREGROUND) -> tuple[pafs.FileSystem, str]:
    """The Arrow filesystem of a URI, without patience, and the path in it. ``OSError`` if its store does not answer."""
    try:
        filesystem, path = pafs.FileSystem.from_uri(uri)
    except OSError as error:
        if may_pass(error):
            raise
        raise not_a_folder(uri, error) from error
    except ValueError as error:
        raise not_a_folder(uri, error) from error
    if isinstance(filesystem, pafs.S3FileSystem):
        filesystem = amazon(uri, filesystem.region, settings)
    return filesystem, path


def amazon(uri: str, region: str, settings: Mapping[str, Any]) -> pafs.S3FileSystem:
    """The store of an ``s3://`` URI with ``settings``, which no URI can name."""
    head, _, query = uri.partition("?")
    options: dict[str, Any] = dict(parse_qsl(query))
    options |= {name: options[name].lower() in ("true", "1") for name in SWITCHES if name in options}
    user, _, _ = head.partition("://")[2].partition("/")[0].rpartition("@")
    key, _, secret = user.partition(":")
    keys = {"access_key": unquote(key), "secret_key": unquote(secret)} if secret else {}
    try:
        return pafs.S3FileSystem(**{**options, "region": region, **keys, **settings})
    except TypeError as error:  # an option that this client does not have
        raise not_a_folder(uri, error) from error


def store_of(uri: str) -> pafs.FileSystem:
    """The same without the path."""
    return open_store(uri)[0]


def not_a_folder(uri: str, error: Exception) -> UsageError:
    """The error for a URI that names no folder."""
    return UsageError(f"{shown(uri)}: not a folder rewarm can open (a local path, s3:// or gs://): {error}")


def entries(filesystem: pafs.FileSystem, path: str) -> list[tuple[str, pafs.FileType]]:
    """Names and kinds of what is directly in a folder, sorted."""
    found = filesystem.get_file_info(pafs.FileSelector(path, allow_not_found=True))
    return sorted((info.base_name, info.type) for info in found if not info.base_name.startswith("."))


def files_below(filesystem: pafs.FileSystem, path: str) -> list[pafs.FileInfo]:
    """A file, or all files below a folder, in the order of their paths; none where there is nothing."""
    info = filesystem.get_file_info(path)
    if info.type == pafs.FileType.File:
        return [info]
    found = filesystem.get_file_info(pafs.FileSelector(path, recursive=True, allow_not_found=True))
    return sorted((one for one in found if one.type == pafs.FileType.File), key=lambda one: str(one.path))


def download(filesystem: pafs.FileSystem, source: str, files: list[pafs.FileInfo], to: Path) -> None:
    """Copy ``files`` (``source`` itself, or all below it) to the disk."""
    for info in files:
        copy = to / info.path.removeprefix(source).lstrip("/")
        copy.parent.mkdir(parents=True, exist_ok=True)
        pafs.copy_files(
            info.path, str(copy), source_filesystem=filesystem, destination_filesystem=pafs.LocalFileSystem()
        )


def put(store: pafs.FileSystem, source: Path, target: str, address: str) -> None:
    """Copy a file, or all files below a folder, from the disk to ``target``; each until it is there."""
    files = sorted(path for path in source.rglob("*") if path.is_file()) if source.is_dir() else [source]

    def copy(file: Path) -> None:
        place = f"{target}/{file.relative_to(source).as_posix()}" if source.is_dir() else target
        patiently(
            lambda: pafs.copy_files(
                str(file),
                place,
                source_filesystem=pafs.LocalFileSystem(),
                destination_filesystem=store,
                use_threads=False,  # of Arrow's pool, which writes the parts of large files (apache/arrow#32372)
            ),
            address,
        )

    if len(files) == 1:
        copy(files[0])
        return
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for done in [pool.submit(copy_context().run, copy, file) for file in files]:
            done.result()
