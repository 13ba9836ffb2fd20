"""The rule by which a candidate is released, refused or held. Pure: comparisons in, a verdict with its reasons out."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from rewarm.pipeline.gate.statistics import Estimate, holm
from rewarm.pipeline.recipe.settings import GateSettings

Kind = Literal["loss", "best", "order", "task"]
Role = Literal["old", "new"]
Outcome = Literal["passed", "refused", "undecided"]  # of a check
Ruling = Literal["passed", "refused", "held"]  # of all of them
LOSS_METRIC = "nats/token"
ORDER_METRIC = "word order"


@dataclass(frozen=True)
class Comparison:
    """Candidate and current release on one dataset's validation split, or on one lm-eval task.

    Of the kind ``order`` it is the candidate and chance, on the order of words of one arrival; of the kind ``best`` the
    candidate and the best release so far, on an earlier dataset.
    """

    kind: Kind
    name: str  # of the dataset or the task
    metric: str
    role: Role  # "new": of what arrived with this update
    estimate: Estimate | None  # None: it could not be measured
    missing: str = ""  # why it could not
    best: str = ""  # of the kind "best": the release
    generated: bool = False  # a task made from a dataset's validation documents, on which its loss is measured too


@dataclass(frozen=True)
class Check:
    """One comparison, and whether it lets the candidate pass."""

    kind: Kind
    name: str
    metric: str
    role: Role
    candidate: float | None
    current: float | None
    change: float | None  # candidate − current: a loss is better where it is negative, the others where it is positive
    limit: float | None  # how much worse the candidate may be (order: the least it must reach); None: as it likes
    p: float | None  # of doing no more harm than the limit; of having learned nothing (new data)
    p_adjusted: float | None  # None if the test is not corrected
    n: int  # documents or questions
    units: int  # independent ones among them: sites, documents, questions
    worth: float | None  # how many units of equal size those are worth
    detectable: float | None  # minimum detectable effect, in the unit of ``change``; None: no finite one
    outcome: Outcome
    passed: bool  # whether it is decided in the candidate's favour
    because: str
    counts: bool = True  # whether the verdict waits for it if it is undecided


@dataclass(frozen=True)
class Verdict:
    """What ``update.json`` keeps of the gate."""

    passed: bool
    against: str  # the release that was current
    alpha: float
    correction: str
    because: list[str]  # why it was refused or held, or that all checks passed; then what was not compared
    checks: list[Check]
    outcome: Ruling = "passed"
    power: float | None = None
    undecided: list[str] = field(default_factory=list)  # the checks that could not decide, promoted or not


@dataclass(frozen=True)
class Test:
    """What the statistics say of one comparison with a limit."""

    p: float | None  # against the candidate (harm), or for it (learning, order): small is evidence
    adjusted: float | None
    detectable: float | None


def decide(comparisons: Sequence[Comparison], settings: GateSettings, against: str, notes: Sequence[str]) -> Verdict:
    """Refuse the candidate if a check refuses it, hold it if one cannot decide, else pass it.

    *Guards against harm*: the loss on each earlier dataset against the current release (limit ``max_forgetting``) and
    against the best release so far (``max_forgetting_since_best`` times that), and the score of each task
    (``max_task_drop``). A guard refuses if the harm is beyond its limit, and beyond chance: the test is of "more than
    the limit", its p-values are corrected over all guards (``correction``). A candidate that harms nothing by more than
    the limits is refused with a probability of at most ``alpha``, however many guards there are.

    *What must be shown*: that the loss on the arrival fell (``require_learning``), and that the candidate prefers the
    arrival's own order of words to three shuffles of it, in ``min_order`` of the excerpts and more often than chance.
    Each is tested by itself at ``alpha``, uncorrected: one more earlier dataset refuses no healthy arrival. What is not
    shown refuses if the check could have shown it (learning: ``min_learning``; order: ``min_order``).

    *Undecided* is a check whose minimum detectable effect is beyond its limit (at ``power``, and at the level that the
    correction leaves), unless its estimate is clear: beyond chance on either side of the limit. A guard with a limit
    of 0 asks for no rise beyond chance, which any number of documents decides. A task that is generated from a dataset
    holds nothing up: the loss on the same documents sees more, and speaks for both.
    """
    limits = [limit_of(one, settings) for one in comparisons]
    guards = [number for number, one in enumerate(comparisons) if limits[number] is not None and is_guard(one)]
    values = {number: p for number in guards if (p := harm_p(comparisons[number], limits[number])) is not None}
    corrected = holm(list(values.values())) if settings.correction == "holm" else values.values()
    adjusted = dict(zip(values, corrected, strict=True))
    level = settings.alpha / max(1, len(guards)) if settings.correction == "holm" else settings.alpha
    checks = [
        check(one, limits[number], adjusted.get(number), level if number in guards else settings.alpha, settings)
        for number, one in enumerate(comparisons)
    ]
    return conclude(checks, settings, against, notes)


def conclude(checks: list[Check], settings: GateSettings, against: str, notes: Sequence[str]) -> Verdict:
    """The verdict on all checks."""
    refused = [reason(one) for one in checks if one.outcome == "refused"]
    waiting = [one for one in checks if one.outcome == "undecided" and one.counts]
    undecided = [f"{reason(one)}: undecided" for one in waiting]
    held = waiting if settings.undecided == "hold" else [one for one in waiting if not within(one)]
    outcome: Ruling
    if refused:
        outcome, because = "refused", [*refused, *undecided]
    elif held:
        outcome, because = "held", undecided
    else:
        decided = sum(one.outcome == "passed" for one in checks)
        summary = f"{decided} of {len(checks)} checks passed" if checks else "there was nothing to compare"
        if covered := sum(one.outcome == "undecided" and not one.counts for one in checks):
            summary += f"; {covered} generated tasks saw too little, and the losses on their documents decide"
        outcome, because = "passed", [summary, *undecided]
    return Verdict(
        passed=outcome == "passed",
        against=against,
        alpha=settings.alpha,
        correction=settings.correction,
        because=[*because, *notes],
        checks=checks,
        outcome=outcome,
        power=settings.power,
        undecided=[f"{one.kind} {one.name}" for one in waiting],
    )


def reason(one: Check) -> str:
    """A check's reason under its name."""
    return f"{one.name}: {one.because}"


