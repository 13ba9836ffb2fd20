"""What a watch has seen and done: JSON lines in ``WORKSPACE/watch/journal.jsonl``, only ever added to.

A line is in the storage before its event counts. What a kill leaves of a line was never reported, and is dropped by the
next writer. Several processes may write (``--pause`` beside a running watch), one after the other.
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import orjson

from rewarm.pipeline.escaping import message
from rewarm.pipeline.lineage.lease import hold, look
from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.local_files import create_private, keep_private, sync
from rewarm.stages.core.object_store import Objects
from rewarm.stages.core.patience import patiently
from rewarm.stages.core.storage import Folder

FOLDER = "watch"  # of the workspace
JOURNAL = "journal.jsonl"
GLANCE = 5.0  # seconds between two looks at a bucket for what others have written


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


class Lines(Protocol):
    """A file of lines that several processes add to."""

    place: str

    def append(self, line: Callable[[int], bytes]) -> None:
        """Add the line that ``line`` makes, given how many there are; what a kill left of one goes first."""

    def read(self, offset: int) -> bytes:
        """What follows the first ``offset`` bytes."""

    def size(self) -> int:
        """Bytes, 0 where nothing was written."""


class Journal:
    """The journal's file; ``read`` gives what is new in it, whoever wrote it."""

    def __init__(self, folder: Folder) -> None:
        self.lines: Lines = LocalLines(folder.path / JOURNAL) if folder.is_local else StoredLines(folder)
        self._offset, self._seq, self._size = 0, 0, 0

    def append(self, draft: Draft, now: datetime) -> None:
        """Write an event down, after those that others wrote meanwhile; the next ``read`` gives it."""

        details = dict(draft.details)
        if "because" in details:  # words of others: a store's answer, a command's last lines
            details["because"] = message(str(details["because"]))

        def line(before: int) -> bytes:
            event = Event(before + 1, stamp(now), draft.kind, draft.path, details)
            return orjson.dumps(asdict(event), option=orjson.OPT_APPEND_NEWLINE)

        self.lines.append(line)

    def read(self) -> list[Event]:
        """The events since the last call. Raises ``UsageError`` for a line that is none, with its number."""
        data = self.lines.read(self._offset)
        whole = data[: data.rfind(b"\n") + 1]
        events = []
        for line in whole.splitlines():
            try:
                events.append(Event(**orjson.loads(line)))
            except (orjson.JSONDecodeError, TypeError) as error:
                raise UsageError(
                    f"{self.lines.place}, line {self._seq + len(events) + 1}: not an event of a watch ({error}). Mend "
                    "the line, or move the file away: what was taken in is known from the updates, what is held is not"
                ) from error
        self._size = self._offset + len(data)
        self._offset += len(whole)
        self._seq += len(events)
        return events

    def grown(self) -> bool:
        """Whether something was written that was not read."""
        return self.lines.size() not in (0, self._size)


class LocalLines:
    """On a disk: appended to under a lock."""

    def __init__(self, file: Path) -> None:
        self.file, self.place = file, str(file)

    def append(self, line: Callable[[int], bytes]) -> None:
        """Add a line; it is on the disk when this returns. One that a first try has left there is not added again."""
        written = b""

        def append() -> None:
            nonlocal written
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with open(self.file, "a+b", opener=create_private) as stream, locked(stream):
                keep_private(self.file)
                whole = drop_torn(stream)
                if written and take_back(stream, written):  # a first try wrote it, and may not have reached the disk
                    stream.write(written)
                elif not (written and holds(stream, written)):
                    written = line(count_lines(stream))
                    stream.write(written)
                stream.flush()
                os.fsync(stream.fileno())
            if whole == 0:
                sync(self.file.parent)

        patiently(append, self.place)

    def read(self, offset: int) -> bytes:
        """What follows."""

        def read() -> bytes:
            if not self.file.exists():
                return b""
            with self.file.open("rb") as stream:
                stream.seek(offset)
                return stream.read()

        return patiently(read, self.place)

    def size(self) -> int:
        """Bytes."""
        return patiently(lambda: self.file.stat().st_size if self.file.exists() else 0, self.place)


class StoredLines:
    """In a bucket: one object that is put anew with each line, if nobody else has meanwhile."""

    def __init__(self, folder: Folder) -> None:
        self.objects, self.place = Objects(folder), str(folder)
        self._seen, self._looked = 0, -GLANCE

    def append(self, line: Callable[[int], bytes]) -> None:
        """Add a line, after those of others.

        A put whose answer was lost may have been followed by another's: then ours is the beginning of what is there.
        """
        mine = b""
        while True:
            found, mark = self.objects.get(JOURNAL)
            before = found or b""
            if mine and before.startswith(mine):
                return
            mine = before + line(before.count(b"\n"))
            if self.objects.put(JOURNAL, mine, mark) is not None:
                return

    def read(self, offset: int) -> bytes:
        """What follows."""
        return (self.objects.get(JOURNAL)[0] or b"")[offset:]

    def size(self) -> int:
        """Bytes, as they were within the last seconds: a request is paid for, and this is asked all the time."""
        if time.monotonic() - self._looked >= GLANCE:
            self._seen, self._looked = self.objects.size(JOURNAL), time.monotonic()
        return self._seen


@contextmanager
def locked(stream: BinaryIO) -> Iterator[None]:
    """Hold a file's lock, waiting for it."""
    fcntl.flock(stream, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(stream, fcntl.LOCK_UN)


@contextmanager
def only_watch(folder: Folder) -> Iterator[None]:
    """Be the only watch of a workspace; ``BusyError`` where there is one. Another machine's is known by its lease."""
    with hold(folder):
        yield


def is_watched(folder: Folder) -> bool:
    """Whether a watch runs, as far as its lease tells."""
    found = look(folder)
    return found is not None and found["expires_in_s"] > 0


def drop_torn(stream: BinaryIO) -> int:
    """Cut off what follows the last whole line; the size that is left."""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    whole = stream.read().rfind(b"\n") + 1
    if whole < size:
        stream.truncate(whole)
    return whole


def take_back(stream: BinaryIO, line: bytes) -> bool:
    """Cut a line off the end of a file; whether it was there."""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - len(line)))
    if stream.read() != line:
        return False
    stream.truncate(size - len(line))
    return True


def holds(stream: BinaryIO, line: bytes) -> bool:
    """Whether one of a file's lines is this one."""
    stream.seek(0)
    return line in stream.readlines()


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
