"""A pool of actors for several steps: the same processes, each step's own conditions, also after a kill."""

import os
import signal
from pathlib import Path

import pytest

from rewarm.stages.core.errors import StageError
from rewarm.stages.core.progress import Silent
from rewarm.stages.inference.actors import Pool

pytestmark = pytest.mark.usefixtures("ray_cluster")


class Noting:
    """A worker that writes what it was made with, and its process, to the piece's file."""

    def __init__(self, conditions: str) -> None:
        self.conditions = conditions
        self.pieces = 0

    def work(self, piece: Path) -> None:
        if self.conditions == "fails":
            raise ValueError(piece.name)
        self.pieces += 1
        piece.write_text(f"{self.conditions} {self.pieces} {os.getpid()} {os.environ['MINE']}")


def worked(pool: Pool, folder: Path, conditions: str, count: int = 4) -> list[list[str]]:
    """The words that each piece of a step was left with."""
    pieces = [folder / f"{conditions}-{number}" for number in range(count)]
    pool.work_through(Noting, conditions, pieces, conditions, Silent())
    return [piece.read_text().split() for piece in pieces]


def test_steps_share_processes_and_each_has_its_own_worker(tmp_path: Path) -> None:
    with Pool(2, False, {"MINE": "yes"}) as pool:
        first, second = worked(pool, tmp_path, "first"), worked(pool, tmp_path, "second")
        assert {words[0] for words in first} == {"first"}
        assert {words[0] for words in second} == {"second"}
        processes = {words[2] for words in first + second}
        assert len(processes) <= 2
        assert {words[3] for words in first + second} == {"yes"}
        assert "1" in {words[1] for words in second}, "a new worker counts from the beginning"
        for process in processes:
            os.kill(int(process), signal.SIGKILL)
        third = worked(pool, tmp_path, "third")
        assert {words[0] for words in third} == {"third"}
        assert not processes & {words[2] for words in third}


def test_a_pool_starts_no_more_actors_than_pieces_and_grows(tmp_path: Path) -> None:
    with Pool(2, False, {"MINE": "yes"}) as pool:
        (alone,) = worked(pool, tmp_path, "alone", 1)
        more = worked(pool, tmp_path, "more", 2)
        assert alone[2] in {words[2] for words in more}


def test_a_piece_that_fails_ends_the_actors_and_the_next_step_has_new_ones(tmp_path: Path) -> None:
    with Pool(1, False, {"MINE": "yes"}) as pool:
        before = worked(pool, tmp_path, "before", 1)[0][2]
        with pytest.raises(StageError, match="fails-0 failed: ValueError"):
            worked(pool, tmp_path, "fails", 1)
        assert worked(pool, tmp_path, "after", 1)[0][2] != before