def within(one: Check) -> bool:
    """Whether the estimate of an undecided check is on the right side of its limit."""
    if one.change is None or one.candidate is None or one.limit is None:
        return False
    if one.kind == "order":
        return one.candidate >= one.limit
    if one.role == "new" and one.kind == "loss":
        return one.change < 0
    return (one.change if one.kind != "task" else -one.change) <= one.limit


def is_guard(one: Comparison) -> bool:
    """Whether a comparison guards against harm; the others must be shown."""
    return one.kind in ("task", "best") or (one.kind == "loss" and one.role == "old")


def limit_of(one: Comparison, settings: GateSettings) -> float | None:
    """How much worse the candidate may be, or how well it must do on the order of words; None: as it likes."""
    if one.kind == "task":
        return settings.task_limit(one.name)
    if one.kind == "order":
        return settings.min_order
    if one.role == "new":
        return 0.0 if settings.require_learning else None
    limit = settings.forgetting_limit(one.name)
    if one.kind == "best":
        times = settings.max_forgetting_since_best
        return None if limit is None or times is None else limit * times
    return limit


def harm_p(one: Comparison, limit: float | None) -> float | None:
    """p of harm within the limit; None if that was not measured or cannot be told."""
    if one.estimate is None or limit is None:
        return None
    estimate, task = one.estimate, one.kind == "task"
    return estimate.p_below(-limit, cautious=True) if task else estimate.p_above(limit, cautious=True)


