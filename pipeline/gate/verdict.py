"""The rule by which a candidate is released or refused. Pure: comparisons in, a verdict with its reasons out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline.gate.settings import GateSettings
from pipeline.gate.statistics import Paired, holm

Kind = Literal["loss", "order", "task"]
Role = Literal["old", "new"]
LOSS_METRIC = "nats/token"
ORDER_METRIC = "word order"
FEWEST = 10  # documents from which on a test decides whether an arrival was learned; below, the estimate alone does


@dataclass(frozen=True)
class Comparison:
    """Candidate and current release on one dataset's validation split, or on one lm-eval task.

    Of the kind ``order`` it is the candidate and chance, on the order of words of one arrival.
    """

    kind: Kind
    name: str  # of the dataset or the task
    metric: str
    role: Role  # "new": of what arrived with this update
    paired: Paired


@dataclass(frozen=True)
class Check:
    """One comparison, and whether it lets the candidate pass."""

    kind: Kind
    name: str
    metric: str
    role: Role
    candidate: float
    current: float
    change: float  # candidate − current: a loss is better where it is negative, the others where it is positive
    limit: float | None  # how much worse the candidate may be (order: the least it must reach); None: as it likes
    p: float | None
    p_adjusted: float | None  # None where the test does not decide
    n: int  # documents or questions
    passed: bool
    because: str


@dataclass(frozen=True)
class Verdict:
    """What ``update.json`` keeps of the gate."""

    passed: bool
    against: str  # the release that was current
    alpha: float
    correction: str
    because: list[str]  # why it was refused, or that all checks passed; then what was not compared
    checks: list[Check]


def decide(comparisons: Sequence[Comparison], settings: GateSettings, against: str, notes: Sequence[str]) -> Verdict:
    """Pass the candidate unless a check refuses it.

    - *Old data*: refused where the loss on an earlier dataset rose by more than its limit (``max_forgetting``), and the
      paired test says that it rose at all (adjusted p ≤ ``alpha``). Of a single document there is no test; the
      estimate decides alone.
    - *New data*, with ``require_learning``: refused unless the loss on the arrival's validation split fell, and the
      test says so. With fewer than ``FEWEST`` documents the estimate decides alone.
    - *Order*, with ``min_order``: refused where the candidate prefers the arrival's own order of words to three
      shuffles of it in less than that share of the excerpts, or in no more than chance would give: then the words
      arrived in no order, or nothing of it was learned, whatever became of the loss. Few excerpts: as with new data.
    - *Tasks*: refused where a score fell by more than ``max_task_drop``, and the test says that it fell at all.

    p-values are adjusted (``correction``) over the tests that decide; comparisons without a limit are not counted.
    With Holm's correction and limits of 0, a candidate that is nowhere worse than the current release is refused for
    forgetting with a probability of at most ``alpha``, however many datasets and tasks there are; wider limits refuse
    less often.
    """
    limits = [limit_of(one, settings) for one in comparisons]
    tests = {number: one.paired.p for number, one in enumerate(comparisons) if limits[number] is not None}
    values = {number: p for number, p in tests.items() if p is not None and is_tested(comparisons[number])}
    corrected = holm(list(values.values())) if settings.correction == "holm" else values.values()
    adjusted = dict(zip(values, corrected, strict=True))
    checks = [
        check(one, limits[number], adjusted.get(number), settings.alpha) for number, one in enumerate(comparisons)
    ]
    refused = [f"{one.name}: {one.because}" for one in checks if not one.passed]
    summary = f"{len(checks)} of {len(checks)} checks passed" if checks else "there was nothing to compare"
    return Verdict(
        passed=not refused,
        against=against,
        alpha=settings.alpha,
        correction=settings.correction,
        because=[*(refused or [summary]), *notes],
        checks=checks,
    )


def limit_of(one: Comparison, settings: GateSettings) -> float | None:
    """How much worse the candidate may be, or how well it must do on the order of words; None: as it likes."""
    if one.kind == "task":
        return settings.max_task_drop
    if one.kind == "order":
        return settings.min_order
    if one.role == "new":
        return 0.0 if settings.require_learning else None
    return settings.forgetting_limit(one.name)


def is_tested(one: Comparison) -> bool:
    """Whether the test decides beside the estimate: always, but for arrivals of few documents."""
    return one.kind == "task" or one.role == "old" or one.paired.n >= FEWEST


def check(one: Comparison, limit: float | None, adjusted: float | None, alpha: float) -> Check:
    """Judge one comparison; ``adjusted`` is the p-value that decides, None where the estimate does so alone."""
    significant = adjusted is None or adjusted <= alpha
    chance = "" if adjusted is None else f" (p {adjusted:.2g})"
    found = one.paired
    if limit is None:
        passed, because = True, f"{found.change:+.3f}; no limit is set"
    elif one.kind == "loss" and one.role == "new":
        passed, because = learned(found, significant, chance)
    elif one.kind == "order":
        passed, because = ordered(found, limit, significant, chance)
    else:
        worse = found.change if one.kind == "loss" else -found.change
        what = "forgets" if one.kind == "loss" else "falls by"
        passed = not (worse > limit and significant)
        if not passed:
            because = f"{what} {worse:.3f}, more than {limit:g}{chance}"
        elif worse > limit:
            because = f"{what} {worse:.3f}, more than {limit:g}, which may be chance{chance}"
        else:
            because = f"{found.change:+.3f}, within the limit of {limit:g}"
    return Check(
        one.kind,
        one.name,
        one.metric,
        one.role,
        found.candidate,
        found.current,
        found.change,
        limit,
        found.p,
        adjusted,
        found.n,
        passed,
        because,
    )


def learned(found: Paired, significant: bool, chance: str) -> tuple[bool, str]:
    """Whether an arrival's loss fell, and the reason."""
    if found.change >= 0:
        return False, f"was not learned: {found.change:+.3f}{chance}"
    if not significant:
        return False, f"was not learned: {found.change:+.3f}, which may be chance{chance}"
    return True, f"learned: {found.change:+.3f}{chance}"


def ordered(found: Paired, limit: float, significant: bool, chance: str) -> tuple[bool, str]:
    """Whether the order of an arrival's words was learned, and the reason."""
    share = f"in {found.candidate:.2f} of {found.n} excerpts, {found.current:g} is chance{chance}"
    if found.candidate < limit or not significant:
        return False, f"its own order of words is preferred {share}, {limit:g} is asked for: the words may be shuffled"
    return True, f"its own order of words is preferred {share}"
