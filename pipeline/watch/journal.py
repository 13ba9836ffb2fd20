"""What a watch has seen and done: JSON lines in ``WORKSPACE/watch/journal.jsonl``, only ever added to.

A line is on the disk before its event counts. What a kill leaves of a line was never reported, and is dropped by the
next writer. Several processes may write (``--pause`` beside a running watch): each holds the file's lock meanwhile.
"""

import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from stages.errors import UsageError
from stages.storage import sync

FOLDER = "watch"  # of the workspace
JOURNAL = "journal.jsonl"
LOCK = ".lock"


@dataclass(frozen=True)
class Draft:
    """Something that happened, before it is written down."""

    kind: str
    path: str = ""  # of the arrival; empty where it is about the watch
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Event:
    """Something that happened, as the journal keeps it."""

    seq: int  # counts from 1
    at: str  # ISO 8601, UTC, milliseconds
    kind: str
    path: str
    details: Mapping[str, Any]


class Journal:
    """The journal's file; ``read`` gives what is new in it, whoever wrote it."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / JOURNAL
        self._offset, self._seq, self._size = 0, 0, 0

    def append(self, draft: Draft, now: datetime) -> None:
        """Write an event down, after those that others wrote meanwhile; the next ``read`` gives it."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("a+b") as stream, locked(stream):
            whole = drop_torn(stream)
            event = Event(count_lines(stream) + 1, stamp(now), draft.kind, draft.path, draft.details)
            stream.write(orjson.dumps(asdict(event), option=orjson.OPT_APPEND_NEWLINE))
            stream.flush()
            os.fsync(stream.fileno())
        if whole == 0:
            sync(self.file.parent)

    def read(self) -> list[Event]:
        """The events since the last call. Raises ``UsageError`` for a line that is none, with its number."""
        if not self.file.exists():
            return []
        with self.file.open("rb") as stream:
            stream.seek(self._offset)
            data = stream.read()
        whole = data[: data.rfind(b"\n") + 1]
        events = []
        for line in whole.splitlines():
            try:
                events.append(Event(**orjson.loads(line)))
            except (orjson.JSONDecodeError, TypeError) as error:
                raise UsageError(
                    f"{self.file}, line {self._seq + len(events) + 1}: not an event of a watch ({error}). Mend the "
                    "line, or move the file away: what was taken in is known from the updates, what is held is not"
                ) from error
        self._size = self._offset + len(data)
        self._offset += len(whole)
        self._seq += len(events)
        return events

    def grown(self) -> bool:
        """Whether something was written that was not read."""
        return self.file.exists() and self.file.stat().st_size != self._size


@contextmanager
def locked(stream: BinaryIO) -> Iterator[None]:
    """Hold a file's lock, waiting for it."""
    fcntl.flock(stream, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(stream, fcntl.LOCK_UN)


@contextmanager
def only_watch(folder: Path) -> Iterator[None]:
    """Be the only watch of a workspace; ``UsageError`` where there is one. The lock dies with its process."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("a") as handle:
        for _ in range(20):  # ``is_watched`` has the lock for a moment
            if take_lock(handle.fileno()):
                break
            time.sleep(0.05)
        else:
            raise UsageError(f"{folder.parent}: is being watched already, by another process")
        yield


def is_watched(folder: Path) -> bool:
    """Whether a watch runs."""
    if not (folder / LOCK).exists():
        return False
    with (folder / LOCK).open("a") as handle:
        return not take_lock(handle.fileno())


def take_lock(handle: int) -> bool:
    """Try to get a file's lock, which lasts until it is closed."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def drop_torn(stream: BinaryIO) -> int:
    """Cut off what follows the last whole line; the size that is left."""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    whole = stream.read().rfind(b"\n") + 1
    if whole < size:
        stream.truncate(whole)
    return whole


def count_lines(stream: BinaryIO) -> int:
    """Lines of a file."""
    stream.seek(0)
    return sum(block.count(b"\n") for block in iter(lambda: stream.read(2**20), b""))


def stamp(time: datetime) -> str:
    """A time as the journal writes it."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds")


def read_stamp(text: str) -> datetime:
    """A time of the journal."""
    return datetime.fromisoformat(text)
