"""Learning-rate schedules: pure functions of tokens, over a whole lineage (Ibrahim et al. 2024, sections 4 and 7).

A schedule is a series of phases on one axis: tokens trained on the trunk since the lineage began. What an update
trains, and where it starts, thus decides the learning rate; the number of workers, restarts and the batch do not.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pydantic import Field, model_validator

from stages.settings import Settings

Shape = Literal["constant", "linear", "cosine", "inverse-sqrt", "exponential"]


class ScheduleSettings(Settings):
    """The learning rate of an update, and of the lineage it belongs to."""

    kind: Literal["cosine", "infinite", "constant"] = "infinite"
    """``infinite``: warm up and cool down once in the lineage, then stay constant; a release is annealed on a branch.
    ``cosine``: re-warm and re-decay in every update. ``constant``: stay at the peak (a baseline of the paper)."""
    peak: float = Field(default=3e-4, gt=0)
    """η_max, the learning rate at the end of the warmup."""
    minimum_ratio: float = Field(default=0.1, gt=0, le=1)
    """η_min as a part of η_max (0.1 in the paper)."""
    constant_rate: float | None = Field(default=None, gt=0)
    """η_const of the infinite schedule; null: the midpoint of η_max and η_min, as in the paper (1.65e-4)."""
    warmup_share: float = Field(default=0.01, ge=0, lt=1)
    """Warmup T_w as a share of the update's tokens (1 % in the paper; 0 to 2 % made no lasting difference)."""
    cooldown: Literal["cosine", "inverse-sqrt"] = "cosine"
    """Shape of the infinite schedule's way from η_max to η_const."""
    cooldown_share: float = Field(default=0.6, gt=0, le=1)
    """End of the cooldown as a share of the first dataset's tokens (about 60 % in the paper), warmup included."""
    alpha: float = Field(default=10.0, gt=0)
    """α of the inverse square root cooldown, h(x) = 1/√(1 + αx) − 1."""
    restart: bool = False
    """Begin the infinite schedule anew in this update (warmup and cooldown again), instead of staying constant."""

    @model_validator(mode="after")
    def _ordered(self) -> "ScheduleSettings":
        if self.cooldown_share <= self.warmup_share:
            raise ValueError(f"cooldown_share {self.cooldown_share} must lie after warmup_share {self.warmup_share}")
        if not self.minimum <= self.constant <= self.peak:
            raise ValueError(
                f"constant_rate {self.constant} must lie between η_min {self.minimum} and η_max {self.peak}"
            )
        return self

    @property
    def minimum(self) -> float:
        """η_min."""
        return self.peak * self.minimum_ratio

    @property
    def constant(self) -> float:
        """η_const."""
        return self.constant_rate if self.constant_rate is not None else (self.peak + self.minimum) / 2


@dataclass(frozen=True)
class Phase:
    """A stretch of tokens over which the learning rate goes from one value to another in one shape."""

    name: str  # warmup, cooldown, decay, constant, anneal
    shape: Shape
    start: float  # tokens
    end: float  # tokens; the last phase also holds after its end
    initial: float  # learning rate at the start
    final: float  # learning rate at the end
    alpha: float = 10.0

    def rate(self, tokens: float) -> float:
        """The learning rate at ``tokens``; before the start and after the end it holds the value there."""
        if self.end <= self.start:
            return self.final
        x = min(1.0, max(0.0, (tokens - self.start) / (self.end - self.start)))
        if self.shape == "cosine":
            return self.final + (self.initial - self.final) / 2 * (1 + math.cos(math.pi * x))
        if self.shape == "inverse-sqrt":
            return self.initial + (self.final - self.initial) * inverse_sqrt(x, self.alpha) / inverse_sqrt(
                1, self.alpha
            )
        if self.shape == "exponential":
            return float(self.initial * (self.final / self.initial) ** x)
        if self.shape == "linear":
            return self.initial + (self.final - self.initial) * x
        return self.final


@dataclass(frozen=True)
class Schedule:
    """Phases that follow one another without a gap. After the last, its final value holds."""

    kind: str
    phases: tuple[Phase, ...]

    def rate(self, tokens: float) -> float:
        """The learning rate after ``tokens`` tokens of the trunk."""
        return self.phase(tokens).rate(tokens)

    def phase(self, tokens: float) -> Phase:
        """The phase in force at ``tokens``; at a boundary the one that ends there."""
        return next((phase for phase in self.phases if tokens <= phase.end), self.phases[-1])

    @property
    def decayed(self) -> bool:
        """Whether the schedule itself goes down to η_min: its end is a release, and nothing is left to anneal."""
        return self.phases[-1].name == "decay"

    def to_json(self) -> dict[str, Any]:
        """As JSON types."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Schedule":
        """Read what ``to_json`` wrote."""
        return cls(value["kind"], tuple(Phase(**phase) for phase in value["phases"]))


def inverse_sqrt(x: float, alpha: float) -> float:
    """h(x) = 1/√(1 + αx) − 1, with h(0) = 0 (Ibrahim et al. 2024, section 7.2)."""
    return 1 / math.sqrt(1 + alpha * x) - 1


def schedule_for(settings: ScheduleSettings, position: int, tokens: int, running: Schedule | None) -> Schedule:
    """The schedule of an update that trains ``tokens`` tokens from ``position`` on.

    ``running`` is the infinite schedule that the lineage already follows, if any: it goes on, at η_const.
    """
    if settings.kind == "infinite" and running is not None and not settings.restart:
        return running
    warm = position + settings.warmup_share * tokens
    end = float(position + tokens)
    warmup = Phase("warmup", "linear", position, warm, 0.0, settings.peak)
    if settings.kind == "cosine":
        return Schedule("cosine", (warmup, Phase("decay", "cosine", warm, end, settings.peak, settings.minimum)))
    if settings.kind == "constant":
        return Schedule("constant", (warmup, Phase("constant", "constant", warm, end, settings.peak, settings.peak)))
    cold = position + settings.cooldown_share * tokens
    cooldown = Phase("cooldown", settings.cooldown, warm, cold, settings.peak, settings.constant, settings.alpha)
    constant = Phase("constant", "constant", cold, max(end, cold), settings.constant, settings.constant)
    return Schedule("infinite", (warmup, cooldown, constant))


def anneal_from(trunk: Schedule, position: int, tokens: int, minimum: float) -> Schedule:
    """The anneal branch: from the trunk's rate at ``position`` to ``minimum`` over ``tokens`` (section 7.2, phase 4).

    ``η(t) = η_const · (η_min / η_const)^((t − t_ann) / (t_end − t_ann))``
    """
    initial = trunk.rate(position)
    return Schedule(
        "anneal", (Phase("anneal", "exponential", position, position + tokens, initial, min(minimum, initial)),)
    )
