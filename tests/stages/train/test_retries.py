"""Failures are counted from the last new checkpoint: real kills of training workers, with progress and without."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest
from small_lineage import started_by, words
from training_world import World

from rewarm.stages import train
from rewarm.stages.core.errors import StageError
from rewarm.stages.core.progress import Silent
from rewarm.stages.train import Job
from rewarm.stages.train.checkpoints import saved_step

pytestmark = pytest.mark.usefixtures("ray_cluster")

STEPS, LIMIT = 120, 1


class Notes(Silent):
    def __init__(self) -> None:
        self.notes = list[str]()

    def note(self, text: str) -> None:
        self.notes.append(text)


def workers() -> list[psutil.Process]:
    return [one for one in started_by(psutil.Process()) if "RayTrainWorker" in " ".join(words(one))]


@contextmanager
def killing(job: Job, times: int, new_checkpoint: bool) -> Iterator[list[int]]:
    """Kill a worker ``times`` times: when a checkpoint was saved since the last kill, or as soon as a group trains."""
    stop, killed = threading.Event(), list[int]()
    attempts = job.checkpoints / f"{job.name}-attempts"

    def work() -> None:
        while len(killed) < times and not stop.wait(0.05):
            step = saved_step(job.checkpoints / job.name)
            training = len(attempts.files(".json")) > len(killed)
            if training and (not new_checkpoint or step > max(killed, default=0)) and (alive := workers()):
                killed.append(step)
                os.kill(alive[-1].pid, signal.SIGKILL)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield killed
    finally:
        stop.set()
        thread.join()


@pytest.mark.faults
def test_more_kills_than_the_limit_are_survived_if_each_attempt_saved_a_checkpoint(world: World) -> None:
    job = world.job("progress", steps=STEPS, checkpoint_every=5, validate_every=0, max_failures=LIMIT)
    progress = Notes()
    with killing(job, LIMIT + 2, new_checkpoint=True) as killed:
        outcome = train.run(job, progress)
    assert len(killed) == LIMIT + 2
    assert killed == sorted(set(killed)), "a new checkpoint before each kill"
    assert len(outcome.resumed_from) == LIMIT + 2
    assert outcome.steps == STEPS
    assert len([note for note in progress.notes if "(failure 1 of at most 2 without a new checkpoint)" in note]) == 3


def test_as_many_kills_without_a_checkpoint_end_the_run_with_the_reason(world: World) -> None:
    job = world.job("standstill", steps=5000, checkpoint_every=5000, validate_every=0, max_failures=LIMIT)
    progress = Notes()
    with (
        killing(job, LIMIT + 2, new_checkpoint=False) as killed,
        pytest.raises(StageError, match=r"worker \d failed .* Failures since the last new checkpoint \(step 0\): 2"),
    ):
        train.run(job, progress)
    assert len(killed) == LIMIT + 1
    assert any("restarting from step 0 (failure 1 of at most 2" in note for note in progress.notes)
