"""Learning-rate schedules: pure functions of tokens, over a whole lineage (Ibrahim et al. 2024, sections 4 and 7).

A schedule is a series of phases on one axis: tokens trained on the trunk since the lineage began. The learning rate
therefore depends on an update's tokens and its start position, but not on the number of workers, restarts or the batch.

``schedule_for`` returns the phases of an update as a pure function of the settings, of the update's position in the
lineage and of the trunk's schedule so far. The base never re-warms: it starts at 0 and warms up to η_max, whatever is
set for updates. An update's warmup also starts at 0, as in the papers' code.
"""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from pydantic import Field, model_validator

from rewarm.stages.core.settings import ADDED, Settings

Shape = Literal["constant", "linear", "cosine", "inverse-sqrt", "exponential", "1-sqrt"]

DECAYED = ("decay", "minimum")  # names of final phases that leave nothing to anneal


@dataclass(frozen=True)
class Phase:
    """A range of tokens over which the learning rate changes from one value to another in one shape."""

    name: str  # warmup, cooldown, decay, constant, minimum, anneal
    shape: Shape
    start: float  # tokens
    end: float  # tokens; the last phase also holds after its end
    initial: float  # learning rate at the start
    final: float  # learning rate at the end
    alpha: float = 10.0

    def rate(self, tokens: float) -> float:
        """Return the learning rate at ``tokens``; outside the phase, the value at the nearer end."""
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
    """Contiguous phases. After the last one, its final value holds."""

    kind: str
    phases: tuple[Phase, ...]
    began: float | None = None  # tokens at which the series of an autoregressive schedule began; its base has none
    warm_in: tuple[float, float] | None = None  # tokens between which the rate rises from 0; of one update only

    def rate(self, tokens: float) -> float:
        """Return the learning rate after ``tokens`` tokens of the trunk."""
        rate = self.phase(tokens).rate(tokens)
        if self.warm_in is None or tokens >= self.warm_in[1]:
            return rate
        start, end = self.warm_in
        return rate * max(0.0, tokens - start) / (end - start)

    def phase(self, tokens: float) -> Phase:
        """Return the phase at ``tokens``; at a boundary, the one that ends there."""
        return next((phase for phase in self.phases if tokens <= phase.end), self.phases[-1])

    @property
    def decayed(self) -> bool:
        """Whether the schedule itself decays or stays at η_min: its end is a release, with nothing left to anneal."""
        return self.phases[-1].name in DECAYED

    def to_json(self) -> dict[str, Any]:
        """Return the schedule as JSON types, with ``warm_in`` only if there is one."""
        value = asdict(self)
        return value if self.warm_in else {name: part for name, part in value.items() if name != "warm_in"}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Schedule":
        """Read what ``to_json`` wrote; other keys are ignored."""
        warm_in = tuple(value["warm_in"]) if value.get("warm_in") else None
        return cls(value["kind"], tuple(Phase(**phase) for phase in value["phases"]), value.get("began"), warm_in)


def inverse_sqrt(x: float, alpha: float) -> float:
    """Return h(x) = 1/√(1 + αx) − 1, with h(0) = 0 (Ibrahim et al. 2024, section 7.2)."""
    return 1 / math.sqrt(1 + alpha * x) - 1


CARRIED_ON = ("infinite", "warmup-stable-decay")  # kinds that are laid out once and continued by later updates
DECAYING = ("cosine", "linear", "autoregressive")  # kinds that end low in every update: nothing is left to anneal

Span = tuple[float, float, float]
"""Lineage tokens at the start of an update, at the end of its warmup, and at its end."""


