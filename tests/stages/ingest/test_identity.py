"""The identity of an arrival's files: read once, and again only where size, times or inode differ."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rewarm.stages.core.progress import Silent
from rewarm.stages.ingest import IngestSettings, InputFile, digest_inputs, find_inputs, identify
from rewarm.stages.ingest.identity import SETTLED_S, settled

HOUR = 3600


class Reading(Silent):
    """Counts the bytes that are read, and keeps notes."""

    def __init__(self) -> None:
        self.read = 0.0
        self.notes = list[str]()

    def advance(self, by: float = 1, **figures: float) -> None:
        self.read += by

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[InputFile]:
    """Two files that were written long ago: the clock that decides it is an hour ahead."""
    for name in ("a", "b"):
        (tmp_path / f"{name}.jsonl").write_text('{"text": "%s"}\n' % (name * 100))
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + HOUR * 10**9)
    return find_inputs([str(tmp_path)], IngestSettings())


def size(files: list[InputFile]) -> int:
    return sum(file.size for file in files)


def test_files_are_read_once(files: list[InputFile]) -> None:
    first, again = Reading(), Reading()
    digest, read = identify(files, {}, first)
    assert (first.read, first.notes) == (size(files), [])
    assert identify(files, read, again) == (digest, read)
    assert again.read == 0
    assert again.notes == [
        "not read again: 2 of 2 files (226 B) have the size, times and inode with which they were identified before"
    ]
    assert digest == digest_inputs(files)


def rewrite(file: Path, times: os.stat_result) -> None:
    """Other contents of the same length, in place, with the old time of change."""
    file.write_text(file.read_text().replace("a", "c"))
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


def replace(file: Path, times: os.stat_result) -> None:
    """Another file of the same length and time under its name, as rsync leaves it."""
    other = file.with_suffix(".new")
    other.write_text(file.read_text().replace("a", "c"))
    os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
    other.replace(file)


def append(file: Path, times: os.stat_result) -> None:
    file.write_text(file.read_text() + '{"text": "more"}\n')


def touch(file: Path, times: os.stat_result) -> None:
    os.utime(file, (1, 1))


@pytest.mark.parametrize("change", [rewrite, replace, append, touch])
def test_a_changed_file_is_read_and_no_other(
    files: list[InputFile], tmp_path: Path, change: Callable[[Path, os.stat_result], None]
) -> None:
    digest, read = identify(files, {}, Silent())
    changed = tmp_path / "a.jsonl"
    change(changed, changed.stat())
    progress = Reading()
    files = find_inputs([str(tmp_path)], IngestSettings())
    found, _ = identify(files, read, progress)
    assert progress.read == files[0].size
    assert "1 of 2 files" in progress.notes[0]
    assert (found == digest) == (change is touch)
    assert found == digest_inputs(files)


def test_a_file_that_has_just_been_written_is_not_remembered(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n')
    files = find_inputs([str(tmp_path)], IngestSettings())
    assert identify(files, {}, Silent())[1] == {}
    now = 10**18
    assert settled(f"5 {now} {now} 7", now + int(SETTLED_S * 1e9))
    assert not settled(f"5 {now - 10**12} {now} 7", now + int(SETTLED_S * 1e9) - 1), "its inode changed"
    assert not settled(f"5 1 1 7 5 {now} 1 8", now), "the index beside it changed"


def test_a_renamed_file_is_another(files: list[InputFile], tmp_path: Path) -> None:
    digest, read = identify(files, {}, Silent())
    (tmp_path / "a.jsonl").rename(tmp_path / "c.jsonl")
    files = find_inputs([str(tmp_path)], IngestSettings())
    assert identify(files, read, Silent())[0] == digest_inputs(files) != digest


def test_an_index_is_part_of_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 2**62)
    (tmp_path / "a.bin").write_bytes(b"1" * 8)
    (tmp_path / "a.idx").write_bytes(b"2" * 8)
    file = InputFile(str(tmp_path / "a.bin"), "a.bin", 8, "megatron", "")
    digest, read = identify([file], {}, Silent())
    assert identify([file], read, Silent())[0] == digest
    (tmp_path / "a.idx").write_bytes(b"3" * 8)
    assert identify([file], read, Silent())[0] != digest
