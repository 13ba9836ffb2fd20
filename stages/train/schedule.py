"""Learning-rate schedules: pure functions of tokens, over a whole lineage (Ibrahim et al. 2024, sections 4 and 7).

A schedule is a series of phases on one axis: tokens trained on the trunk since the lineage began. What an update
trains, and where it starts, thus decides the learning rate; the number of workers, restarts and the batch do not.
``schedule_kinds`` makes the phases of an update.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

Shape = Literal["constant", "linear", "cosine", "inverse-sqrt", "exponential", "1-sqrt"]

DECAYED = ("decay", "minimum")  # names of last phases that leave nothing to anneal


@dataclass(frozen=True)
class Phase:
    """A stretch of tokens over which the learning rate goes from one value to another in one shape."""

    name: str  # warmup, cooldown, decay, constant, minimum, anneal
    shape: Shape
    start: float  # tokens
    end: float  # tokens; the last phase also holds after its end
    initial: float  # learning rate at the start
    final: float  # learning rate at the end
    alpha: float = 10.0

    def rate(self, tokens: float) -> float:
        """The learning rate at ``tokens``; before the start and after the end it holds the value there."""
        if tokens >= self.end or self.end <= self.start:
            return self.final
        x = max(0.0, (tokens - self.start) / (self.end - self.start))
        if self.shape == "cosine":
            return self.final + (self.initial - self.final) / 2 * (1 + math.cos(math.pi * x))
        if self.shape == "inverse-sqrt":
            return self.initial + (self.final - self.initial) * inverse_sqrt(x, self.alpha) / inverse_sqrt(
                1, self.alpha
            )
        if self.shape == "exponential":
            return float(self.initial * (self.final / self.initial) ** x)
        if self.shape in ("linear", "1-sqrt"):
            return self.initial + (self.final - self.initial) * (x if self.shape == "linear" else math.sqrt(x))
        return self.final


@dataclass(frozen=True)
class Schedule:
    """Phases that follow one another without a gap. After the last, its final value holds."""

    kind: str
    phases: tuple[Phase, ...]
    began: float | None = None  # tokens at which the series of an autoregressive schedule began; its base has none

    def rate(self, tokens: float) -> float:
        """The learning rate after ``tokens`` tokens of the trunk."""
        return self.phase(tokens).rate(tokens)

    def phase(self, tokens: float) -> Phase:
        """The phase in force at ``tokens``; at a boundary the one that ends there."""
        return next((phase for phase in self.phases if tokens <= phase.end), self.phases[-1])

    @property
    def decayed(self) -> bool:
        """Whether the schedule itself goes down, or stays at η_min: its end is a release, nothing is left to anneal."""
        return self.phases[-1].name in DECAYED

    def to_json(self) -> dict[str, Any]:
        """As JSON types."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Schedule":
        """Read what ``to_json`` wrote; other keys beside it are left alone."""
        return cls(value["kind"], tuple(Phase(**phase) for phase in value["phases"]), value.get("began"))


def inverse_sqrt(x: float, alpha: float) -> float:
    """h(x) = 1/√(1 + αx) − 1, with h(0) = 0 (Ibrahim et al. 2024, section 7.2)."""
    return 1 / math.sqrt(1 + alpha * x) - 1
