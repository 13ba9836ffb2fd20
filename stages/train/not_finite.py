"""A figure that is not a number: where training stops, what was read there, and what a person can do about it.

The step is a function of the weights and of what it reads, so the same command would come to it again. The driver tries
once more, from the last good checkpoint, because a machine can err; after a second time it says what to change.
"""

import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from rewarm.stages.core.errors import DamagedError
from rewarm.stages.core.storage import Folder
from rewarm.stages.train.checkpoints import names_of, read_progress
from rewarm.stages.train.job import Job

if TYPE_CHECKING:
    from rewarm.stages.train.engine import Place

WORDS = {"loss": "the loss", "grad_norm": "the norm of the gradient"}


@dataclass(frozen=True)
class NotFinite:
    """The first figure of a run that is not a number."""

    step: int  # counted from 1, as in the curve; of a validation loss: steps done before it
    what: str  # "the loss", …
    value: str  # "nan", "inf", "-inf"
    rate: float | None  # learning rate of the step; null: of a validation loss
    documents: dict[str, list[str]] = field(default_factory=dict)  # read in that step, by dataset
    checkpoint: int = 0  # step of the last good checkpoint; 0: the start

    def __str__(self) -> str:
        return f"step {self.step}: {self.what} is {self.value}"


class NotFiniteError(ArithmeticError):
    """Raised on all ranks alike: the figures are means over all of them."""

    def __init__(self, found: NotFinite) -> None:
        super().__init__(str(found))
        self.found = found


def is_finite(value: float | None) -> bool:
    """Whether a figure is a number; one that is not computed at all does not count against it."""
    return value is None or math.isfinite(value)


def stop_at(job: Job, place: "Place", found: NotFinite) -> dict[str, Any]:
    """What rank 0 returns: the figure, with the documents of the step and the checkpoint that is kept."""
    if place.rank != 0:
        return {}
    documents = {} if found.rate is None else documents_of(job, found.step - 1)
    return asdict(NotFinite(found.step, found.what, found.value, found.rate, documents, last_good(job)))


def documents_of(job: Job, step: int) -> dict[str, list[str]]:
    """Ids of the documents of which a step of the job reads a token, by dataset; ``step`` counts from 0."""
    numbers, starts = job.mixture.batch(job.first + step)
    found: dict[str, list[str]] = {}
    for number in np.unique(numbers):
        source = job.mixture.sources[number]
        stream, length = job.tokens[source.key].open(), job.mixture.seq_len
        ends, _ = stream.document_spans()
        rows: set[int] = set()
        for start in starts[numbers == number].tolist():
            low, high = np.searchsorted(ends, [start, start + length], side="right")
            rows.update(range(int(low), int(high) + 1))
        found.setdefault(source.dataset, []).extend(stream.ids_of(sorted(rows)))
    return found


def last_good(job: Job) -> int:
    """The step of the run's newest checkpoint that can be read."""
    for name in names_of(job):
        try:
            return read_progress(job.checkpoints / job.name / name).step
        except DamagedError:
            continue
    return 0


def stop_file(job: Job) -> tuple[Folder, str]:
    """Where a run that stopped for good says so."""
    return job.checkpoints, f"{job.name}-stopped.json"


def read_stop(job: Job) -> NotFinite | None:
    """The figure at which the run has stopped for good, if it has."""
    folder, name = stop_file(job)
    return NotFinite(**folder.read_json(name)) if folder.exists(name) else None


def write_stop(job: Job, found: NotFinite) -> None:
    """Keep it: the same command says what to do instead of training to the same step again."""
    folder, name = stop_file(job)
    folder.write_json(name, asdict(found))


def advice(job: Job, found: NotFinite) -> str:
    """What happened, what is kept, and what to do."""
    folder, name = stop_file(job)
    count = sum(map(len, found.documents.values()))
    some = "; ".join(f"{dataset}: {', '.join(ids[:3])}" for dataset, ids in found.documents.items())
    documents = f" It read {count} documents, among them {some} (all are in {folder}/{name})." if count else ""
    rate = "" if found.rate is None else f" at a learning rate of {found.rate:g}"
    kept = f"the checkpoint of step {found.checkpoint}" if found.checkpoint else "the start (no checkpoint yet)"
    return (
        f"{job.name}: stopped at step {found.step} of {job.steps}: {found.what} is {found.value}{rate}.{documents} A "
        f"second try stopped as well, so the same command does not train to that step again; {kept} is kept.\n"
        "What to do: `rewarm discard WORKSPACE`, then run it again with a lower schedule.peak or train.clip, with "
        "train.precision=fp32, or without those documents. To try the same once more, on another machine for example, "
        f"delete {folder}/{name}."
    )
