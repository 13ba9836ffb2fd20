"""The rule that releases, refuses or holds a candidate: a pure function from comparisons to a verdict with reasons."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from rewarm.pipeline.gate.statistics import Estimate, holm
from rewarm.pipeline.recipe.settings import GateSettings

Kind = Literal["loss", "best", "order", "task"]
Role = Literal["old", "new"]
Outcome = Literal["passed", "refused", "undecided"]  # outcome of one check
Ruling = Literal["passed", "refused", "held"]  # outcome of the gate
LOSS_METRIC = "nats/token"
ORDER_METRIC = "word order"
FEW_UNITS = 46  # and fewer: whether their changes are very skewed cannot be seen in them
SKEWED = "16 %"  # of releases at their limit refused at alpha 0.05, by 12 units of lognormal changes and lengths


@dataclass(frozen=True)
class Comparison:
    """The candidate compared with the current release, on one dataset's validation split or one lm-eval task.

    The kind ``order`` compares the candidate with chance, on the word order of one arrival; the kind ``best`` compares
    it with the best release so far, on an earlier dataset.
    """

    kind: Kind
    name: str  # dataset or task
    metric: str
    role: Role  # "new": of this update's arrival
    estimate: Estimate | None  # None: it could not be measured
    missing: str = ""  # why it could not be measured
    best: str = ""  # for the kind "best": the id of that release
    generated: bool = False  # a task generated from a dataset's validation documents, which also have a loss


@dataclass(frozen=True)
class Check:
    """One comparison with its limit, and its outcome."""

    kind: Kind
    name: str
    metric: str
    role: Role
    candidate: float | None
    current: float | None
    change: float | None  # candidate − current: negative is better for losses, positive for scores
    limit: float | None  # how much worse the candidate may be (order: the least it must reach); None: no limit
    p: float | None  # of no more harm than the limit; on new data, of having learned nothing
    p_adjusted: float | None  # None if the test is not corrected
    n: int  # documents or questions
    units: int  # independent units among them: sites, documents, questions
    worth: float | None  # effective number of units of equal size
    detectable: float | None  # minimum detectable effect, in the unit of ``change``; None: not finite
    outcome: Outcome
    passed: bool  # whether it was decided in the candidate's favour
    because: str
    counts: bool = True  # whether the candidate is held if this check is undecided


@dataclass(frozen=True)
class Verdict:
    """The verdict of the gate, as ``update.json`` keeps it."""

    passed: bool
    against: str  # id of the release that was current
    alpha: float
    correction: str
    because: list[str]  # reasons for refusing or holding, or a summary of the checks; then what was not compared
    checks: list[Check]
    outcome: Ruling = "passed"
    power: float | None = None
    undecided: list[str] = field(default_factory=list)  # the checks that could not decide, promoted or not


@dataclass(frozen=True)
class Test:
    """The test of one comparison against its limit."""

    p: float | None  # small is evidence against the candidate (harm), or for it (learning, order)
    adjusted: float | None
    detectable: float | None


def decide(comparisons: Sequence[Comparison], settings: GateSettings, against: str, notes: Sequence[str]) -> Verdict:
    """Refuse the candidate if a check refuses it, hold it if a check is undecided, else pass it.

    *Guards against harm* are the loss on each earlier dataset against the current release (limit ``max_forgetting``)
    and against the best release so far (``max_forgetting_since_best`` times that), and the score of each task
    (``max_task_drop``). A guard refuses if the harm is significantly beyond its limit; its p-values are corrected over
    all guards (``correction``). A candidate that stays within all limits is refused with a probability of at most
    ``alpha``, regardless of the number of guards.

    *Requirements* are that the loss on the arrival fell (``require_learning``), and that the candidate prefers the
    arrival's original word order to three shuffles, in ``min_order`` of the excerpts and more often than chance. Each
    is tested separately at ``alpha``, uncorrected, so a further earlier dataset does not make a healthy arrival fail. A
    requirement that is not met refuses the candidate if the check had the power to show it (learning: ``min_learning``;
    order: ``min_order``).

    *Undecided* is a check whose minimum detectable effect is beyond its limit (at ``power``, and at the level that the
    correction leaves), unless its estimate is significantly on one side of the limit. A guard with a limit of 0
    requires that there is no significant rise, which any number of documents decides. A task that is generated from a
    dataset never holds the candidate: the loss on the same documents has more power and decides for both.
    """
    limits = [limit_of(comparison, settings) for comparison in comparisons]
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
    """Combine all checks into a verdict."""
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
            summary += f"; {covered} generated tasks were too small to decide, so the losses on their documents decide"
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
    """Return a check's reason with its name."""
    return f"{one.name}: {one.because}"


