"""Where a figure is not a number: the step, the documents that it read, and what the same command says afterwards."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from training_world import SEQ_LEN, World

from rewarm.stages.core.errors import StageError
from rewarm.stages.core.progress import Silent
from rewarm.stages.data.tokens import TokenStream
from rewarm.stages.train import Group, run
from rewarm.stages.train.checkpoints import Saved, write_progress
from rewarm.stages.train.job import Log
from rewarm.stages.train.not_finite import NotFinite, documents_of, is_finite, last_good, stop_at, write_stop


def test_the_documents_are_those_whose_tokens_the_step_reads(world: World) -> None:
    job = world.job("documents")
    stream = TokenStream(world.train)
    ends, _ = stream.document_spans()
    ids = stream.document_ids()
    assert stream.ids_of(range(len(ids))) == ids
    owner = np.repeat(ids, np.diff(ends, prepend=0))
    for step in (0, 3):
        read: set[str] = set()
        for start in job.mixture.batch(step)[1]:
            read.update(owner[start : start + SEQ_LEN + 1])
        found = documents_of(job, step)
        assert set(found) == {"text"}
        assert set(found["text"]) == read


def test_a_figure_that_is_not_computed_does_not_count() -> None:
    assert [is_finite(value) for value in (1.0, None, math.nan, math.inf, -math.inf)] == [True, True] + 3 * [False]


def test_rank_0_says_what_was_read_and_what_is_kept(world: World) -> None:
    from rewarm.stages.train.engine import Place

    job = world.job("stopped")
    write_progress(job.checkpoints / "train" / "checkpoint_2", Saved(8, 2, "", {}, Log()))
    (job.checkpoints / "train" / "checkpoint_3").write("progress.json", b"torn")
    assert last_good(job) == 8
    found = NotFinite(9, "the loss", "nan", 1e-3)
    said = NotFinite(**stop_at(job, Place(0, 2, 0, torch.device("cpu")), found))
    assert said == dataclasses.replace(found, documents=documents_of(job, 8), checkpoint=8)
    assert stop_at(job, Place(1, 2, 1, torch.device("cpu")), found) == {}


def test_the_same_command_says_what_to_do_instead_of_training(world: World) -> None:
    job = world.job("again")
    write_stop(job, NotFinite(9, "the loss", "nan", 1e-3, {"text": ["a" * 32, "b" * 32]}, 8))
    with pytest.raises(StageError, match=r"step 9 of 12: the loss is nan at a learning rate of 0\.001") as raised:
        run(job, Group(Silent()))
    said = str(raised.value)
    for part in ("2 documents", "a" * 32, "checkpoint of step 8 is kept", "rewarm discard", "train-stopped.json"):
        assert part in said
