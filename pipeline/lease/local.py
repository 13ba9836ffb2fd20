"""A lease's record as a file: on a local disk, or a shared one whose locks work between its nodes (NFS, Lustre).

``.lease`` is replaced by rename, under a lock (``.lease.lock``) that is held for milliseconds and dies with its
process. A commit takes the same lock from its look at the record to its rename: no take-over comes between the two.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import orjson

from pipeline.lease.protocol import Record
from pipeline.lease.store import RECORD, Seen, parse
from stages.disk import create_private, keep_private, sync
from stages.errors import StageError, UsageError
from stages.patience import patiently
from stages.storage import Folder

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
