"""The stores of a lease record: a file on a disk, or an object in a bucket. Both compare and swap, and guard commits.

On a local disk, or a shared one whose locks work between nodes (NFS, Lustre), ``.lease`` is replaced by rename under a
lock (``.lease.lock``), which is held for milliseconds and ends with its process. A commit holds the same lock from
reading the record to its own rename, so no take-over can happen in between. In a bucket the record is an object that
is replaced by conditional puts.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import orjson
from pydantic import TypeAdapter, ValidationError

from rewarm.pipeline.lineage.lease.protocol import Record
from rewarm.stages.core.errors import StageError, UsageError
from rewarm.stages.core.local_files import create_private, keep_private, sync
from rewarm.stages.core.object_store import Objects
from rewarm.stages.core.patience import patiently
from rewarm.stages.core.shapes import first_problem
from rewarm.stages.core.storage import Folder

RECORD = ".lease"  # its name in the folder that is held
SHAPE = TypeAdapter(Record)
Version = TypeVar("Version")


@dataclass(frozen=True)
class Seen(Generic[Version]):
    """A record as it was read from the store, and the store's version of that state."""

    record: Record | None
    version: Version


class Store(Protocol):
    """The lease record of one folder. Failures of disk or network raise ``OSError`` or ``StageError``."""

    def read(self) -> Seen[Any]:
        """Return the current record."""

    def swap(self, before: Any, record: Record) -> Seen[Any] | None:
        """Write ``record`` if the version is still ``before``; returns None if it is not."""

    def committing(self) -> AbstractContextManager[Record | None]:
        """Give the current record, and lock it during the block if the store can."""


def parse(data: bytes, place: str) -> Record | None:
    """Parse a record; None for an empty file. Raises ``UsageError`` for anything else."""
    if not data:
        return None
    try:
        record = SHAPE.validate_python(Record.from_json(orjson.loads(data)).to_json())
        for moment in (record.acquired, record.renewed):
            datetime.fromisoformat(moment)
    except (ValueError, TypeError, KeyError) as error:
        said = first_problem(error) if isinstance(error, ValidationError) else error
        raise UsageError(
            f"{place}: expected a lease record, found something else ({said}); make sure that no rewarm command is "
            "running on this workspace, then remove the file"
        ) from error
    return record


LOCK = ".lease.lock"
PATIENCE_S = 30.0  # far longer than a rename takes on a slow shared disk
INTERVAL_S = 0.005  # between two attempts to lock; the lock is held for about as long


class LocalStore:
    """The lease record of one folder on a disk."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self.file = folder.path / RECORD
        self.lock = folder.path / LOCK

    def read(self) -> Seen[Record | None]:
        """Return the current record."""
        try:
            data = patiently(self.file.read_bytes, str(self.file))
        except FileNotFoundError:
            return Seen(None, None)
        record = parse(data, str(self.file))
        return Seen(record, record)

    def swap(self, before: Record | None, record: Record) -> Seen[Record | None] | None:
        """Replace ``before`` by ``record``; returns None if the current record is not ``before``."""
        if before is None:
            self.folder.path.mkdir(parents=True, exist_ok=True)
        elif not self.folder.path.is_dir():
            return None  # a heartbeat must not recreate a deleted folder
        with self.locked():
            if self.read().version != before:
                return None
            scratch = self.file.with_name(f"{RECORD}.tmp")  # one writer at a time, under the lock
            scratch.unlink(missing_ok=True)  # left by a killed process, perhaps another user's
            with open(scratch, "wb", opener=create_private) as handle:
                keep_private(scratch)
                handle.write(orjson.dumps(record.to_json(), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
                handle.flush()
                os.fsync(handle.fileno())
            scratch.replace(self.file)
            sync(self.folder.path)
        return Seen(record, record)

    @contextmanager
    def committing(self) -> Iterator[Record | None]:
        """Give the current record, locked during the block."""
        if not self.folder.path.is_dir():
            yield None
            return
        with self.locked():
            yield self.read().record

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock. Raises ``StageError`` if another process keeps it, ``UsageError`` if locks are unsupported."""
        handle = os.open(self.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            self._lock(handle)
            try:
                yield
            finally:
                fcntl.flock(handle, fcntl.LOCK_UN)  # explicitly: a child forked meanwhile has a copy of the handle
        finally:
            os.close(handle)

    def _lock(self, handle: int) -> None:
        end = time.monotonic() + PATIENCE_S
        while not self._locks(handle):
            if time.monotonic() > end:
                raise StageError(
                    f"{self.lock}: locked for {PATIENCE_S:g} s by a process that was suspended during a write "
                    f"(`fuser {self.lock}` shows it): resume or end that process"
                )
            time.sleep(INTERVAL_S)

    def _locks(self, handle: int) -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            raise UsageError(
                f"{self.lock}: this disk does not support file locks ({error.strerror}); mount it with locks that work "
                "between nodes (NFS 4, Lustre with -o flock)"
            ) from error
        return True


if TYPE_CHECKING:
    from obstore import UpdateVersion


class BucketStore:
    """The lease record of one folder in a bucket."""

    def __init__(self, folder: Folder) -> None:
        self.objects = Objects(folder)

    def read(self) -> Seen[Any]:
        """Return the current record."""
        data, version = self.objects.get(RECORD)
        return Seen(parse(data or b"", f"{self.objects.uri}: {RECORD}"), version)

    def swap(self, before: "UpdateVersion | None", record: Record) -> Seen[Any] | None:
        """Put ``record`` if the version of the object is still ``before``; returns None if it is not."""
        version = self.objects.put(RECORD, orjson.dumps(record.to_json()), before)
        return None if version is None else Seen(record, version)

    @contextmanager
    def committing(self) -> Iterator[Record | None]:
        """Give the current record. A bucket has no locks, so a take-over can still happen before the following put."""
        yield self.read().record