class ScheduleSettings(Settings):
    """Learning-rate schedule of an update, and of its lineage."""

    kind: Literal["infinite", "warmup-stable-decay", "cosine", "linear", "autoregressive", "constant", "auto"] = (
        "infinite"
    )
    """``infinite``: warm up and cool down once in the lineage, then stay constant; a release is annealed on a branch.
    ``warmup-stable-decay``: the same without a cooldown, constant at η_max (Hägele et al. 2024, 2405.18392).
    ``cosine``: re-warm and re-decay in every update. ``linear``: the same with a linear decay to 0 (Bergsma et al.
    2025, 2502.15938). ``autoregressive``: the same with each update's peak taken from one cosine over all updates so
    far (TiC-LM, 2504.02107). ``constant``: stay at ``level`` (baselines of the paper). ``auto``: as `rewarm plan`
    advises."""
    peak: float = Field(default=3e-4, gt=0)
    """η_max, the learning rate at the end of the base's warmup."""
    peak_multiplier: float = Field(default=1.0, gt=0)
    """Factor on η_max when an update re-warms (0.5, 1 and 2 in Ibrahim et al. 2024, section 6.1.2); not in the base. It
    also scales the end of a decay (0.1 of the multiplied peak in the paper), and η_const if the schedule begins in an
    update. It does not scale η_min, at which anneals end."""
    minimum_ratio: float = Field(default=0.1, gt=0, le=1)
    """η_min as a fraction of η_max (0.1 in the paper)."""
    final_ratio: float | None = Field(default=None, ge=0, le=1)
    """Final learning rate of a decay as a fraction of its initial one (with ``autoregressive``, of η_max); null: 0 for
    ``linear``, else ``minimum_ratio``."""
    rewarm: bool = True
    """False, with ``cosine`` and ``linear``: an update does not re-warm, but continues to decay from the trunk's final
    learning rate, or from η_min if that is 0 or unknown (an imported model)."""
    level: Literal["max", "min"] = "max"
    """Level of ``constant``: ``max``: re-warm to η_max, no re-decay; ``min``: stay at η_min, no re-warming (both are
    baselines of Ibrahim et al. 2024, section 6.1.2)."""
    constant_rate: float | None = Field(default=None, gt=0)
    """η_const of the infinite schedule; null: the midpoint of η_max and η_min, as in the paper (1.65e-4)."""
    warmup_share: float = Field(default=0.01, ge=0, lt=1)
    """Warmup T_w as a share of the update's tokens (1 % in the paper; 0 to 2 % made no lasting difference)."""
    cooldown: Literal["cosine", "inverse-sqrt"] = "cosine"
    """Shape of the infinite schedule's cooldown from η_max to η_const."""
    cooldown_share: float = Field(default=0.6, gt=0, le=1)
    """End of the cooldown as a share of the first dataset's tokens (about 60 % in the paper), warmup included."""
    alpha: float = Field(default=10.0, gt=0)
    """α of the inverse square root cooldown, h(x) = 1/√(1 + αx) − 1."""
    warm_in_share: float = Field(default=0.0, ge=0, lt=1, json_schema_extra=ADDED)
    """Share of an update's tokens over which its learning rate rises linearly from 0 to the schedule's if the update
    continues at the trunk's rate with an empty optimizer, whose first steps are otherwise taken at the full rate. No
    effect on an update that warms up by its schedule, or keeps the optimizer's state (``train.keep_optimizer``)."""
    restart: bool = False
    """Restart the schedule in this update instead of continuing the lineage's: ``infinite`` and ``warmup-stable-decay``
    warm up again, ``autoregressive`` begins a new series, and with ``rewarm`` false the update starts at η_min."""

    @model_validator(mode="after")
    def _ordered(self) -> "ScheduleSettings":
        if self.kind == "infinite" and self.cooldown_share <= self.warmup_share:
            raise ValueError(
                f"cooldown_share {self.cooldown_share} must be greater than warmup_share {self.warmup_share}"
            )
        if not self.minimum <= self.constant <= self.peak:
            raise ValueError(
                f"constant_rate {self.constant} must be between η_min {self.minimum} and η_max {self.peak}"
            )
        if not self.rewarm and self.kind not in ("cosine", "linear"):
            raise ValueError(
                f"rewarm false continues to decay from the trunk's learning rate, which kind {self.kind} cannot do: "
                "use cosine or linear (or constant with level min)"
            )
        return self

    @property
    def minimum(self) -> float:
        """η_min."""
        return self.peak * self.minimum_ratio

    @property
    def decays(self) -> bool:
        """Whether an update's schedule itself ends at a low learning rate, so that nothing is annealed."""
        return self.kind in DECAYING or (self.kind == "constant" and self.level == "min")

    @property
    def constant(self) -> float:
        """η_const."""
        return self.constant_rate if self.constant_rate is not None else (self.peak + self.minimum) / 2

    @property
    def decay_ratio(self) -> float:
        """Final learning rate of a decay as a fraction of its initial one."""
        if self.final_ratio is not None:
            return self.final_ratio
        return 0.0 if self.kind == "linear" else self.minimum_ratio


def carried_settings(kind: str) -> tuple[str, ...]:
    """Return the settings that lay out a schedule of ``CARRIED_ON``: later updates ignore changes of them."""
    common = ("peak", "peak_multiplier", "minimum_ratio", "warmup_share")
    return (*common, "constant_rate", "cooldown", "cooldown_share", "alpha") if kind == "infinite" else common


