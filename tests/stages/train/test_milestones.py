"""Checkpoints that stay: at named steps and tokens, and the one that a stopped driver waits for."""

import dataclasses
from pathlib import Path

import pytest
from pydantic import ValidationError
from training_world import BATCH, SEQ_LEN, World

from rewarm.stages import train
from rewarm.stages.core.progress import Silent
from rewarm.stages.train import TrainSettings
from rewarm.stages.train.checkpoints import saved_step


def test_milestones_are_steps_of_the_run(world: World) -> None:
    each = SEQ_LEN * BATCH
    job = world.job("named", milestones=(3, 12, 13), milestone_tokens=(each, 1001 * each, 1003 * each + 1, 1008 * each))
    assert job.milestones == {1, 3, 12}, "of 12 steps; tokens of the lineage"
    later = dataclasses.replace(job, position=1000 * each)
    assert later.milestones == {1, 3, 4, 8, 12}
    with pytest.raises(ValidationError):
        TrainSettings(milestones=(0,))


def test_a_stopped_driver_lets_its_workers_save(world: World, ray_cluster: None, tmp_path: Path) -> None:
    """A signal is raised as ``KeyboardInterrupt`` where the driver waits: here, when it shows the first steps."""
    job = world.job(
        f"stopped-{tmp_path.name}",
        steps=5000,
        checkpoint_every=5000,
        num_workers=2,
        cpus_per_worker=1,
        validate_every=0,
    )
    notes: list[str] = []
    progress = Silent()
    progress.note = notes.append
    stopped: list[int] = []

    def advance(*_: object, **__: object) -> None:
        if not stopped:
            stopped.append(1)
            raise KeyboardInterrupt

    progress.advance = advance
    with pytest.raises(KeyboardInterrupt):
        train.run(job, train.Group(progress))
    assert stopped
    assert 0 < saved_step(job.checkpoints / job.name) < 5000
    assert any("stopping; saving a checkpoint first" in note for note in notes), notes


def test_fp16_is_refused_with_the_reason() -> None:
    with pytest.raises(ValidationError, match="fp16 is not supported: its gradients underflow without loss scaling"):
        TrainSettings.model_validate({"precision": "fp16"})
