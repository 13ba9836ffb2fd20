"""What a group of workers is asked to train, and what it knows at any step. Plain records, sent and stored."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rewarm.stages.core.digests import Table
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.mixture import Mixture
from rewarm.stages.data.tokens import TokenSet
from rewarm.stages.train.schedule import Schedule
from rewarm.stages.train.settings import TrainSettings

CURVE = "curve.json"  # beside a trained model: losses and learning rates, step by step, and the final losses
SNAPSHOTS = "snapshots"  # beside it: whole weights after some steps


@dataclass(frozen=True)
class Job:
    """Steps ``first`` to ``first + steps - 1`` of a mixture, trained from a model on."""

    name: str  # of the Ray Train run: with the same name, a new driver goes on where the last one stood
    mixture: Mixture
    first: int
    steps: int
    position: int  # tokens the lineage's trunk has trained before
    schedule: Schedule
    start: Folder  # Hugging Face folder, with the tokenizer
    start_digest: str  # of its weights, as the record has it
    start_checkpoint: str | None  # URI of a checkpoint whose optimizer state goes on; null: a fresh optimizer
    tokens: dict[str, TokenSet]  # by the key of each of the mixture's sources
    validation: dict[str, Folder]  # dataset → validation shards
    out: Folder  # the trained model's folder
    checkpoints: Folder
    settings: TrainSettings
    seed: int
    snapshots: tuple[int, ...] = ()  # steps after which the whole weights are kept, in ``out``
    teacher: Folder | None = None  # what ``settings.kl_weight`` holds replayed sequences to; null: ``start``
    tokenizer: Folder | None = None  # of the lineage, to go with what is trained; null: the start's
    dtype: str = "float32"  # of the stored weights: a trunk's masters are whole, a release has its lineage's dtype
    teacher_digest: str | None = None  # of its weights; null: ``start_digest``
    start_files: Table | None = None  # of ``start``, from the record; null: of a version that kept none
    shards: Mapping[str, Table] = field(default_factory=dict)  # of the token shards, by the key of a source: the same
    labels: dict[str, str] = field(default_factory=dict)  # of its metrics: workspace, update; empty: none are reported

    @property
    def holds_to_teacher(self) -> bool:
        """Whether a KL term ties replayed sequences to a teacher."""
        return self.settings.kl_weight > 0 and bool(self.mixture.replayed)

    def rate(self, step: int) -> float:
        """The learning rate of a step: the schedule's, at the tokens trained when the step is done.

        If that is 0 (a decay to zero ends with the last step), the rate halfway through the step: each step trains.
        """
        per_step = self.mixture.tokens_per_step
        done = self.position + (step + 1) * per_step
        return self.schedule.rate(done) or self.schedule.rate(done - per_step / 2)


@dataclass
class Log:
    """A run's curve. Stored with every checkpoint, so that a resumed run goes on with the curve it had there."""

    steps: list[dict[str, Any]] = field(
        default_factory=list
    )  # step, tokens, lr, loss, grad_norm; kl where a teacher is held to
    validation: list[dict[str, Any]] = field(default_factory=list)  # step, tokens, losses {dataset: nats}
    timed_tokens: int = 0
    timed_seconds: float = 0.0

    @property
    def tokens_per_second(self) -> float:
        """Over the steps alone: without the first ones of an attempt, validation, checkpoints and start-up."""
        return self.timed_tokens / self.timed_seconds if self.timed_seconds else 0.0
