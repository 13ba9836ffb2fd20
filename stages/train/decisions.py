"""Decisions about bad steps in a run: steps that were skipped, or left out after a return to an earlier checkpoint.

They are read from the curve and the returns of a run, so that the record and ``rewarm trace`` do not count such steps.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rewarm.stages.core.storage import Folder

SKIPPED = "skipped"  # in a row of the curve: why the step was not applied
LEFT_OUT = "left out"


@dataclass(frozen=True)
class Return:
    """A return to a checkpoint: the steps ``first`` to ``last``, counted from 1, are left out from then on."""

    first: int
    last: int
    skipped: list[int] = field(default_factory=list)  # the bad steps among them

    def __str__(self) -> str:
        return (
            f"{len(self.skipped)} bad steps between {self.first} and {self.last}: returning to the last checkpoint "
            f"before step {self.first}, and leaving out steps {self.first} to {self.last}"
        )


@dataclass(frozen=True)
class Decision:
    """Decision about the steps ``first`` to ``last`` of a run, counted from 1: they changed nothing."""

    first: int
    last: int
    kind: str  # ``SKIPPED``; ``LEFT_OUT``, after a return to an earlier checkpoint
    because: str

    @property
    def steps(self) -> range:
        """The steps, counted from 1."""
        return range(self.first, self.last + 1)


def decisions_of(rows: Sequence[dict[str, Any]], returns: Sequence[Return]) -> list[Decision]:
    """Return the decisions in the rows of a curve and its returns, by step; a return covers those of its steps."""
    skipped = [
        Decision(row["step"], row["step"], SKIPPED, row[SKIPPED])
        for row in rows
        if SKIPPED in row and not is_left_out(returns, row["step"])
    ]
    left = [
        Decision(each.first, each.last, LEFT_OUT, f"{len(each.skipped)} bad steps: {_listed(each.skipped)}")
        for each in returns
    ]
    return sorted([*skipped, *left], key=lambda decision: decision.first)


def decisions_so_far(checkpoints: "Folder", name: str) -> list[Decision]:
    """Return the decisions of a run that is not finished, up to its newest readable checkpoint."""
    from rewarm.stages.train.checkpoints import progress_of  # reading a record needs ``Decision`` alone

    file, rows = returns_name(name), list[dict[str, Any]]()
    returns = [Return(**value) for value in checkpoints.read_json(file)] if checkpoints.exists(file) else []
    for checkpoint in sorted((checkpoints / name).folders(), reverse=True):
        saved = progress_of(checkpoints / name / checkpoint)
        if not isinstance(saved, str):
            rows = saved.log.steps
            break
    return decisions_of(rows, returns)


def steps_without_effect(decisions: Sequence[Decision]) -> list[int]:
    """Return the steps that changed nothing, counted from 1, ascending."""
    return sorted({step for decision in decisions for step in decision.steps})


def _listed(steps: Sequence[int]) -> str:
    return ", ".join(map(str, steps))


def is_left_out(returns: Sequence[Return], step: int) -> bool:
    """Return whether a step, counted from 1, is left out."""
    return any(each.first <= step <= each.last for each in returns)


def returns_name(run: str) -> str:
    """Return the name of the file beside a run's checkpoints that records its returns."""
    return f"{run}-returns.json"
