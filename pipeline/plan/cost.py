"""Predicted tokens, time and cost of an update, from measurements of the last one or given figures. Pure functions."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from pydantic import TypeAdapter

from rewarm.pipeline.recipe.settings import CostSettings
from rewarm.pipeline.record import Cost, Plan, UpdateRecord
from rewarm.stages.data.mixture import MAX_DENOMINATOR, branch_steps, steps_for, trunk_steps

START_SECONDS = 60.0  # of what training takes beside its steps, so much is the start of workers; the rest grows
CHECKPOINT_BYTES = 16  # a parameter: weights and their fp32 copy (4 + 4, at most), Adam's two moments (8)
HOUR, GIGABYTE = 3600.0, 1e9
PLANS = TypeAdapter(Plan)
COMPARED = ("tokens", "steps", "seconds", "hours", "cost", "currency")


@dataclass(frozen=True)
class History:
    """Measurements of the lineage's last trained update."""

    update: str
    tokens: int  # of the trunk
    steps: int
    annealed: int  # tokens
    tokens_per_second: float
    world_size: int
    seconds: Mapping[str, float]  # by stage
    text_bytes: int  # it ingested
    validation_tokens: int  # it was evaluated on, of all datasets


@dataclass(frozen=True)
class Work:
    """One update's dimensions."""

    tokens: int  # of the arrival's training split
    text_bytes: int
    validation_tokens: int  # of the arrival and all earlier datasets
    share: float  # of replay; 0 if there is nothing to replay
    budget: int | None
    anneal_share: float
    seq_len: int
    global_batch: int
    workers: int
    scales: bool  # whether speed grows with the workers; on CPUs they share one machine
    inside: Fraction = Fraction(0)  # share of the tokens that the trunk leaves to the branch; 0: it is trained on top


@dataclass(frozen=True)
class Speed:
    """Tokens per second of all workers together, and the source of that figure."""

    tokens_per_second: float | None
    because: str


@dataclass(frozen=True)
class Forecast:
    """Prediction for an update."""

    tokens: dict[str, int]  # new, replayed, annealed
    steps: int
    seconds: dict[str, float]  # by stage, as far as it is known
    hours: float | None  # of all those stages; null if the training speed is unknown
    cost: float | None
    currency: str
    workers: int
    tokens_per_second: float | None
    because: str  # where the speed comes from
    notes: list[str] = field(default_factory=list)


def speed(history: History | None, workers: int, scales: bool, settings: CostSettings) -> Speed:
    """Return the training speed; a given speed takes precedence over a measured one."""
    if settings.tokens_per_second is not None:
        value = settings.tokens_per_second * workers
        return Speed(value, f"cost.tokens_per_second = {settings.tokens_per_second:g} a worker, {workers} workers")
    if history is None or not history.tokens_per_second:
        return Speed(None, "this lineage has not trained an update yet; set cost.tokens_per_second (per worker)")
    measured = f"{history.tokens_per_second:,.0f} tokens/s measured in {history.update}, {history.world_size} workers"
    if not scales or workers == history.world_size:
        return Speed(history.tokens_per_second, measured)
    value = history.tokens_per_second / history.world_size * workers
    return Speed(value, f"{measured}, scaled to {workers}")


