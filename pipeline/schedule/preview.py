"""A recipe's learning rate over a lineage that is not trained yet: a base and its arrivals, with their anneals.

Everything comes from the functions that training itself asks (``schedule_for``, ``anneal_from``), for whole steps, so
what is shown is what such a lineage will get.
"""

import itertools
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.config import Recipe
from stages.anneal import anneal_from
from stages.errors import UsageError
from stages.train import Phase, Schedule, schedule_for

ASSUMED_STEPS = 1000  # of an update, where neither the recipe nor the user says how much is trained
ARRIVALS = 3
CURVE_POINTS = 60  # of a phase that is not straight
STRAIGHT = ("constant", "linear")
UNITS = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "B": 1e9, "T": 1e12}


@dataclass(frozen=True)
class Piece:
    """The part of a phase that lies in one update."""

    update: str
    phase: str
    shape: str
    start: float  # tokens of the lineage
    end: float
    initial: float  # learning rates
    final: float
    branch: bool  # of the anneal, which the next update does not start from


@dataclass(frozen=True)
class Leg:
    """What one update trains: its trunk, and the branch of its release where one is annealed."""

    name: str  # base, update 1, …
    start: int  # tokens of the lineage
    end: int
    steps: int
    schedule: Schedule
    branch: Schedule | None

    def pieces(self) -> list[Piece]:
        """The phases of the trunk that lie in this update, then the branch's."""
        return [
            Piece(self.name, phase.name, phase.shape, low, high, phase.rate(low), phase.rate(high), branch)
            for branch in (False, True)
            for phase, low, high in self._stretches(branch)
        ]

    def points(self, branch: bool) -> list[tuple[float, float]]:
        """(tokens, learning rate) along the trunk or along the branch."""
        found = []
        for phase, low, high in self._stretches(branch):
            count = 1 if phase.shape in STRAIGHT else CURVE_POINTS
            places = [low + (high - low) * number / count for number in range(count + 1)]
            found += [(place, phase.rate(place)) for place in places]
        return found

    def _stretches(self, branch: bool) -> list[tuple[Phase, float, float]]:
        """Each phase with the tokens from and to which it lasts in this update."""
        if branch:
            return [(phase, phase.start, phase.end) for phase in self.branch.phases] if self.branch else []
        *earlier, last = self.schedule.phases
        ends = [*(min(phase.end, self.end) for phase in earlier), float(self.end)]  # the last one holds after its end
        lasting = [
            (phase, max(phase.start, self.start), end) for phase, end in zip((*earlier, last), ends, strict=True)
        ]
        return [(phase, float(low), float(high)) for phase, low, high in lasting if low < high]


@dataclass(frozen=True)
class Preview:
    """A recipe's schedule over several arrivals."""

    recipe: str
    kind: str
    imported: bool
    assumed: bool  # the tokens are an assumption
    legs: tuple[Leg, ...]

    def to_json(self) -> dict[str, Any]:
        """Updates, phases and points as JSON types."""
        points = [
            {"update": leg.name, "branch": branch, "tokens": tokens, "lr": rate}
            for leg in self.legs
            for branch in (False, True)
            for tokens, rate in leg.points(branch)
        ]
        updates = [{"name": leg.name, "start": leg.start, "end": leg.end, "steps": leg.steps} for leg in self.legs]
        phases = [asdict(piece) for leg in self.legs for piece in leg.pieces()]
        told = {"recipe": self.recipe, "kind": self.kind, "imported": self.imported, "assumed_tokens": self.assumed}
        return {**told, "updates": updates, "phases": phases, "points": points}


def preview_schedule(
    name: str, recipe: Recipe, arrivals: int | None = None, tokens: str | None = None, imported: bool = False
) -> Preview:
    """Lay out a base and ``arrivals`` updates under ``recipe``.

    ``tokens`` lists what the base and each update train ("1.2M,600k": the last one goes for all that follow); without
    it the recipe's budget says. ``imported``: the base was trained elsewhere, the list begins with the first update.
    Raises ``UsageError`` for tokens that are none, too many of them, or less than a step.
    """
    if recipe.schedule.kind == "auto":
        raise UsageError("schedule.kind is auto: `rewarm plan` chooses it for an arrival; give one with --set")
    imported = imported or recipe.model.path is not None
    trained = 0 if imported else 1
    given = None if tokens is None else parse_tokens(tokens)
    if arrivals is None:
        arrivals = max(1, len(given) - trained) if given is not None and len(given) > 1 else ARRIVALS
    if arrivals + trained == 0:
        raise UsageError("--arrivals 0: an imported model without an update has no schedule")
    if given is not None and len(given) > arrivals + trained:
        raise UsageError(f"--tokens {tokens}: {len(given)} numbers for {arrivals + trained} trainings")
    counts = given or budget(recipe)[1 - trained :]
    counts = [*counts, *[counts[-1]] * (arrivals + trained - len(counts))][: arrivals + trained]
    assumed = given is None and not (recipe.budget.base_tokens or recipe.budget.update_tokens)
    names = [f"update {number}" if number else "base" for number in range(1 - trained, arrivals + 1)]
    return Preview(name, recipe.schedule.kind, imported, assumed, tuple(legs(recipe, names, counts, imported)))


def budget(recipe: Recipe) -> list[int]:
    """Tokens of the base and of an update; what the recipe leaves to the data is taken like the other, or assumed."""
    base, update = recipe.budget.base_tokens, recipe.budget.update_tokens
    assumed = ASSUMED_STEPS * recipe.train.global_batch * recipe.train.seq_len
    return [base or update or assumed, update or base or assumed]


def legs(recipe: Recipe, names: Sequence[str], counts: Sequence[int], imported: bool) -> list[Leg]:
    """One leg for each name, of whole steps, each going on from the one before."""
    per_step = recipe.train.global_batch * recipe.train.seq_len
    if short := [count for count in counts if count < per_step]:
        raise UsageError(f"{short[0]:,} tokens are less than one step of train.global_batch × seq_len = {per_step:,}")
    sizes = [count // per_step for count in counts]
    made: list[Leg] = []
    for name, steps, done in zip(names, sizes, itertools.accumulate(sizes, initial=0), strict=False):
        start, tokens = done * per_step, steps * per_step
        before = made[-1].schedule if made else None
        schedule = schedule_for(recipe.schedule, start, tokens, before, imported)
        made.append(Leg(name, start, start + tokens, steps, schedule, branch(recipe, schedule, start + tokens, steps)))
    return made


def branch(recipe: Recipe, trunk: Schedule, position: int, steps: int) -> Schedule | None:
    """The schedule of the branch that ends in a release, off a trunk of ``steps`` steps up to ``position``, if any."""
    length = recipe.anneal.steps(steps)
    if trunk.decayed or not length or recipe.anneal.shape == "average":
        return None
    per_step = recipe.train.global_batch * recipe.train.seq_len
    return anneal_from(trunk, position, length * per_step, recipe.schedule.minimum, recipe.anneal)


def parse_tokens(text: str) -> list[int]:
    """``1.2M,600k`` → [1200000, 600000]; plain numbers, 1e9 and 1_000_000 are read, too."""
    found = []
    for part in text.split(","):
        match = re.fullmatch(r"([\d._]+(?:e[+]?\d+)?)\s*([kMGBT]?)", part.strip())
        try:
            found.append(round(float(match[1]) * UNITS[match[2]]) if match else 0)
        except ValueError:
            found.append(0)
        if found[-1] < 1:
            raise UsageError(
                f"--tokens {text}: {part.strip()!r} is no number of tokens; expected for example 1.2M,600k"
            )
    return found
