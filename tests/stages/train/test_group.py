"""One group of workers for several jobs: the same weights as a group for each, whatever is killed between them."""

import dataclasses
import os
import signal
import time
from collections.abc import Callable

import psutil
import pytest
from small_lineage import started_by, words
from training_world import World

from rewarm.stages import anneal, train
from rewarm.stages.core.progress import Silent
from rewarm.stages.core.storage import Folder
from rewarm.stages.train import Group, Job, TrainOutcome
from rewarm.stages.train.checkpoints import damages, names_of, read_progress

pytestmark = pytest.mark.usefixtures("ray_cluster")

SETTINGS = anneal.AnnealSettings(share=0.5)
MINIMUM = 2e-4


def trunk_job(world: World, out: str) -> Job:
    """A trunk at a constant rate, of which one checkpoint is kept."""
    job = world.job(out, steps=16, checkpoint_every=4, keep_checkpoints=1, validate_every=0)
    tokens = job.steps * job.mixture.tokens_per_step
    return dataclasses.replace(job, schedule=train.schedule_for(train.ScheduleSettings(peak=2e-3), 0, tokens, None))


def workers() -> list[int]:
    """The processes of training workers, ranks in no order."""
    mine = [child for child in started_by(psutil.Process()) if child.is_running()]
    return sorted(child.pid for child in mine if "RayTrainWorker" in " ".join(words(child)))


def trained(job: Job, group: Group, between: Callable[[], object] = lambda: None) -> tuple[TrainOutcome, str, str]:
    """Train a job and its branch with one group; the trunk's outcome, and the digests of trunk and release."""
    trunk = train.run(job, group)
    between()
    release = anneal.run(job, trunk, Folder(job.out.path.parent / "release"), SETTINGS, MINIMUM, group)
    assert release.branched
    return trunk, trunk.digest, release.digest


@pytest.fixture(scope="module")
def apart(world: World) -> tuple[str, str]:
    """The digests of trunk and release, each trained by workers of its own."""
    return trained(trunk_job(world, "apart"), Group(Silent()))[1:]


def test_one_group_trains_both_to_the_same_bits_and_keeps_the_trunks_checkpoint(
    world: World, apart: tuple[str, str]
) -> None:
    job, alive = trunk_job(world, "together"), list[list[int]]()
    with Group(Silent()) as group:
        trunk, *digests = trained(job, group, lambda: alive.append(workers()))
        alive.append(workers())
    assert tuple(digests) == apart
    assert len(alive[0]) == 2
    assert alive[0] == alive[1], "the trunk's workers trained the branch"
    assert not workers(), "they have released what they occupied"
    assert not damages(Folder(trunk.checkpoint)), "the branch has saved checkpoints of its own"
    assert [read_progress(job.checkpoints / job.name / name).step for name in names_of(job)] == [16]
    branch = dataclasses.replace(job, name="anneal")
    assert [read_progress(job.checkpoints / "anneal" / name).step for name in names_of(branch)] == [8]


class KilledAt(Silent):
    """Kills a worker when the branch has come to a step."""

    def __init__(self, tokens: int) -> None:
        self.left, self.label, self.killed = tokens, "", False

    def begin(self, label: str, total: float, unit: str) -> None:
        self.label = label

    def advance(self, by: float = 1, **figures: float) -> None:
        self.left -= int(by) if self.label == "anneal" else 0
        if self.left <= 0 and not self.killed:
            self.killed = True
            kill_worker()


def kill_worker() -> None:
    os.kill(workers()[-1], signal.SIGKILL)


@pytest.mark.faults
def test_a_worker_that_is_killed_between_the_jobs_or_in_the_second_changes_nothing(
    world: World, apart: tuple[str, str]
) -> None:
    with Group(Silent()) as group:
        assert trained(trunk_job(world, "killed between"), group, kill_worker)[1:] == apart
    killer = KilledAt(1)
    with Group(killer) as group:
        assert trained(trunk_job(world, "killed within"), group)[1:] == apart
    assert killer.killed


def test_a_group_that_is_left_in_the_middle_of_a_job_releases_its_workers(world: World) -> None:
    class Stops(Silent):
        def advance(self, by: float = 1, **figures: float) -> None:
            raise KeyboardInterrupt

    job = world.job("left", steps=5000, checkpoint_every=5000, validate_every=0)
    with pytest.raises(KeyboardInterrupt), Group(Stops()) as group:
        train.run(job, group)
    deadline = time.monotonic() + 10  # a killed process ends a moment later
    while workers() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not workers()
