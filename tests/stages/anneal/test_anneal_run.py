"""Releases off a real trunk: trained on other mixtures, or the mean of its weights; and what an interruption leaves."""

import dataclasses
from pathlib import Path

import numpy as np
import orjson
import pytest
import torch
from training_world import BATCH, SEQ_LEN, World

from rewarm.stages import anneal, train
from rewarm.stages.core.errors import StageError
from rewarm.stages.core.progress import Silent
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.mixture import Source
from rewarm.stages.data.tokens import TokenSet, TokenStream, write_selection
from rewarm.stages.train import Job, TrainOutcome
from rewarm.stages.train.weights import digest, file_name, load_model, model_weights, read_snapshot

pytestmark = pytest.mark.usefixtures("ray_cluster")

STEPS, MINIMUM = 20, 2e-4
AVERAGE = anneal.AnnealSettings(shape="average", share=0.4, average_last=3)
SNAPSHOTS = (15, 18, 20)


def trunk_job(world: World, out: str, **settings: object) -> Job:
    """A trunk at a constant rate, a quarter of it replayed, that keeps what ``AVERAGE`` needs."""
    job = world.job(out, STEPS, num_workers=1, **settings)
    old = Source("old", TokenStream(world.validation).num_sequences(SEQ_LEN), 4, start=3)
    schedule = train.schedule_for(train.ScheduleSettings(peak=2e-3), 0, STEPS * job.mixture.tokens_per_step, None)
    return dataclasses.replace(
        job,
        mixture=dataclasses.replace(job.mixture, replayed=(old,), share="1/4"),
        schedule=schedule,
        tokens={**job.tokens, "old": TokenSet(world.validation)},
        snapshots=anneal.snapshot_steps(AVERAGE, schedule, STEPS),
    )


@pytest.fixture(scope="module")
def trunk(world: World) -> tuple[Job, TrainOutcome]:
    job = trunk_job(world, "trunk", checkpoint_every=20)
    return job, train.run(job, train.Group(Silent()))


def weights(out: Folder) -> dict[str, torch.Tensor]:
    return dict(model_weights(load_model((out / "model").path)))


def consumed(job: Job) -> dict[str, int]:
    """What the branch read of each source, by its last checkpoint."""
    last = sorted(job.checkpoints.path.glob("anneal/checkpoint_*/progress.json"))[-1]
    counts: dict[str, int] = orjson.loads(last.read_bytes())["consumed"]
    return counts


def test_an_average_is_the_mean_of_the_trunks_weights(trunk: tuple[Job, TrainOutcome], tmp_path: Path) -> None:
    job, trained = trunk
    assert job.snapshots == SNAPSHOTS
    release = anneal.run(job, trained, Folder(tmp_path), AVERAGE, MINIMUM, train.Group(Silent()))
    assert (release.branched, release.tokens, release.averaged) == (False, 0, list(SNAPSHOTS))
    assert "mean of the trunk's weights after 3 of its steps, 15 to 20" in release.because
    states = [read_snapshot(job.out, step)[0] for step in SNAPSHOTS]
    found = weights(Folder(tmp_path))
    assert set(found) == set(states[0])
    for name, weight in found.items():
        torch.testing.assert_close(
            weight.double(), torch.stack([state[name].double() for state in states]).mean(0), rtol=0, atol=1e-7
        )
        assert not torch.equal(states[0][name], states[-1][name])
    assert release.digest == digest(iter(sorted(found.items()))) != trained.digest
    assert digest(iter(sorted(weights(job.out).items()))) == trained.digest == read_snapshot(job.out, STEPS)[1]


