"""The journal on a real disk: order, torn lines, several writers, one watch."""

import subprocess
import sys
from pathlib import Path

import pytest
from watch_world import START, after

from rewarm.pipeline.watch.journal import Draft, Journal, is_watched, only_watch
from rewarm.stages.core.errors import BusyError, DamagedError
from rewarm.stages.core.storage import Folder


def file(folder: Path) -> Path:
    return folder / "journal.jsonl"


def kinds(folder: Path) -> list[tuple[int, str]]:
    return [(event.seq, event.kind) for event in Journal(Folder(folder)).read()]


def test_events_come_back_in_order_and_only_once(tmp_path: Path) -> None:
    journal = Journal(Folder(tmp_path / "watch"))
    assert journal.read() == []
    journal.append(Draft("seen", "/in/a", {"files": 2}), START)
    journal.append(Draft("paused"), after(0.0015))
    first, second = journal.read()
    assert (first.seq, first.kind, first.path, first.details) == (1, "seen", "/in/a", {"files": 2})
    assert (second.seq, second.at) == (2, "2026-11-21T12:00:00.001+00:00")
    assert journal.read() == []
    assert not journal.grown()


@pytest.mark.parametrize("torn", [b"{", b'{"seq":2,"at":"2026', b'{"seq":2,"at":"","kind":"x","path":"","details":{}}'])
def test_a_torn_line_is_not_read_and_is_replaced(tmp_path: Path, torn: bytes) -> None:
    journal = Journal(Folder(tmp_path))
    journal.append(Draft("one"), START)
    with file(tmp_path).open("ab") as stream:
        stream.write(torn)
    assert journal.grown()
    journal.read()
    assert not journal.grown(), "nobody waits for the rest of it"
    assert kinds(tmp_path) == [(1, "one")]
    journal.append(Draft("two"), START)
    assert kinds(tmp_path) == [(1, "one"), (2, "two")]


def test_a_broken_line_within_is_named(tmp_path: Path) -> None:
    journal = Journal(Folder(tmp_path))
    journal.append(Draft("one"), START)
    with file(tmp_path).open("ab") as stream:
        stream.write(b"rubbish\n")
    with pytest.raises(DamagedError, match="line 2: not an event"):
        Journal(Folder(tmp_path)).read()


def test_what_others_write_is_seen_and_numbered_on(tmp_path: Path) -> None:
    mine, other = Journal(Folder(tmp_path)), Journal(Folder(tmp_path))
    mine.append(Draft("one"), START)
    mine.read()
    other.append(Draft("two"), START)
    assert mine.grown()
    mine.append(Draft("three"), START)
    assert [(event.seq, event.kind) for event in mine.read()] == [(2, "two"), (3, "three")]


def test_many_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    script = (
        "import sys; from datetime import datetime, UTC\n"
        "from rewarm.pipeline.watch.journal import Draft, Journal; from rewarm.stages.core.storage import Folder\n"
        "for number in range(8):\n"
        "    Journal(Folder(sys.argv[1])).append(Draft(f'{sys.argv[2]}-{number}'), datetime.now(UTC))"
    )
    writers = [subprocess.Popen([sys.executable, "-c", script, str(tmp_path), str(one)]) for one in range(3)]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    found = kinds(tmp_path)
    assert [seq for seq, _ in found] == list(range(1, 25))
    assert len({kind for _, kind in found}) == 24


def test_there_is_one_watch_at_a_time(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "watch")
    assert not is_watched(folder)
    with only_watch(folder):
        assert is_watched(folder)
        with pytest.raises(BusyError, match="another rewarm command"), only_watch(folder):
            pass
    assert not is_watched(folder)