def within(one: Check) -> bool:
    """Return whether the estimate of an undecided check is within its limit."""
    if one.change is None or one.candidate is None or one.limit is None:
        return False
    if one.kind == "order":
        return one.candidate >= one.limit
    if one.role == "new" and one.kind == "loss":
        return one.change < 0
    return (one.change if one.kind != "task" else -one.change) <= one.limit


def is_guard(comparison: Comparison) -> bool:
    """Return whether a comparison guards against harm; the others are requirements."""
    return comparison.kind in ("task", "best") or (comparison.kind == "loss" and comparison.role == "old")


def limit_of(comparison: Comparison, settings: GateSettings) -> float | None:
    """Return how much worse the candidate may be, or the least it must reach on word order; None: no limit."""
    if comparison.kind == "task":
        return settings.task_limit(comparison.name)
    if comparison.kind == "order":
        return settings.min_order
    if comparison.role == "new":
        return 0.0 if settings.require_learning else None
    limit = settings.forgetting_limit(comparison.name)
    if comparison.kind == "best":
        times = settings.max_forgetting_since_best
        return None if limit is None or times is None else limit * times
    return limit


def harm_p(comparison: Comparison, limit: float | None) -> float | None:
    """Return p of harm within the limit; None if it was not measured or has no limit."""
    if comparison.estimate is None or limit is None:
        return None
    estimate, task = comparison.estimate, comparison.kind == "task"
    return estimate.p_below(-limit, cautious=True) if task else estimate.p_above(limit, cautious=True)


def check(
    comparison: Comparison, limit: float | None, adjusted: float | None, level: float, settings: GateSettings
) -> Check:
    """Judge one comparison; ``level`` is the level of its test after the correction."""
    estimate = comparison.estimate
    test = Test(None, None, None)
    outcome: Outcome = "passed"
    if limit is None:
        because = f"{estimate.change:+.3f}; no limit is set" if estimate else f"{comparison.missing}; no limit is set"
    elif estimate is None:
        outcome, because = "undecided", comparison.missing
    elif is_guard(comparison):
        bound = -limit if comparison.kind == "task" else limit
        test = Test(
            harm_p(comparison, limit), adjusted, estimate.detectable(level, settings.power, bound, cautious=True)
        )
        outcome, because = guard(comparison, limit, test, settings)
        if outcome == "undecided" and comparison.generated:
            because += "; the loss on the same documents decides"
    elif comparison.kind == "order":
        test = Test(estimate.p_above(0.0), None, estimate.detectable(level, settings.power))
        outcome, because = ordered(estimate, limit, test, settings)
    else:
        test = Test(estimate.p_below(0.0), None, estimate.detectable(level, settings.power))
        outcome, because = learned(estimate, test, settings)
    return Check(
        kind=comparison.kind,
        name=comparison.name,
        metric=comparison.metric,
        role=comparison.role,
        candidate=estimate.candidate if estimate else None,
        current=estimate.current if estimate else None,
        change=estimate.change if estimate else None,
        limit=limit,
        p=test.p,
        p_adjusted=test.adjusted,
        n=estimate.n if estimate else 0,
        units=estimate.units if estimate else 0,
        worth=round(estimate.worth, 2) if estimate else None,
        detectable=test.detectable,
        outcome=outcome,
        passed=outcome == "passed",
        because=because,
        counts=not comparison.generated,
    )


