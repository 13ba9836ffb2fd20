"""Non-finite losses and gradients: the step that stopped training, the documents that it read, and the remedy.

A step is a function of the weights and its inputs, so the same command would fail at the same step again. The driver
retries once from the last good checkpoint, in case of a hardware error; after a second failure it reports what to
change.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from rewarm.stages.core.errors import DamagedError
from rewarm.stages.core.shapes import understood
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.mixture import Mixture
from rewarm.stages.data.tokens import TokenSet
from rewarm.stages.train.checkpoints import names_of, read_progress
from rewarm.stages.train.job import Job

if TYPE_CHECKING:
    from rewarm.stages.train.engine import Place

WORDS = {"loss": "the loss", "grad_norm": "the norm of the gradient"}


@dataclass(frozen=True)
class NotFinite:
    """The first figure of a run that is not a number."""

    step: int  # counted from 1, as in the curve; for a validation loss: steps completed before it
    what: str  # "the loss", …
    value: str  # "nan", "inf", "-inf"
    rate: float | None  # learning rate of the step; null for a validation loss
    documents: dict[str, list[str]] = field(default_factory=dict)  # ids read in that step, by dataset
    checkpoint: int = 0  # step of the last good checkpoint; 0: the start

    def __str__(self) -> str:
        return f"step {self.step}: {self.what} is {self.value}"


class NotFiniteError(ArithmeticError):
    """A figure is not a number. Raised on all ranks, because the figures are means over all of them."""

    def __init__(self, found: NotFinite) -> None:
        super().__init__(str(found))
        self.found = found


def is_finite(value: float | None) -> bool:
    """Return whether a figure is finite; None, a figure that is not computed, counts as finite."""
    return value is None or math.isfinite(value)


def stop_at(job: Job, place: "Place", found: NotFinite) -> dict[str, Any]:
    """Return the result of rank 0: the figure, with the documents of the step and the last good checkpoint."""
    if place.rank != 0:
        return {}
    documents = {} if found.rate is None else documents_of(job, found.step - 1)
    return asdict(NotFinite(found.step, found.what, found.value, found.rate, documents, last_good(job)))


def documents_of(job: Job, step: int) -> dict[str, list[str]]:
    """Return the ids of the documents that a step of the job reads from, by dataset; ``step`` counts from 0."""
    return documents_read(job.mixture, job.tokens, job.first + step)


def documents_read(mixture: Mixture, tokens: Mapping[str, TokenSet], step: int) -> dict[str, list[str]]:
    """Return the ids of the documents that a step of a mixture reads from, by dataset; ``step`` counts from 0.

    ``tokens`` are the token sets by the keys of the mixture's sources.
    """
    numbers, starts = mixture.batch(step)
    documents: dict[str, list[str]] = {}
    for number in np.unique(numbers):
        source = mixture.sources[number]
        stream, length = tokens[source.key].open(), mixture.seq_len
        ends, _ = stream.document_spans()
        rows: set[int] = set()
        for start in starts[numbers == number].tolist():
            low, high = np.searchsorted(ends, [start, start + length], side="right")
            rows.update(range(int(low), int(high) + 1))
        documents.setdefault(source.dataset, []).extend(stream.ids_of(sorted(rows)))
    return documents


def last_good(job: Job) -> int:
    """Return the step of the run's newest readable checkpoint."""
    for name in names_of(job):
        try:
            return read_progress(job.checkpoints / job.name / name).step
        except DamagedError:
            continue
    return 0


def stop_file(job: Job) -> tuple[Folder, str]:
    """Return folder and name of the file that records a final stop."""
    return job.checkpoints, f"{job.name}-stopped.json"


def read_stop(job: Job) -> NotFinite | None:
    """Return the figure at which the run stopped for good, if it did."""
    folder, name = stop_file(job)
    with understood(f"{folder}/{name}"):
        return NotFinite(**folder.read_json(name)) if folder.exists(name) else None


def write_stop(job: Job, found: NotFinite) -> None:
    """Record a final stop, so that the same command reports the remedy instead of training to the same step again."""
    folder, name = stop_file(job)
    folder.write_json(name, asdict(found))


def advice(job: Job, found: NotFinite) -> str:
    """Return the error message: what happened, what is kept, and what to do."""
    folder, name = stop_file(job)
    count = sum(map(len, found.documents.values()))
    some = "; ".join(f"{dataset}: {', '.join(ids[:3])}" for dataset, ids in found.documents.items())
    documents = f" It read {count} documents, among them {some} (all are in {folder}/{name})." if count else ""
    rate = "" if found.rate is None else f" at a learning rate of {found.rate:g}"
    kept = f"the checkpoint of step {found.checkpoint}" if found.checkpoint else "the start (no checkpoint yet)"
    return (
        f"{job.name}: stopped at step {found.step} of {job.steps}: {found.what} is {found.value}{rate}.{documents} A "
        f"second attempt also stopped, so the same command does not train to that step again; {kept} is kept.\n"
        "What to do: run `rewarm discard WORKSPACE`, then the command again with a lower schedule.peak or train.clip, "
        "with train.precision=fp32, or without those documents. To retry unchanged, for example on another machine, "
        f"delete {folder}/{name}."
    )