def check(one: Comparison, limit: float | None, adjusted: float | None, level: float, settings: GateSettings) -> Check:
    """Judge one comparison; ``level`` is that of its test after the correction."""
    found = one.estimate
    test = Test(None, None, None)
    outcome: Outcome = "passed"
    if limit is None:
        because = f"{found.change:+.3f}; no limit is set" if found else f"{one.missing}; no limit is set"
    elif found is None:
        outcome, because = "undecided", one.missing
    elif is_guard(one):
        bound = -limit if one.kind == "task" else limit
        test = Test(harm_p(one, limit), adjusted, found.detectable(level, settings.power, bound, cautious=True))
        outcome, because = guard(one, limit, test, settings)
        if outcome == "undecided" and one.generated:
            because += "; the loss on the same documents decides"
    elif one.kind == "order":
        test = Test(found.p_above(0.0), None, found.detectable(level, settings.power))
        outcome, because = ordered(found, limit, test, settings)
    else:
        test = Test(found.p_below(0.0), None, found.detectable(level, settings.power))
        outcome, because = learned(found, test, settings)
    return Check(
        kind=one.kind,
        name=one.name,
        metric=one.metric,
        role=one.role,
        candidate=found.candidate if found else None,
        current=found.current if found else None,
        change=found.change if found else None,
        limit=limit,
        p=test.p,
        p_adjusted=test.adjusted,
        n=found.n if found else 0,
        units=found.units if found else 0,
        worth=round(found.worth, 2) if found else None,
        detectable=test.detectable,
        outcome=outcome,
        passed=outcome == "passed",
        because=because,
        counts=not one.generated,
    )


def guard(one: Comparison, limit: float, test: Test, settings: GateSettings) -> tuple[Outcome, str]:
    """Whether harm is within its limit, and the reason."""
    found = one.estimate
    assert found is not None
    task = one.kind == "task"
    worse = -found.change if task else found.change
    what = "falls by" if task else "forgets"
    since = f" since {one.best}, the best release so far" if one.kind == "best" else ""
    chance = "" if test.adjusted is None else f" (p {test.adjusted:.2g})"
    clear = found.p_above(-limit) if task else found.p_below(limit)
    if test.adjusted is not None and test.adjusted <= settings.alpha:
        return "refused", f"{what} {worse:.3f}{since}, more than {limit:g}{chance}"
    if clear is not None and (clear <= settings.alpha or limit == 0 or sees(test, limit)):
        if worse > limit:
            return "passed", f"{what} {worse:.3f}{since}, more than {limit:g}, which may be chance{chance}"
        return "passed", f"{found.change:+.3f}{since}, within the limit of {limit:g}"
    moved = f"{what} {worse:.3f}" if worse > 0 else f"{found.change:+.3f}"
    return "undecided", f"{moved}{since}, the limit is {limit:g}: {blind(found, test)}"


def learned(found: Estimate, test: Test, settings: GateSettings) -> tuple[Outcome, str]:
    """Whether an arrival's loss fell, and the reason."""
    if test.p is not None and test.p <= settings.alpha:
        return "passed", f"learned: {found.change:+.3f} (p {test.p:.2g})"
    nothing = found.p_above(-settings.min_learning, cautious=True)
    if nothing is not None and (nothing <= settings.alpha or sees(test, settings.min_learning)):
        chance = ", which may be chance" if found.change < 0 else ""
        return "refused", f"was not learned: {found.change:+.3f}{chance} (p {test.p:.2g})"
    return "undecided", f"changed by {found.change:+.3f}, which may be chance: {blind(found, test)}"


def ordered(found: Estimate, limit: float, test: Test, settings: GateSettings) -> tuple[Outcome, str]:
    """Whether the order of an arrival's words was learned, and the reason."""
    share = f"in {found.candidate:.2f} of {found.n} excerpts, {found.current:g} is chance (p {test.p:.2g})"
    if found.candidate >= limit and test.p is not None and test.p <= settings.alpha:
        return "passed", f"its own order of words is preferred {share}"
    short = found.p_below(limit - found.current)
    if (short is not None and short <= settings.alpha) or sees(test, limit - found.current):
        return (
            "refused",
            f"its own order of words is preferred {share}, {limit:g} is asked for: the words may be shuffled",
        )
    return "undecided", f"its own order of words is preferred {share}, {limit:g} is asked for: {blind(found, test)}"


def sees(test: Test, effect: float) -> bool:
    """Whether the test finds an effect with the power that is asked for."""
    return test.detectable is not None and test.detectable <= effect


def blind(found: Estimate, test: Test) -> str:
    """How little a test can see, in words."""
    worth = f", worth {found.worth:.1f} of equal size" if found.worth < 0.9 * found.units else ""
    units = f"{found.units} independent units among {found.n}" if found.units != found.n else f"{found.n} of them"
    effect = "nothing" if test.detectable is None else f"{test.detectable:.2g} or more"
    return f"{units}{worth} can show {effect}"
