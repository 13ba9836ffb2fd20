"""Append-only journal of a watch: one event per JSON line of ``WORKSPACE/watch/journal.jsonl``.

A line is stored before its event takes effect. Several processes can write, one at a time (``--pause`` during a running
watch). In a bucket, a long journal continues in ``journal-000001.jsonl`` and so on (``pipeline.watch.lines``).
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson

from rewarm.pipeline.escaping import message
from rewarm.pipeline.lineage.lease import find_holder, hold, last_seen
from rewarm.pipeline.watch.cron import CLOCK
from rewarm.pipeline.watch.lines import JOURNAL, Lines, LocalLines, StoredLines
from rewarm.stages.core.errors import DamagedError
from rewarm.stages.core.shapes import understood
from rewarm.stages.core.storage import Folder

FOLDER = "watch"  # in the workspace
MODE = "mode.json"  # whether the last watch was to run for one tick only
MEND = "Fix the line, or move the file away: finished updates are known from the lineage, holds are lost"


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


def event_of(line: bytes) -> Event:
    """Parse a line of a journal; raises ``ValueError`` or ``TypeError`` if it is not an event."""
    event = Event(**orjson.loads(line))
    texts = (event.at, event.kind, event.path)
    if (
        type(event.seq) is not int
        or not isinstance(event.details, dict)
        or not all(isinstance(one, str) for one in texts)
    ):
        raise TypeError("a field has another type")
    read_stamp(event.at)
    return event


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
        """Return the events since the last call. Raises ``DamagedError`` with the number of an invalid line."""
        data = self.lines.read(self._offset)
        whole = data[: data.rfind(b"\n") + 1]
        events = []
        for line in whole.splitlines():
            try:
                events.append(event_of(line))
            except (ValueError, TypeError) as error:
                raise DamagedError(
                    f"{self.lines.place}, line {self._seq + len(events) + 1}: not an event of a watch ({error}). {MEND}"
                ) from error
        self._size = self._offset + len(data)
        self._offset += len(whole)
        self._seq += len(events)
        return events

    def grown(self) -> bool:
        """Return whether there are events that were not read."""
        return self.lines.size() not in (0, self._size)


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
    with understood(f"{folder}/{MODE}"):
        once = folder.exists(MODE) and folder.read_json(MODE)["once"]
    return not once and is_watched(folder)


def handled_tick(folder: Folder) -> datetime | None:
    """Return the last tick that a watch handled; None if it has handled none."""
    with understood(f"{folder}/{CLOCK}"):
        return read_stamp(folder.read_json(CLOCK)["handled"]) if folder.exists(CLOCK) else None


def last_watched(folder: Folder) -> datetime | None:
    """Return when a watch was last known to run, by its lease; None if there was none."""
    seen = last_seen(folder)
    return None if seen is None else read_stamp(seen)


def stamp(time: datetime) -> str:
    """Format a time for the journal."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds")


def read_stamp(text: str) -> datetime:
    """Parse a time of the journal."""
    return datetime.fromisoformat(text)