def schedule_for(
    settings: ScheduleSettings,
    position: int,
    tokens: int,
    before: Schedule | None,
    imported: bool = False,
    reset: bool = True,
) -> Schedule:
    """Return the schedule of an update that trains ``tokens`` tokens from ``position``.

    ``before`` is the trunk's last schedule, or None if the lineage has trained nothing: then this is the base, or
    (``imported``) the first update of a model that was trained elsewhere. ``reset``: with an empty optimizer.
    """
    found = replace(laid_out(settings, position, tokens, before, imported), warm_in=None)
    first = found.phases[0]
    if not reset or not settings.warm_in_share or (first.name == "warmup" and first.start == position):
        return found
    return replace(found, warm_in=(float(position), position + settings.warm_in_share * tokens))


def laid_out(
    settings: ScheduleSettings, position: int, tokens: int, before: Schedule | None, imported: bool
) -> Schedule:
    """Return the phases of an update's schedule (``schedule_for``)."""
    assert settings.kind != "auto", "the plan resolves auto before an update begins"
    begins = before is None and not imported
    if begins:
        settings = settings.model_copy(update={"peak_multiplier": 1.0, "rewarm": True})
    carried = before if before is not None and before.kind == settings.kind and not settings.restart else None
    if carried is not None and settings.kind in CARRIED_ON:
        return carried
    span = (float(position), position + settings.warmup_share * tokens, float(position + tokens))
    if settings.kind in CARRIED_ON:
        return infinite(settings, span)
    if settings.kind == "constant":
        return constant(settings, span, begins)
    if settings.kind == "autoregressive":
        series = span[0] if carried is None or carried.began is None else carried.began
        return autoregressive(settings, span, None if begins else series)
    if settings.rewarm:
        return Schedule(settings.kind, decaying(settings, span, settings.peak * settings.peak_multiplier))
    ended = before.rate(position) if before is not None and not settings.restart else 0.0
    return Schedule(settings.kind, (decay(settings, span[0], span[2], ended or settings.minimum),))


def decay(settings: ScheduleSettings, start: float, end: float, initial: float, final: float | None = None) -> Phase:
    """Return the decay from ``initial`` in the kind's shape to ``final`` (default: ``decay_ratio`` of ``initial``)."""
    shape: Shape = "linear" if settings.kind == "linear" else "cosine"
    return Phase("decay", shape, start, end, initial, initial * settings.decay_ratio if final is None else final)


def decaying(settings: ScheduleSettings, span: Span, peak: float, final: float | None = None) -> tuple[Phase, Phase]:
    """Return a warmup to ``peak`` and a decay to the end (Ibrahim et al. 2024, section 4.1)."""
    start, warm, end = span
    return Phase("warmup", "linear", start, warm, 0.0, peak), decay(settings, warm, end, peak, final)


def infinite(settings: ScheduleSettings, span: Span) -> Schedule:
    """Return a warmup (and cooldown), then a constant rate that later updates continue (section 7.2)."""
    start, warm, end = span
    peak = settings.peak * settings.peak_multiplier
    warmup = Phase("warmup", "linear", start, warm, 0.0, peak)
    if settings.kind == "warmup-stable-decay":
        return Schedule(settings.kind, (warmup, Phase("constant", "constant", warm, end, peak, peak)))
    cold, rate = start + settings.cooldown_share * (end - start), settings.constant * settings.peak_multiplier
    cooldown = Phase("cooldown", settings.cooldown, warm, cold, peak, rate, settings.alpha)
    return Schedule(settings.kind, (warmup, cooldown, Phase("constant", "constant", cold, max(end, cold), rate, rate)))


def constant(settings: ScheduleSettings, span: Span, begins: bool) -> Schedule:
    """Return a constant rate: η_max after a warmup, or η_min without; random weights (``begins``) always warm up."""
    start, warm, end = span
    if settings.level == "max":
        name, rate = "constant", settings.peak * settings.peak_multiplier
    else:
        name, rate = "minimum", settings.minimum
    if settings.level == "min" and not begins:
        return Schedule(settings.kind, (Phase(name, "constant", start, end, rate, rate),))
    warmup = Phase("warmup", "linear", start, warm, 0.0, rate)
    return Schedule(settings.kind, (warmup, Phase(name, "constant", warm, end, rate, rate)))


def autoregressive(settings: ScheduleSettings, span: Span, began: float | None) -> Schedule:
    """Re-warm and re-decay; the peak is the value, at the update's start, of one cosine from ``began`` to its end.

    The rule of TiC-LM (2504.02107, its training code): with P tokens in the series before this update and T in it,
    ``η_end + (η_max − η_end)/2 · (1 + cos(π·P/(P + T)))``. There, warmups count neither in P nor in T, which does not
    change P/(P + T) if every update has the same warmup share. The base is not part of the series.
    """
    start, _, end = span
    peak = settings.peak * settings.peak_multiplier
    final = peak * settings.decay_ratio
    if began is not None:
        peak = decay(settings, began, end, peak).rate(start)
    return Schedule(settings.kind, decaying(settings, span, peak, final), began)
