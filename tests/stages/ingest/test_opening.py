"""Local files that are no more what they were when they were listed."""

import os
from pathlib import Path

import pytest
from ingest_files import as_input

from rewarm.stages.core.errors import StageError
from rewarm.stages.ingest.readers import read_piece
from rewarm.stages.ingest.settings import IngestSettings
from rewarm.stages.ingest.shards import Piece

LINE = b'{"text": "some words"}\n'
SETTINGS = IngestSettings()


def test_a_file_that_changes_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(LINE)
    file = as_input(path)
    path.write_bytes(LINE * 2)
    with pytest.raises(StageError, match=r"x.jsonl: changed after the data was listed \(it had 23 bytes, now 46\)"):
        list(read_piece(Piece(file), SETTINGS))
    path.write_bytes(LINE.replace(b"some", b"more"))
    os.utime(path, ns=(0, int(file.version) + 1))
    with pytest.raises(StageError, match="it was rewritten"):
        list(read_piece(Piece(file), SETTINGS))
    path.unlink()
    with pytest.raises(FileNotFoundError):
        list(read_piece(Piece(file), SETTINGS))


def test_a_file_that_changes_while_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(LINE * 3)
    records = read_piece(Piece(as_input(path)), SETTINGS)
    next(records)
    with path.open("ab") as stream:
        stream.write(LINE)
    with pytest.raises(StageError, match="changed after"):
        list(records)


def test_a_piece_can_be_read_again_after_a_failure(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(LINE)
    file = as_input(path)
    path.rename(tmp_path / "away")
    for _ in range(2):
        with pytest.raises(OSError, match="No such file"):
            list(read_piece(Piece(file), SETTINGS))
    (tmp_path / "away").rename(path)
    assert len(list(read_piece(Piece(file), SETTINGS))) == 1
