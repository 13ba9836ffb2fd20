"""Append-only journal of a watch: one event per JSON line of ``WORKSPACE/watch/journal.jsonl``.

A line is stored before its event takes effect. A partial line left by a kill was never reported, and the next writer
removes it. Several processes can write, one at a time (``--pause`` during a running watch).
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
from rewarm.pipeline.lineage.lease import find_holder, hold, last_seen
from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.local_files import create_private, keep_private, sync
from rewarm.stages.core.object_store import Objects
from rewarm.stages.core.patience import patiently
from rewarm.stages.core.storage import Folder

FOLDER = "watch"  # in the workspace
JOURNAL = "journal.jsonl"
MODE = "mode.json"  # whether the last watch was to run for one tick only
BLOCK = 1 << 16  # bytes at the end of a journal in which its last line is looked for
GLANCE = 5.0  # seconds between two checks of a bucket for events of other processes


@dataclass(frozen=True)
class Draft:
    """An event that is not written yet."""

    kind: str
    path: str = ""  # path of the arrival; empty if the event concerns the watch
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Event:
    """An event of the journal."""

    seq: int  # counts from 1
    at: str  # ISO 8601, UTC, milliseconds
    kind: str
    path: str
    details: Mapping[str, Any]


class Lines(Protocol):
    """A file of lines that several processes append to."""

    place: str

    def append(self, line: Callable[[int], bytes]) -> None:
        """Append the line that ``line`` makes from the number of the last one; a partial line is removed first."""

    def read(self, offset: int) -> bytes:
        """Return the data after the first ``offset`` bytes."""

    def size(self) -> int:
        """Return the size in bytes; 0 if nothing was written."""


class Journal:
    """The journal; ``read`` returns its new events, whichever process wrote them."""

    def __init__(self, folder: Folder) -> None:
        self.lines: Lines = LocalLines(folder.path / JOURNAL) if folder.is_local else StoredLines(folder)
        self._offset, self._seq, self._size = 0, 0, 0

    def append(self, draft: Draft, now: datetime) -> None:
        """Append an event after those of other processes; the next ``read`` returns it."""

        details = dict(draft.details)
        if "because" in details:  # may contain foreign text: a store's answer, a command's last lines
            details["because"] = message(str(details["because"]))

        def line(before: int) -> bytes:
            event = Event(before + 1, stamp(now), draft.kind, draft.path, details)
            return orjson.dumps(asdict(event), option=orjson.OPT_APPEND_NEWLINE)

        self.lines.append(line)

    def read(self) -> list[Event]:
        """Return the events since the last call. Raises ``UsageError`` with the number of an invalid line."""
        data = self.lines.read(self._offset)
        whole = data[: data.rfind(b"\n") + 1]
        events = []
        for line in whole.splitlines():
            try:
                events.append(Event(**orjson.loads(line)))
            except (orjson.JSONDecodeError, TypeError) as error:
                raise UsageError(
                    f"{self.lines.place}, line {self._seq + len(events) + 1}: not an event of a watch ({error}). Fix "
                    "the line, or move the file away: finished updates are known from the lineage, holds are lost"
                ) from error
        self._size = self._offset + len(data)
        self._offset += len(whole)
        self._seq += len(events)
        return events

    def grown(self) -> bool:
        """Return whether there are events that were not read."""
        return self.lines.size() not in (0, self._size)


class LocalLines:
    """Lines in a local file, appended under a lock."""

    def __init__(self, file: Path) -> None:
        self.file, self.place = file, str(file)

    def append(self, line: Callable[[int], bytes]) -> None:
        """Append a line and sync it to disk; a line already written by a first try is not appended again."""
        written = b""

        def append() -> None:
            nonlocal written
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with open(self.file, "a+b", opener=create_private) as stream, locked(stream):
                keep_private(self.file)
                whole = drop_torn(stream)
                if written and take_back(stream, written):  # written by a first try, but perhaps not synced
                    stream.write(written)
                elif not (written and holds(stream, written)):
                    written = line(last_number(stream))
                    stream.write(written)
                stream.flush()
                os.fsync(stream.fileno())
            if whole == 0:
                sync(self.file.parent)

        patiently(append, self.place)

    def read(self, offset: int) -> bytes:
        """Return the data after ``offset`` bytes."""

        def read() -> bytes:
            if not self.file.exists():
                return b""
            with self.file.open("rb") as stream:
                stream.seek(offset)
                return stream.read()

        return patiently(read, self.place)

    def size(self) -> int:
        """Return the size in bytes."""
        return patiently(lambda: self.file.stat().st_size if self.file.exists() else 0, self.place)


class StoredLines:
    """Lines in an object of a bucket, which is rewritten with each line unless another process has changed it."""

    def __init__(self, folder: Folder) -> None:
        self.objects, self.place = Objects(folder), str(folder)
        self._seen, self._looked = 0, -GLANCE

    def append(self, line: Callable[[int], bytes]) -> None:
        """Append a line after those of other processes.

        A put whose answer was lost may have been followed by another process's: then the object starts with our data.
        """
        mine = b""
        while True:
            found, mark = self.objects.get(JOURNAL)
            before = found or b""
            if mine and before.startswith(mine):
                return
            mine = before + line(number_at_end(before))
            if self.objects.put(JOURNAL, mine, mark) is not None:
                return

    def read(self, offset: int) -> bytes:
        """Return the data after ``offset`` bytes; nothing is fetched if there is none."""
        if offset and self.objects.size(JOURNAL) <= offset:
            return b""
        return self.objects.get_from(JOURNAL, offset) if offset else self.objects.get(JOURNAL)[0] or b""

    def size(self) -> int:
        """Return the size in bytes, up to ``GLANCE`` seconds old: requests cost money, and this is called often."""
        if time.monotonic() - self._looked >= GLANCE:
            self._seen, self._looked = self.objects.size(JOURNAL), time.monotonic()
        return self._seen


@contextmanager
def locked(stream: BinaryIO) -> Iterator[None]:
    """Wait for a file's lock and hold it."""
    fcntl.flock(stream, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(stream, fcntl.LOCK_UN)


@contextmanager
def only_watch(folder: Folder, wait_s: float = 0.0, note: Callable[[str], None] | None = None) -> Iterator[None]:
    """Be the only watch of a workspace, by a lease; waits up to ``wait_s`` seconds for another, on any machine.

    Raises ``BusyError`` if another is still running then.
    """
    with hold(folder, wait_s=wait_s, note=note):
        yield


def is_watched(folder: Folder) -> bool:
    """Return whether a watch is running, judged by its lease."""
    found = find_holder(folder)
    return found is not None and found["expires_in_s"] > 0


def keeps_watching(folder: Folder) -> bool:
    """Return whether a watch is running that ends only when it is stopped; one with ``--once`` ends by itself."""
    once = folder.exists(MODE) and folder.read_json(MODE)["once"]
    return not once and is_watched(folder)


def last_watched(folder: Folder) -> datetime | None:
    """Return when a watch was last known to run, by its lease; None if there was none."""
    seen = last_seen(folder)
    return None if seen is None else read_stamp(seen)


def drop_torn(stream: BinaryIO) -> int:
    """Truncate a file after its last complete line; return the remaining size. Reads only the end of the file."""
    size = at = stream.seek(0, os.SEEK_END)
    while at:
        start = max(0, at - BLOCK)
        stream.seek(start)
        if (found := stream.read(at - start).rfind(b"\n")) >= 0:
            at = start + found + 1
            break
        at = start
    if at < size:
        stream.truncate(at)
    return at


def take_back(stream: BinaryIO, line: bytes) -> bool:
    """Remove a line from the end of a file; return whether it was there."""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - len(line)))
    if stream.read() != line:
        return False
    stream.truncate(size - len(line))
    return True


def holds(stream: BinaryIO, line: bytes) -> bool:
    """Return whether a file contains this line."""
    stream.seek(0)
    return line in stream.readlines()


def last_number(stream: BinaryIO) -> int:
    """Return the number of the last event of a file; reads the whole file only if its last line is not an event."""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - BLOCK))
    number = number_in(stream.read())
    if number is None:
        stream.seek(0)
        return sum(block.count(b"\n") for block in iter(lambda: stream.read(2**20), b""))
    return number


def number_at_end(data: bytes) -> int:
    """Return the number of the last event of a journal's contents, or of its lines if the last is not an event."""
    number = number_in(data[-BLOCK:])
    return data.count(b"\n") if number is None else number


def number_in(end: bytes) -> int | None:
    """Return the number of the event on the last line of a journal's end; None if it is not an event's whole line."""
    line = end.rstrip(b"\n").rpartition(b"\n")[2]
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    number = found.get("seq") if isinstance(found, dict) else None
    return number if isinstance(number, int) else None


def stamp(time: datetime) -> str:
    """Format a time for the journal."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds")


def read_stamp(text: str) -> datetime:
    """Parse a time of the journal."""
    return datetime.fromisoformat(text)