def test_a_branch_can_be_released_as_the_mean_of_its_last_states(
    trunk: tuple[Job, TrainOutcome], tmp_path: Path
) -> None:
    job, trained = trunk
    job = dataclasses.replace(job, checkpoints=Folder(tmp_path / "checkpoints"))
    settings = anneal.AnnealSettings(share=0.4, average_share=0.5, average_last=2, data="next")
    release = anneal.run(job, trained, Folder(tmp_path), settings, MINIMUM, train.Group(Silent()))
    assert (release.branched, release.steps, release.averaged) == (True, 8, [6, 8])
    assert "the mean of its weights after 2 of its steps from 6" in release.because
    states = [read_snapshot(Folder(tmp_path), step)[0] for step in release.averaged]
    found = weights(Folder(tmp_path))
    for name, weight in found.items():
        torch.testing.assert_close(weight.double(), (states[0][name].double() + states[1][name]) / 2, rtol=0, atol=1e-7)
    assert release.digest == digest(iter(sorted(found.items())))


@pytest.mark.faults
def test_an_average_is_the_same_after_an_interruption_and_whatever_the_checkpoints(
    world: World, trunk: tuple[Job, TrainOutcome], tmp_path: Path
) -> None:
    undisturbed = anneal.run(*trunk, Folder(tmp_path / "undisturbed"), AVERAGE, MINIMUM, train.Group(Silent()))
    job = trunk_job(world, "stopped", checkpoint_every=16, max_failures=0)
    (job.out.path / file_name(18)).mkdir(parents=True)  # in the way: the second of three cannot take its place
    with pytest.raises(StageError, match=r"train: worker 0 failed .*Is a directory"):
        train.run(job, train.Group(Silent()))
    (job.out.path / file_name(18)).rmdir()
    (job.out.path / file_name(18)).write_bytes(b"torn")
    with pytest.raises(StageError, match="damaged"):
        read_snapshot(job.out, 18)
    with pytest.raises(StageError, match="missing, although"):
        read_snapshot(job.out, 20)
    first = (job.out.path / file_name(15)).stat().st_mtime_ns
    trained = train.run(job, train.Group(Silent()))
    assert trained.resumed_from == [16]
    assert (job.out.path / file_name(15)).stat().st_mtime_ns == first, "before the checkpoint: not made again"
    release = anneal.run(job, trained, Folder(tmp_path / "stopped"), AVERAGE, MINIMUM, train.Group(Silent()))
    assert release.digest == undisturbed.digest


def test_a_branch_on_a_replay_mixture(trunk: tuple[Job, TrainOutcome], tmp_path: Path) -> None:
    job, trained = trunk
    settings = anneal.AnnealSettings(shape="linear", final_ratio=0, share=0.25, data="replay", replay_share=0.75)
    release = anneal.run(job, trained, Folder(tmp_path), settings, MINIMUM, train.Group(Silent()))
    assert (release.branched, release.steps, release.tokens) == (True, 5, 5 * BATCH * SEQ_LEN)
    assert release.final_rate == pytest.approx(0.00011), "it ends at 0, and its last step trains at its middle"
    assert "linear from 0.0011 to 0.00011 on a mixture with 75% of replay" in release.because
    assert consumed(job) == {"text": 10, "old": 30}
    rates = [row["lr"] for row in Folder(tmp_path).read_json(train.CURVE)["steps"]]
    assert rates == pytest.approx([0.0011 * part for part in (0.8, 0.6, 0.4, 0.2, 0.1)])
    assert release.digest == digest(iter(sorted(weights(Folder(tmp_path)).items()))) != trained.digest


def test_a_branch_on_the_best_part_of_the_arrival(
    world: World, trunk: tuple[Job, TrainOutcome], tmp_path: Path
) -> None:
    trained = trunk[1]
    job = dataclasses.replace(trunk[0], checkpoints=Folder(tmp_path / "checkpoints"))
    write_selection(Folder(tmp_path / "best"), np.arange(0, 60, 3))
    best = {"text": TokenSet(world.train, Folder(tmp_path / "best"))}
    settings = anneal.AnnealSettings(shape="1-sqrt", share=0.2, data="best")
    release = anneal.run(job, trained, Folder(tmp_path), settings, MINIMUM, train.Group(Silent()), best)
    assert "1-sqrt from 0.0011 to 0.0002 on the best 10% of the arrival" in release.because
    assert consumed(job) == {"text@best": 24, "old": 8}
    assert release.digest != trained.digest
