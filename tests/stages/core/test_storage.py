"""What a folder asks its guard, and what is left when the guard says no."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from rewarm.stages.core.errors import StageError
from rewarm.stages.core.local_files import REMOVED, remove
from rewarm.stages.core.storage import Folder


class Recorder:
    """A guard that notes what it is asked, and refuses the commits from some point on."""

    def __init__(self, root: Path) -> None:
        self.root, self.asked, self.open = root, [], True
        self.seen: list[list[str]] = []

    def check(self) -> None:
        self.asked.append("check")

    @contextmanager
    def committing(self) -> Iterator[None]:
        self.asked.append("commit")
        if not self.open:
            raise StageError("refused")
        self.seen.append(self.names())
        yield
        self.seen.append(self.names())

    def names(self) -> list[str]:
        """What has a name in the folder."""
        return sorted(path.name for path in self.root.iterdir() if not path.name.startswith("."))


@pytest.fixture
def guard(tmp_path: Path) -> Recorder:
    return Recorder(tmp_path)


@pytest.fixture
def folder(tmp_path: Path, guard: Recorder) -> Folder:
    return Folder(tmp_path.parent).guarded(guard) / tmp_path.name


def test_a_file_gets_its_name_while_the_guard_holds_the_door(folder: Folder, guard: Recorder) -> None:
    folder.write("a", b"1")
    assert guard.asked == ["check", "commit"]
    assert guard.seen == [[], ["a"]]


def test_a_folder_is_replaced_whole(folder: Folder, guard: Recorder) -> None:
    for content in (b"1", b"2"):
        with folder.writing("part") as scratch:
            scratch.mkdir()
            (scratch / content.decode()).write_bytes(content)
    assert (folder / "part").files() == ["2"]
    assert guard.seen == [[], ["part"], ["part"], ["part"]]
    assert not list(folder.path.glob(".*")), "something was left beside it"


def test_a_folder_is_gone_in_one_step_before_its_files_are_deleted(folder: Folder, guard: Recorder) -> None:
    (folder / "part" / "inner").write("a", b"1")
    guard.seen.clear()
    folder.delete("part")
    assert guard.seen == [["part"], []]
    assert not list(folder.path.iterdir())


def test_files_links_and_what_is_not_there_are_deleted_too(folder: Folder) -> None:
    (folder / "part").write("a", b"1")
    (folder.path / "link").symlink_to(folder.path / "part")
    folder.delete("link")
    (folder / "part").delete("b")
    folder.delete("nothing")
    assert (folder / "part").read("a") == b"1"
    (folder / "part").delete("a")
    (folder / "part").delete()
    assert not list(folder.path.iterdir())


def test_what_the_guard_refuses_changes_nothing(folder: Folder, guard: Recorder) -> None:
    folder.write("file", b"1")
    (folder / "part").write("a", b"1")
    (folder / "other").write("b", b"1")
    guard.open = False
    refused = (
        lambda: folder.write("file", b"2"),
        lambda: folder.write("new", b"2"),
        lambda: folder.delete("file"),
        lambda: folder.delete("part"),
        lambda: folder.take(folder / "other", "part"),
    )
    for late in refused:
        with pytest.raises(StageError, match="refused"):
            late()
    assert sorted(path.name for path in folder.path.iterdir()) == ["file", "other", "part"]
    assert folder.read("file") == b"1"
    assert (folder / "part").files() == ["a"]


def test_without_a_guard_nobody_is_asked(folder: Folder, guard: Recorder) -> None:
    plain = folder.guarded(None)
    assert plain == folder
    plain.write("file", b"1")
    (plain / "part").write("a", b"1")
    plain.take(plain / "part", "moved")
    plain.delete("moved")
    assert plain.files() == ["file"]
    assert guard.asked == []


def test_what_killed_writers_left_is_swept(folder: Folder) -> None:
    (folder.path / ".a.0.tmp").write_bytes(b"torn")
    (folder.path / f".part.0{REMOVED}").mkdir()
    folder.write("a", b"1")
    folder.sweep()
    assert [path.name for path in folder.path.iterdir()] == ["a"]


def test_a_folder_is_removed_while_a_writer_renames_and_adds_files(tmp_path: Path) -> None:
    folder = tmp_path / "staging"

    def write() -> None:
        for number in range(300):
            with suppress(OSError):  # the folder is gone
                scratch = folder / f".{number}.tmp"
                scratch.write_bytes(b"x")
                scratch.rename(folder / str(number % 50))

    for _ in range(20):
        folder.mkdir()
        writer = threading.Thread(target=write)
        writer.start()
        remove(folder)
        writer.join()
        assert not folder.exists()
