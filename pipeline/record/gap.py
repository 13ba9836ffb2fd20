"""The stability gap of an update: the initial rise of each dataset's loss, and the tokens until it recovers.

Guo et al. 2024 (arXiv 2406.14833, section 3) observe that performance on the target domain's tasks and on old data
drops when continual pre-training begins, and recovers later. They track task performance; here it is the validation
loss, which every update measures anyway, on old datasets and the arrival, from the start of the update. The branch that
is annealed to a release is excluded: no update continues from it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Gap:
    """The stability gap of one dataset in one update. Tokens are counted from the update's start."""

    depth: float  # nats per token: the largest rise above the loss at the start; 0 if the loss never rose
    at_tokens: int  # tokens at the first validation with the largest rise; 0 if the loss never rose
    recovered_tokens: int | None  # tokens at the first later validation without any rise; null: never recovered
    start: float  # nats per token, before the first step
    end: float  # nats per token, at the last validation


def gaps(looks: Sequence[Mapping[str, Any]]) -> dict[str, Gap]:
    """Return the gap of every dataset, from the validations during a trunk's training.

    A validation is ``{step, tokens, losses: {dataset: nats}}``, as in ``curve.json``; the first one is at step 0. A
    dataset that was not measured at step 0 has no gap.
    """
    if not looks:
        return {}
    first = looks[0]["tokens"]
    lines = {
        name: [(look["tokens"] - first, look["losses"].get(name)) for look in looks] for name in looks[0]["losses"]
    }
    measured = {name: [(tokens, loss) for tokens, loss in line if is_number(loss)] for name, line in lines.items()}
    return {name: gap(line) for name, line in measured.items() if line and line[0][0] == 0}


def gap(line: Sequence[tuple[int, float]]) -> Gap:
    """Return the gap of a curve of (tokens since the start, loss), whose first point is the start."""
    start, end = line[0][1], line[-1][1]
    worst = max(range(len(line)), key=lambda place: line[place][1])  # of equal losses, the first
    recovered = next((tokens for tokens, loss in line[worst:] if loss <= start), None)
    return Gap(max(0.0, line[worst][1] - start), line[worst][0], recovered, start, end)


def is_number(loss: float | None) -> bool:
    """Return whether a loss was measured and is finite; in JSON, other losses are null."""
    return loss is not None and math.isfinite(loss)
