"""File operations on local disks, cached copies of remote files, and object stores through Arrow.

Deleting and flushing are crash-safe: a kill or a power failure leaves no incomplete file under its final name. Copies
of remote files are kept on this machine's disk across commands.
"""

import errno
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
from typing import Any, BinaryIO, Literal
from urllib.parse import parse_qsl, unquote

import pyarrow.fs as pafs

from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.faults import may_pass
from rewarm.stages.core.patience import patiently, shown

PRIVATE, SHARED = 0o600, 0o660  # modes of files that may contain confidential names
LISTINGS = 10  # of a folder that is being removed while a writer still ends
REMOVED = ".removed"  # suffix of folders that were renamed and are being deleted


def remove(path: Path) -> None:
    """Remove a file or a folder if it exists.

    A writer that ends late may rename or create files in the folder meanwhile: what is gone already is no error, and
    a folder that is not empty yet is listed again, up to ``LISTINGS`` times.
    """
    if not path.is_dir() or path.is_symlink():
        path.unlink(missing_ok=True)
        return
    for left in reversed(range(LISTINGS)):
        try:
            shutil.rmtree(path, onerror=unless_gone)
        except OSError as error:
            if error.errno != errno.ENOTEMPTY or not left:
                raise
            time.sleep(0.05)
        else:
            return


def unless_gone(_call: Callable[..., Any], _path: str, failure: tuple[type, BaseException, Any]) -> None:
    """Raise the failure of ``shutil.rmtree``, unless the entry no longer exists."""
    if not isinstance(failure[1], FileNotFoundError):
        raise failure[1]


def set_aside(path: Path) -> Path:
    """Rename a folder out of the way, atomically; return its new path."""
    return path.rename(path.with_name(f".{path.name}.{uuid.uuid4().hex}{REMOVED}"))


def sync(path: Path) -> None:
    """Flush a file, or a folder's list of names, to the disk, so that a rename never outlives its bytes."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def share(path: Path) -> None:
    """Give a file with mode 0600 the usual mode of a new file (0666 less the umask).

    Some libraries (safetensors) create files with mode 0600 regardless of the umask.
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
    """Return a descriptor as an ``opener`` for ``open``; new files are private to their owner from the first byte."""
    return os.open(path, flags | os.O_CLOEXEC, PRIVATE)


def open_private(path: Path, mode: Literal["ab", "wb"] = "ab") -> BinaryIO:
    """Open a file that only its owner may read, with its folder; wait for a disk that does not respond."""

    def opened() -> BinaryIO:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = open(path, mode, opener=create_private)  # noqa: SIM115 - the caller closes it
        keep_private(path)
        return stream

    return patiently(opened, str(path))


def keep_private(path: Path) -> None:
    """Restrict a file to its owner (0600); in a group-writable folder, to the owner and the group (0660).

    A group-writable folder is shared by its group: its members renew each other's leases and resume each other's
    updates. If the file cannot be assigned to the folder's group, or belongs to another member, it is not changed.
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
    """Give a finished file its name unless the name exists; return whether it was given.

    Creating a hard link is atomic. A disk without hard links (exFAT, some network disks) permits only a check before
    the rename: there, the caller's lock must exclude other writers.
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


UNUSED_DAYS = 14.0  # days after which an unused copy is removed


def cache_root() -> Path:
    """Return the folder of cached copies: ``REWARM_CACHE``, else ``~/.cache/rewarm``."""
    return Path(os.environ.get("REWARM_CACHE", "~/.cache/rewarm")).expanduser() / "files"


def kept_copy(name: str, fetch: Callable[[Path], None]) -> Path:
    """Return the copy called ``name``; if it does not exist, ``fetch`` creates it at the path that it receives.

    Creating a copy also removes copies unused for ``UNUSED_DAYS`` and remains of killed commands. A file that is mapped
    or open remains readable.
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
        if not target.exists():  # otherwise another process created it first
            raise
    finally:
        remove(scratch)
    return target


def sweep(root: Path) -> None:
    """Remove the copies that are unused for ``UNUSED_DAYS``; safe to run concurrently."""
    oldest = time.time() - UNUSED_DAYS * 86400
    for path in root.iterdir() if root.exists() else ():
        with suppress(OSError):  # another process removed it first
            if path.stat().st_mtime < oldest:
                remove(path)


AT_ONCE = 8  # files that are put at the same time
# Arrow's client waits 100 s for an unresponsive server; during this time the wait can be neither reported nor ended.
STALLS: Mapping[str, Any] = {"connect_timeout": 5, "request_timeout": 10}
# A ``PatientStore`` may be called from a thread of Arrow's pool that waits for the file to be written. If the same pool
# wrote the parts, as is Arrow's default, eight concurrent files would wait for each other forever.
FOREGROUND: Mapping[str, Any] = {**STALLS, "background_writes": False}
SWITCHES = ("allow_bucket_creation", "allow_bucket_deletion", "check_directory_existence_before_creation")
FLAT = ("gs://", "gcs://")  # Arrow shows no folders of a Google bucket (apache/arrow#35993), and deletes none


def open_store(uri: str, settings: Mapping[str, Any] = FOREGROUND) -> tuple[pafs.FileSystem, str]:
    """Return the plain Arrow filesystem of a URI and the path in it. Raises ``OSError`` if its store does not
    respond."""
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
    """Return the store of an ``s3://`` URI with ``settings``, which no URI can name."""
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
    """Return the Arrow filesystem of a URI."""
    return open_store(uri)[0]


def not_a_folder(uri: str, error: Exception) -> UsageError:
    """Return the error for a URI that is not a folder."""
    return UsageError(f"{shown(uri)}: expected a folder (a local path, s3:// or gs://): {error}")


def entries(filesystem: pafs.FileSystem, path: str) -> list[tuple[str, pafs.FileType]]:
    """Return the names and kinds of a folder's direct children, sorted."""
    file_info = filesystem.get_file_info(pafs.FileSelector(path, allow_not_found=True))
    return sorted((info.base_name, info.type) for info in file_info if not info.base_name.startswith("."))


def files_below(filesystem: pafs.FileSystem, path: str) -> list[pafs.FileInfo]:
    """Return a file, or all files below a folder, sorted by path; empty if the path does not exist."""
    info = filesystem.get_file_info(path)
    if info.type == pafs.FileType.File:
        return [info]
    file_info = filesystem.get_file_info(pafs.FileSelector(path, recursive=True, allow_not_found=True))
    return sorted((one for one in file_info if one.type == pafs.FileType.File), key=lambda one: str(one.path))


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
