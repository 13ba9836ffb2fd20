"""The job of a group of workers, and the log of its progress: plain records that are sent and stored."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rewarm.stages.core.digests import Table
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.mixture import Mixture
from rewarm.stages.data.tokens import TokenSet
from rewarm.stages.train.schedule import Schedule
from rewarm.stages.train.settings import TrainSettings

CURVE = "curve.json"  # next to a trained model: losses and learning rates by step, and the final losses
SNAPSHOTS = "snapshots"  # next to it: full weights after some steps


@dataclass(frozen=True)
class Job:
    """Training of a model on steps ``first`` to ``first + steps - 1`` of a mixture."""

    name: str  # of the Ray Train run: with the same name, a new driver resumes it
    mixture: Mixture
    first: int
    steps: int
    position: int  # tokens that the lineage's trunk has trained before
    schedule: Schedule
    start: Folder  # Hugging Face folder, with the tokenizer
    start_digest: str  # of its weights, from the record
    start_checkpoint: str | None  # URI of a checkpoint whose optimizer state is continued; null: a fresh optimizer
    tokens: dict[str, TokenSet]  # by key of the mixture's sources
    validation: dict[str, Folder]  # dataset → validation shards
    out: Folder  # the trained model's folder
    checkpoints: Folder
    settings: TrainSettings
    seed: int
    snapshots: tuple[int, ...] = ()  # steps after which the full weights are saved in ``out``
    teacher: Folder | None = None  # model of the ``settings.kl_weight`` term; null: ``start``
    tokenizer: Folder | None = None  # of the lineage, stored with the trained model; null: the start's
    dtype: str = "float32"  # of the stored weights: float32 for a trunk, the lineage's dtype for a release
    teacher_digest: str | None = None  # of its weights; null: ``start_digest``
    start_files: Table | None = None  # of ``start``, from the record; null: recorded by a version without them
    shards: Mapping[str, Table] = field(default_factory=dict)  # of the token shards, from the record, by source key
    labels: dict[str, str] = field(default_factory=dict)  # of its metrics: workspace, update; empty: no metrics

    @property
    def holds_to_teacher(self) -> bool:
        """Whether a KL term keeps the model close to a teacher on replayed sequences."""
        return self.settings.kl_weight > 0 and bool(self.mixture.replayed)

    @property
    def milestones(self) -> frozenset[int]:
        """Steps, counted from 1, whose checkpoints are kept."""
        per_step = self.mixture.tokens_per_step
        passed = (-(-(tokens - self.position) // per_step) for tokens in self.settings.milestone_tokens)
        return frozenset(step for step in (*self.settings.milestones, *passed) if 0 < step <= self.steps)

    def rate(self, step: int) -> float:
        """Return the learning rate of a step: the schedule's value at the tokens trained after the step.

        If that is 0 (last step of a decay to zero), the value halfway through the step, so that each step trains.
        """
        per_step = self.mixture.tokens_per_step
        done = self.position + (step + 1) * per_step
        return self.schedule.rate(done) or self.schedule.rate(done - per_step / 2)


@dataclass
class Log:
    """Curve of a run. Stored with every checkpoint, so that a resumed run continues its curve."""

    steps: list[dict[str, Any]] = field(default_factory=list)  # step, tokens, lr, loss, grad_norm; kl with a teacher
    validation: list[dict[str, Any]] = field(default_factory=list)  # step, tokens, losses {dataset: nats}
    timed_tokens: int = 0
    timed_seconds: float = 0.0
    checkpoint_seconds: float = 0.0  # for which checkpoints have stopped the steps

    @property
    def tokens_per_second(self) -> float:
        """Throughput of the steps alone, excluding start-up, an attempt's first steps, validation and checkpoints."""
        return self.timed_tokens / self.timed_seconds if self.timed_seconds else 0.0
