"""The stability gap of an update: how far each dataset's loss rises at first, and how soon that is made good.

Guo et al. 2024 (arXiv 2406.14833, section 3) see performance on the target domain's tasks and on old data drop when
continual pre-training begins, and recover later. They follow task performance; here it is the validation loss, which
every update measures anyway, on old datasets and on the arrival alike, from the update's start on. The branch that is
annealed to a release is no part of it: nothing goes on from there.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Gap:
    """One dataset's loss over one update. Tokens are counted from the update's start."""

    depth: float  # nats per token: the largest rise above the loss at the start; 0 where it never rose
    at_tokens: int  # when it was largest, first; 0 where the loss never rose
    recovered_tokens: int | None  # the first look after that at which nothing of it was left; null: never
    start: float  # nats per token, before the first step
    end: float  # at the last look


def gaps(looks: Sequence[Mapping[str, Any]]) -> dict[str, Gap]:
    """The gap of every dataset, from the looks at validation of a trunk's training.

    A look is ``{step, tokens, losses: {dataset: nats}}``, as ``curve.json`` keeps them; the first one is of step 0. A
    dataset that this look did not measure has no gap.
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
    """The gap of one line of (tokens since the start, loss), whose first point is the start."""
    start, end = line[0][1], line[-1][1]
    worst = max(range(len(line)), key=lambda place: line[place][1])  # the first, of equals
    recovered = next((tokens for tokens, loss in line[worst:] if loss <= start), None)
    return Gap(max(0.0, line[worst][1] - start), line[worst][0], recovered, start, end)


def is_number(loss: float | None) -> bool:
    """Whether a loss was measured and finite; JSON has null for what was not."""
    return loss is not None and math.isfinite(loss)