def guard(comparison: Comparison, limit: float, test: Test, settings: GateSettings) -> tuple[Outcome, str]:
    """Decide whether harm is within its limit; returns the outcome and the reason."""
    estimate = comparison.estimate
    assert estimate is not None
    task = comparison.kind == "task"
    worse = -estimate.change if task else estimate.change
    what = "falls by" if task else "forgets"
    since = f" since {comparison.best}, the best release so far" if comparison.kind == "best" else ""
    chance = "" if test.adjusted is None else f" (p {test.adjusted:.2g})"
    clear = estimate.p_above(-limit) if task else estimate.p_below(limit)
    if test.adjusted is not None and test.adjusted <= settings.alpha:
        remark = "" if task else few(estimate)
        return "refused", f"{what} {worse:.3f}{since}, more than {limit:g}{chance}{remark}"
    if clear is not None and (clear <= settings.alpha or limit == 0 or sees(test, limit)):
        if worse > limit:
            return "passed", f"{what} {worse:.3f}{since}, more than {limit:g}, but not significantly{chance}"
        return "passed", f"{estimate.change:+.3f}{since}, within the limit of {limit:g}"
    moved = f"{what} {worse:.3f}" if worse > 0 else f"{estimate.change:+.3f}"
    return "undecided", f"{moved}{since}, the limit is {limit:g}: {blind(estimate, test)}"


def learned(estimate: Estimate, test: Test, settings: GateSettings) -> tuple[Outcome, str]:
    """Decide whether an arrival was learned; returns the outcome and the reason."""
    if test.p is not None and test.p <= settings.alpha:
        return "passed", f"learned: {estimate.change:+.3f} (p {test.p:.2g})"
    nothing = estimate.p_above(-settings.min_learning, cautious=True)
    if nothing is not None and (nothing <= settings.alpha or sees(test, settings.min_learning)):
        chance = ", not significant" if estimate.change < 0 else ""
        return "refused", f"was not learned: {estimate.change:+.3f}{chance} (p {test.p:.2g})"
    return "undecided", f"changed by {estimate.change:+.3f}, not significant: {blind(estimate, test)}"


def ordered(estimate: Estimate, limit: float, test: Test, settings: GateSettings) -> tuple[Outcome, str]:
    """Decide whether the word order of an arrival was learned; returns the outcome and the reason."""
    preferred = (
        f"prefers the original word order in {estimate.candidate:.2f} of {estimate.n} excerpts, chance is "
        f"{estimate.current:g} (p {test.p:.2g})"
    )
    if estimate.candidate >= limit and test.p is not None and test.p <= settings.alpha:
        return "passed", preferred
    short = estimate.p_below(limit - estimate.current)
    if (short is not None and short <= settings.alpha) or sees(test, limit - estimate.current):
        why = "the words may be shuffled, or the update too short to learn their order"
        return "refused", f"{preferred}, required is {limit:g}: {why}"
    return "undecided", f"{preferred}, required is {limit:g}: {blind(estimate, test)}"


def sees(test: Test, effect: float) -> bool:
    """Return whether the test detects an effect with the required power."""
    return test.detectable is not None and test.detectable <= effect


def few(estimate: Estimate) -> str:
    """Return a remark on the chance that so few units refuse a release that is at its limit; empty if there are more.

    No test of a few values can allow for those that it has not seen (``benchmarks/gate_skewness.py``).
    """
    if estimate.units > FEW_UNITS:
        return ""
    return (
        f"; it has {estimate.units} independent units: by so few, up to {SKEWED} of releases at their limit are "
        "refused where the changes of loss are very skewed"
    )


def blind(estimate: Estimate, test: Test) -> str:
    """Describe the smallest effect that a test can detect, and its sample."""
    worth = f", worth {estimate.worth:.1f} of equal size" if estimate.worth < 0.9 * estimate.units else ""
    units = (
        f"{estimate.units} independent units among {estimate.n}"
        if estimate.units != estimate.n
        else f"{estimate.n} of them"
    )
    effect = "nothing" if test.detectable is None else f"{test.detectable:.2g} or more"
    return f"{units}{worth} can show {effect}"
