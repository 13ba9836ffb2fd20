"""Copies of remote files: made once, and gone when nobody has asked for them for long."""

import os
import time
from pathlib import Path

import pytest

from rewarm.stages.core.local_files import UNUSED_DAYS, kept_copy


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("REWARM_CACHE", str(tmp_path))
    return tmp_path / "files"


def make(text: str) -> None:
    raise AssertionError(f"{text} was made again")


def write(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("copy")


def write_folder(path: Path) -> None:
    write(path / "inner" / "file")


def age(path: Path, days: float) -> None:
    os.utime(path, times=(time.time() - days * 86400,) * 2)


def test_a_copy_is_made_once(root: Path) -> None:
    assert kept_copy("a", write).read_text() == "copy"
    kept_copy("a", lambda path: make("a"))
    assert [path.name for path in root.iterdir()] == ["a"]


def test_what_nobody_asked_for_goes_when_another_is_made(root: Path) -> None:
    for name in ("old", "used", "young"):
        kept_copy(name, write_folder)
    write_folder(root / ".killed.1")
    for name in ("old", "used", ".killed.1"):
        age(root / name, UNUSED_DAYS + 1)
    age(root / "young", UNUSED_DAYS - 1)
    kept_copy("used", lambda path: make("used"))
    kept_copy("new", write)
    assert {path.name for path in root.iterdir()} == {"used", "young", "new"}


def test_a_copy_that_fails_leaves_nothing(root: Path) -> None:
    def broken(path: Path) -> None:
        write(path)
        path.rename(path.with_name("elsewhere"))

    with pytest.raises(FileNotFoundError):
        kept_copy("a", broken)
    assert not (root / "a").exists()
