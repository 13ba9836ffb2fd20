"""Files of lines that several processes append to, one at a time: on a disk, and in a bucket.

A partial line left by a kill was never reported, and the next writer removes it.
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

import orjson

from rewarm.stages.core.local_files import create_private, keep_private, sync
from rewarm.stages.core.object_store import Objects
from rewarm.stages.core.patience import patiently
from rewarm.stages.core.storage import Folder

JOURNAL = "journal.jsonl"
BLOCK = 1 << 16  # bytes at the end of a file in which its last line is looked for
GLANCE = 5.0  # seconds between two checks of a bucket for lines of other processes
SEGMENT = 1 << 18  # bytes after which the next object begins: a line rewrites its object, and a reader gets all objects


class Lines(Protocol):
    """A file of lines that several processes append to."""

    place: str

    def append(self, line: Callable[[int], bytes]) -> None:
        """Append the line that ``line`` makes from the number of the last one; a partial line is removed first."""

    def read(self, offset: int) -> bytes:
        """Return the data after the first ``offset`` bytes."""

    def size(self) -> int:
        """Return the size in bytes; 0 if nothing was written."""


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
    """Lines in objects of a bucket: only the last object is rewritten, unless another process has changed it.

    An object of ``SEGMENT`` bytes or more is never written again, and the next one is only created after it, so all
    processes agree on which is the last.
    """

    def __init__(self, folder: Folder) -> None:
        self.objects, self.place = Objects(folder), str(folder)
        self._sealed: list[int] = []  # sizes of the objects that are complete
        self._seen, self._looked = 0, -GLANCE

    def append(self, line: Callable[[int], bytes]) -> None:
        """Append a line after those of other processes.

        A put whose answer was lost may have been followed by another process's: then the object starts with our data.
        """
        mine, number = b"", 0
        while True:
            found, mark = self.objects.get(self._last)
            before = found or b""
            if mine and before.startswith(mine):
                return
            if len(before) >= SEGMENT:
                number = number_at_end(before)
                self._sealed.append(len(before))
                mine = b""
                continue
            if not before and self._sealed and not number:
                number = self._number_before()
            mine = before + line(number_at_end(before) if before else number)
            if self.objects.put(self._last, mine, mark) is not None:
                return

    def read(self, offset: int) -> bytes:
        """Return the data after ``offset`` bytes; nothing is fetched if there is none."""
        data, start = b"", 0
        for number, size in enumerate(self._sealed):
            if offset < start + size:
                data += self.objects.get_from(name_of(number), max(0, offset - start))
            start += size
        while True:
            found = self._read_last(max(0, offset - start))
            data += found
            size = max(0, offset - start) + len(found)
            if size < SEGMENT:
                return data
            self._sealed.append(size)
            start += size

    def size(self) -> int:
        """Return the size in bytes, up to ``GLANCE`` seconds old: requests cost money, and this is called often."""
        if time.monotonic() - self._looked >= GLANCE:
            while (last := self.objects.size(self._last)) >= SEGMENT:
                self._sealed.append(last)
            self._seen, self._looked = sum(self._sealed) + last, time.monotonic()
        return self._seen

    @property
    def _last(self) -> str:
        return name_of(len(self._sealed))

    def _read_last(self, offset: int) -> bytes:
        if offset and self.objects.size(self._last) <= offset:
            return b""
        return self.objects.get_from(self._last, offset) if offset else self.objects.get(self._last)[0] or b""

    def _number_before(self) -> int:
        """Return the number of the last line of the object before the last."""
        return number_at_end(self.objects.get(name_of(len(self._sealed) - 1))[0] or b"")


def name_of(segment: int) -> str:
    """Return the name of an object of lines, from 0."""
    stem, _, suffix = JOURNAL.partition(".")
    return f"{stem}-{segment:06d}.{suffix}" if segment else JOURNAL


@contextmanager
def locked(stream: BinaryIO) -> Iterator[None]:
    """Wait for a file's lock and hold it."""
    fcntl.flock(stream, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(stream, fcntl.LOCK_UN)


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