def amounts(work: Work) -> tuple[int, dict[str, int]]:
    """Return steps, and new, replayed and annealed tokens, in whole global batches as replay makes them.

    No step at all if the arrival or the budget does not fill one batch. What earlier updates owe of replay (less than
    a sequence) is not counted.
    """
    sequences = max(0, (work.tokens - 1) // work.seq_len)
    steps = steps_for(sequences, None if work.budget is None else work.budget // work.seq_len, work.global_batch)
    if work.inside:
        steps, total = trunk_steps(steps, work.inside), steps
        annealed = min(total - steps, branch_steps(steps, work.inside))
    else:
        annealed = round(work.anneal_share * steps)
    places = steps * work.global_batch
    share = Fraction(work.share).limit_denominator(MAX_DENOMINATOR)
    replayed = places * share.numerator // share.denominator
    counts = {"new": places - replayed, "replayed": replayed, "annealed": annealed * work.global_batch}
    return steps, {name: count * work.seq_len for name, count in counts.items()}


def forecast(work: Work, history: History | None, settings: CostSettings) -> Forecast:
    """Predict the tokens, steps, hours and cost of an update.

    Training: tokens over speed, and what the last update's training took besides its steps (starting workers, looks at
    validation, checkpoints), of which all above ``START_SECONDS`` grows with the tokens. Ingest and tokenize grow with
    the bytes of text, evaluation with the validation tokens of all datasets.
    """
    steps, tokens = amounts(work)
    rate = speed(history, work.workers, work.scales, settings)
    seconds: dict[str, float] = {}
    notes = []
    if not steps:
        notes.append(
            f"the arrival (about {work.tokens:,} tokens) or the budget does not fill one step of "
            f"{work.global_batch * work.seq_len:,} tokens: add data or lower train.global_batch"
        )
    if history is not None:
        seconds |= data_seconds(work, history)
    if rate.tokens_per_second:
        trunk = tokens["new"] + tokens["replayed"]
        for stage, amount, before in (
            ("train", trunk, history.tokens if history else 0),
            ("anneal", tokens["annealed"], history.annealed if history else 0),
        ):
            if amount:
                beside = overhead(stage, before, amount, history) if history else 0.0
                seconds[stage] = amount / rate.tokens_per_second + beside
        if history is None:
            notes.append("only training is counted: the other stages have not been measured by an update yet")
    if history is not None and history.validation_tokens and "evaluate" in history.seconds:
        seconds["evaluate"] = history.seconds["evaluate"] * work.validation_tokens / history.validation_tokens
    hours = sum(seconds.values()) / HOUR if rate.tokens_per_second else None
    return Forecast(
        tokens,
        steps,
        {stage: round(value, 1) for stage, value in seconds.items()},
        hours,
        price(hours, work.workers, settings),
        settings.currency,
        work.workers,
        rate.tokens_per_second,
        rate.because,
        notes,
    )


def data_seconds(work: Work, history: History) -> dict[str, float]:
    """Seconds of ingest, tokenize and replay; the last does not depend on the amount."""
    growth = work.text_bytes / history.text_bytes if history.text_bytes else 1.0
    found = {stage: total(history.seconds, stage) for stage in ("ingest", "tokenize", "replay")}
    return {stage: value * (growth if stage != "replay" else 1.0) for stage, value in found.items() if value}


def total(seconds: Mapping[str, float], stage: str) -> float:
    """Seconds of a stage, whose name may be followed by a dataset's."""
    return sum(value for name, value in seconds.items() if name.partition(" ")[0] == stage)


def overhead(stage: str, before: int, now: int, history: History) -> float:
    """Seconds that training takes besides its steps."""
    if not before or stage not in history.seconds or not history.tokens_per_second:
        return 0.0
    idle = max(0.0, history.seconds[stage] - before / history.tokens_per_second)
    start = min(idle, START_SECONDS)
    return start + (idle - start) * now / before


def price(hours: float | None, workers: int, settings: CostSettings) -> float | None:
    """Return the cost of the workers for a time; None if the hours or the price are unknown."""
    if hours is None or settings.per_worker_hour is None:
        return None
    return hours * workers * settings.per_worker_hour


def retraining(
    position: int, imported: bool, planned: int, rate: float | None, workers: int, settings: CostSettings
) -> dict[str, Any]:
    """Training from random weights on everything so far and the arrival: tokens, hours and cost of training alone.

    The tokens are those that the trunk has trained (``position``), those of an imported base where they are given, and
    the update's own: the "joint" of Ibrahim et al. 2024, at the compute that the lineage has spent.
    """
    if imported and settings.base_tokens is None:
        unknown = "the base was trained elsewhere; set cost.base_tokens to the tokens it was trained on"
        return {"tokens": None, "hours": None, "cost": None, "because": unknown}
    elsewhere = (settings.base_tokens or 0) if imported else 0
    tokens = elsewhere + position + planned
    hours = tokens / rate / HOUR if rate else None
    because = "all tokens of the lineage and of this update, trained from random weights"
    return {"tokens": tokens, "hours": hours, "cost": price(hours, workers, settings), "because": because}


def storage(
    tokens: int, token_bytes: int, stored_text: float, weights: int, parameters: int, keep: int, settings: CostSettings
) -> dict[str, float | None]:
    """Bytes that the update leaves, those it needs for a while, and the price of the former for a month.

    ``tokens`` of the arrival (all splits), ``stored_text`` bytes of its document shards, ``weights`` of one model.
    """
    parts = {"tokens": float(tokens * token_bytes), "documents": stored_text, "models": 2.0 * weights}
    lasting = sum(parts.values())
    month = None if settings.per_gb_month is None else lasting / GIGABYTE * settings.per_gb_month
    checkpoints = float(CHECKPOINT_BYTES * parameters * keep)
    return {**parts, "lasting": lasting, "checkpoints": checkpoints, "per_month": month}


def plan_kept(plan: Mapping[str, Any]) -> Plan:
    """Return the parts of a plan that the update's record keeps: reasons and predictions."""
    kept = {name: plan[name] for name in ("shift", "choices", "retrain")}
    return PLANS.validate_python({**kept, "predicted": {name: plan[name] for name in COMPARED}})


def cost_of(update: UpdateRecord, settings: CostSettings) -> Cost:
    """Return the actual cost of an update: all attempts of its steps, times the workers of its training."""
    hours = sum(update.seconds.values()) / HOUR
    workers = update.train.world_size if update.train else 0
    return Cost(hours, price(hours, workers, settings), settings.currency)
