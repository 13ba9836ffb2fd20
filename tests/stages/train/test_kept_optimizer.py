"""The optimizer switch: with the state kept, two trainings are one; without it, the second starts its moments anew."""

import dataclasses

import pytest
from training_world import BATCH, SEQ_LEN, World

from rewarm.stages import train
from rewarm.stages.core.progress import Silent
from rewarm.stages.train import Job, ScheduleSettings, TrainOutcome, schedule_for

pytestmark = [pytest.mark.usefixtures("ray_cluster"), pytest.mark.faults]

HALF = 6
TOKENS = HALF * SEQ_LEN * BATCH
SCHEDULE = schedule_for(ScheduleSettings(kind="linear", peak=2e-3, warmup_share=0.1), 0, 2 * TOKENS, None)


def losses(job: Job) -> list[float]:
    return [row["loss"] for row in job.out.read_json(train.CURVE)["steps"]]


def trained(world: World, name: str, steps: int = HALF, **changes: object) -> tuple[Job, TrainOutcome]:
    """Some steps under the schedule of all twelve."""
    job = world.job(name, steps=steps, num_workers=1, validate_every=0)
    job = dataclasses.replace(job, schedule=SCHEDULE, **changes)  # type: ignore[arg-type]
    return job, train.run(job, train.Group(Silent()))


def test_a_kept_optimizer_goes_on_as_if_there_had_been_no_end(world: World) -> None:
    whole, _ = trained(world, "whole", steps=2 * HALF)
    first, outcome = trained(world, "first")
    rest = {"first": HALF, "position": TOKENS, "start": first.out / "model", "start_digest": outcome.digest}
    kept, _ = trained(world, "kept", start_checkpoint=outcome.checkpoint, **rest)
    assert losses(first) == losses(whole)[:HALF]
    assert losses(kept) == losses(whole)[HALF:], "the moments are the first training's, the rates are the schedule's"
    reset, _ = trained(world, "reset", **rest)
    differences = [abs(one - other) for one, other in zip(losses(reset), losses(kept), strict=True)]
    assert differences[0] == 0, "the same weights before the first step"
    assert min(differences[1:]) > 1e-4
