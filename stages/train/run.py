"""A training run: trains a job on a group of workers and returns the outcome."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rewarm.stages.train.decisions import Decision
from rewarm.stages.train.group import Group
from rewarm.stages.train.job import Job


@dataclass(frozen=True)
class TrainOutcome:
    """Outcome of a training run."""

    steps: int
    tokens: int
    final_rate: float
    digest: str  # of the trained fp32 weights
    checkpoint: str  # URI of the last checkpoint, with the optimizer state
    world_size: int
    tokens_per_second: float
    resumed_from: list[int]  # steps from which restarted groups of workers resumed
    decisions: list[Decision] = field(default_factory=list)  # about bad steps, which changed nothing
    bitwise: bool | None = None  # whether a micro batch gave the same gradient twice; null: not tried
    checkpoint_seconds: float = 0.0  # for which checkpoints stopped the steps


def run(job: Job, group: Group, watchers: Sequence[Any] = ()) -> TrainOutcome:
    """Train ``job`` to its end; write ``job.out/model`` (a Hugging Face folder) and ``job.out/curve.json``.

    ``watchers`` are Ray Train callbacks (``ray.train.UserCallback``), which receive every checkpoint's metrics. After
    the death of a driver or worker, training resumes from the last good checkpoint. Raises ``StageError`` after more
    than ``settings.max_failures`` failures without a new checkpoint in between, or if a loss was not a number twice;
    ``NoRoomError`` if the workers found no room; ``DamagedError`` if an input does not match the record; ``UsageError``
    if the cluster cannot have room for the workers.
    """
    result = group.train(job, watchers)
    return TrainOutcome(
        steps=job.steps,
        tokens=job.steps * job.mixture.tokens_per_step,
        final_rate=job.rate(job.steps - 1),
        digest=result["digest"],
        checkpoint=(job.checkpoints / job.name / result["checkpoint"]).uri,
        world_size=result["world_size"],
        tokens_per_second=result["tokens_per_second"],
        resumed_from=resumed_from(job),
        decisions=result["decisions"],
        bitwise=result["bitwise"],
        checkpoint_seconds=result["checkpoint_seconds"],
    )


def resumed_from(job: Job) -> list[int]:
    """Return the steps from which restarted groups of workers resumed, in order."""
    attempts = job.checkpoints / f"{job.name}-attempts"
    return [attempts.read_json(name)["step"] for name in attempts.files(".json")[1:]]
