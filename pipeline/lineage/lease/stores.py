"""A lease's record as a file: on a local disk, or a shared one whose locks work between its nodes (NFS, Lustre).

``.lease`` is replaced by rename, under a lock (``.lease.lock``) that is held for milliseconds and dies with its
process. A commit takes the same lock from its look at the record to its rename: no take-over comes between the two.

What a place for a lease's record does: read, compare and swap, and guard a commit.

A lease's record as an object that is put on condition.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import orjson

from rewarm.pipeline.lineage.lease.protocol import Record
from rewarm.stages.core.errors import StageError, UsageError
from rewarm.stages.core.local_files import create_private, keep_private, sync
from rewarm.stages.core.object_store import Objects
from rewarm.stages.core.patience import patiently
from rewarm.stages.core.storage import Folder

RECORD = ".lease"  # its name in the folder that is held
Version = TypeVar("Version")


@dataclass(frozen=True)
class Seen(Generic[Version]):
    """A record as it stood in the store, and the store's own mark of that state."""

    record: Record | None
    version: Version


class Store(Protocol):
    """The record of one folder. What fails in between (disk, network) is an ``OSError`` or a ``StageError``."""

    def read(self) -> Seen[Any]:
        """What stands there now."""

    def swap(self, before: Any, record: Record) -> Seen[Any] | None:
        """Put ``record`` there if the state is still the one marked ``before``; None where it is not."""

    def committing(self) -> AbstractContextManager[Record | None]:
        """The record, kept from changing while the block lasts as far as the store can do that."""


def parse(data: bytes, place: str) -> Record | None:
    """A record from its bytes; none from an empty file. Raises ``UsageError`` for anything else."""
    if not data:
        return None
    try:
        return Record.from_json(orjson.loads(data))
    except (ValueError, TypeError, KeyError) as error:
        raise UsageError(
            f"{place}: expected the record of a lease, found something else ({error}); make sure that no rewarm "
            "command runs on this workspace, then remove the file"
        ) from error


LOCK = ".lease.lock"
PATIENCE_S = 30.0  # far more than a slow shared disk takes for a rename
INTERVAL_S = 0.005  # between two tries for the lock: it is held about as long


class LocalStore:
    """The record of one folder."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self.file = folder.path / RECORD
        self.lock = folder.path / LOCK

    def read(self) -> Seen[Record | None]:
        """What stands there now."""
        try:
            data = patiently(self.file.read_bytes, str(self.file))
        except FileNotFoundError:
            return Seen(None, None)
        record = parse(data, str(self.file))
        return Seen(record, record)

    def swap(self, before: Record | None, record: Record) -> Seen[Record | None] | None:
        """Put ``record`` in the place of ``before``; None where something else stands there."""
        if before is None:
            self.folder.path.mkdir(parents=True, exist_ok=True)
        elif not self.folder.path.is_dir():
            return None  # the heartbeat of a folder that was deleted does not bring it back
        with self.locked():
            if self.read().version != before:
                return None
            scratch = self.file.with_name(f"{RECORD}.tmp")  # one writer at a time, under the lock
            scratch.unlink(missing_ok=True)  # of a process that was killed, perhaps another user's
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
        """The record, which stays as it is for as long as the block lasts."""
        if not self.folder.path.is_dir():
            yield None
            return
        with self.locked():
            yield self.read().record

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock. Raises ``StageError`` where another process sits on it, ``UsageError`` where none work."""
        handle = os.open(self.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            self._lock(handle)
            try:
                yield
            finally:
                fcntl.flock(handle, fcntl.LOCK_UN)  # by name: a child forked meanwhile has a copy of the handle
        finally:
            os.close(handle)

    def _lock(self, handle: int) -> None:
        end = time.monotonic() + PATIENCE_S
        while not self._locks(handle):
            if time.monotonic() > end:
                raise StageError(
                    f"{self.lock}: locked for {PATIENCE_S:g} s. A process that was suspended in the middle of a write "
                    f"has it (`fuser {self.lock}` names it): let it go on, or end it"
                )
            time.sleep(INTERVAL_S)

    def _locks(self, handle: int) -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            raise UsageError(
                f"{self.lock}: this disk gives no file locks ({error.strerror}); mount it with locks that hold "
                "between its nodes (NFS 4, Lustre with -o flock)"
            ) from error
        return True


if TYPE_CHECKING:
    from obstore import UpdateVersion


class BucketStore:
    """The record of one folder in a bucket."""

    def __init__(self, folder: Folder) -> None:
        self.objects = Objects(folder)

    def read(self) -> Seen[Any]:
        """What stands there now."""
        data, version = self.objects.get(RECORD)
        return Seen(parse(data or b"", f"{self.objects.uri}: {RECORD}"), version)

    def swap(self, before: "UpdateVersion | None", record: Record) -> Seen[Any] | None:
        """Put ``record`` there if the object is still the one marked ``before``; None where it is not."""
        version = self.objects.put(RECORD, orjson.dumps(record.to_json()), before)
        return None if version is None else Seen(record, version)

    @contextmanager
    def committing(self) -> Iterator[Record | None]:
        """The record as it is now. A store has no locks: a take-over can still come before the put that follows."""
        yield self.read().record
