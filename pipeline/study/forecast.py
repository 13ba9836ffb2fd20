"""Forecast of the best replay share at full length, from short runs by a mixture law, with the law's error.

The law is fitted to each dataset (``mixture_law.py``), and the share that minimises the user's weighting of the
datasets is searched for between the smallest and the largest share that was tried. The error is measured: runs are
left out of the fit and predicted.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import inf, isfinite, log
from statistics import fmean
from typing import Any

import numpy as np

from rewarm.pipeline.lineage.workspace import TRIAL
from rewarm.pipeline.shift.objective import Standing, choose_best, within
from rewarm.pipeline.study.grid import Trial
from rewarm.pipeline.study.mixture_law import FEWEST_SHARES, Form, Law, Observation, fit, form_for
from rewarm.pipeline.study.results import Study
from rewarm.pipeline.study.trial import StudyWorkspace, read_result
from rewarm.stages.core.errors import UsageError

CANDIDATES = 201  # shares of the curve


@dataclass(frozen=True)
class HeldOut:
    """Absolute errors of the law on points left out of its fit, in nats, over all datasets and points."""

    mean: float
    max: float
    points: int
    datasets: dict[str, float]  # mean by dataset


@dataclass(frozen=True)
class Errors:
    """Errors of the forecast; None if too few points would remain for a fit."""

    fitted: HeldOut
    """On the very points that were fitted: the least of all."""
    runs: HeldOut | None
    """Each run left out in turn, with all of its points: they are not independent of each other."""
    shares: HeldOut | None
    """Each share left out in turn, with all its runs and seeds; the smallest and the largest are extrapolated to."""
    longest: HeldOut | None
    """The longest runs predicted from the shorter ones."""


@dataclass(frozen=True)
class Point:
    """The forecast at one share: losses by dataset and their weighted mean, in nats per token."""

    share: float
    mean: float
    losses: dict[str, float]


@dataclass(frozen=True)
class Forecast:
    """The best share at ``tokens``, and the figures behind it."""

    tokens: float
    weights: dict[str, float]  # they sum to 1
    best: Point
    alike: tuple[float, float]
    """The shares around the best whose mean is within ``error`` of it: those that the forecast cannot tell apart; all
    that were tried if the error is not known."""
    error: float | None
    """To be expected at ``tokens``, in nats: ``expected_error``; None if the runs say nothing of such a length."""
    distance: float
    """How far ``tokens`` is beyond the longest run, in the steps of length that the runs made; 0 within their range."""
    curve: list[Point]
    laws: dict[str, Law]
    errors: Errors
    notes: list[str]

    def to_json(self) -> dict[str, Any]:
        """As JSON types."""
        distance = self.distance if isfinite(self.distance) else None
        return {**asdict(self), "alike": list(self.alike), "distance": distance}


def forecast(
    observations: Sequence[Observation],
    arrivals: Collection[str],
    weights: Mapping[str, float],
    tokens: float,
    shares: Sequence[float] | None = None,
    arrival_cost: float | None = None,
) -> Forecast:
    """Fit the laws and find the share in [0, 1) that minimises the weighted mean loss of an update of ``tokens``.

    Args:
        observations: what study runs had come to: at their ends, or also on the way. Losses on the way compare with
            those of shorter runs only where the learning rate was as far in its schedule.
        arrivals: the datasets that arrive; every other one of ``weights`` is replayed, and grows with the share.
        weights: how much each dataset's loss counts; not negative, scaled to sum to 1.
        tokens: the length of the update that is forecast, new and replayed tokens together.
        shares: the candidates; by default all between the smallest and the largest share observed.
        arrival_cost: the objective's limit, in nats: how far the arrivals' mean loss may be above that without replay.

    Raises:
        UsageError: weights of datasets that were not observed, or observations too few for a law (``form_for``).
    """
    scaled = _scaled(weights, observations)
    used = [
        observation
        for observation in observations
        if all(isfinite(observation.losses.get(name, np.nan)) for name in scaled)
    ]
    form = form_for((one.run, one.share, one.tokens) for one in used)
    if shares is not None and (not shares or not all(0 <= share < 1 for share in shares)):
        raise UsageError(f"forecast: candidate shares {list(shares)}; expected one or more in [0, 1)")
    laws = _fit_all(used, scaled, arrivals, form)
    errors = _errors(used, scaled, arrivals, form, laws)
    tried = sorted({one.share for one in used})
    candidates = np.linspace(tried[0], tried[-1], CANDIDATES) if shares is None else np.array(sorted(shares))
    curve = [_point(laws, scaled, float(share), tokens) for share in candidates]
    free = _point(laws, scaled, 0.0, tokens)

    def standing(point: Point) -> Standing:
        new = [point.losses[name] - free.losses[name] for name in scaled if name in arrivals]
        return Standing(point.mean, fmean(new) if new else None)

    lowest = min(curve, key=lambda point: point.mean)
    chosen = choose_best({number: standing(point) for number, point in enumerate(curve)}, arrival_cost)
    best = curve[chosen or 0]
    if shares is None:
        refined = _refined(laws, scaled, tokens, best, tried)
        best = refined if within(standing(refined), arrival_cost) else best
    distance = steps_beyond(tokens, [one.tokens for one in used])
    doubt = expected_error(errors, distance)
    near = [point.share for point in [*curve, best] if doubt is None or point.mean <= best.mean + doubt]
    notes = _notes(observations, used, form, tokens, best, tried)
    if not within(standing(lowest), arrival_cost):
        notes.append(
            f"without plan.arrival_cost = {arrival_cost:g} nats the share would be {lowest.share:.3f}, whose arrival "
            f"is {standing(lowest).cost:.3f} above that without replay"
            + ("" if tried[0] == 0 else ", by the law: no run was without replay")
        )
    return Forecast(tokens, scaled, best, (min(near), max(near)), doubt, distance, curve, laws, errors, notes)


def steps_beyond(tokens: float, lengths: Sequence[float]) -> float:
    """Return how far a length is outside the observed range, in log steps; 0 inside, infinite for a single length."""
    known = sorted(set(lengths))
    ratio = max(tokens / known[-1], known[0] / tokens)
    if ratio <= 1 + 1e-9:
        return 0.0
    if len(known) < 2:
        return inf
    step = log(known[-1] / known[-2]) if tokens > known[-1] else log(known[1] / known[0])
    return log(ratio) / step


def expected_error(errors: Errors, distance: float) -> float | None:
    """The law's error in nats, for a length that many steps outside the observed range; None if nothing was measured.

    Inside: the mean on what was left out of the fit (shares, else runs, else the fit itself). One step outside: what
    the longest runs were missed by when predicted from the shorter ones, and not less than twice the error inside.
    Further out it grows in proportion, as errors of a slope do.
    """
    inside = (errors.shares or errors.runs or errors.fitted).mean
    if distance == 0:
        return inside
    if not isfinite(distance):
        return None
    one_step = max(2 * inside, errors.longest.mean if errors.longest else 0.0)
    return inside + (one_step - inside) * distance


def _scaled(weights: Mapping[str, float], observations: Sequence[Observation]) -> dict[str, float]:
    known = sorted({name for observation in observations for name in observation.losses})
    unknown = [name for name in weights if name not in known]
    if unknown:
        raise UsageError(f"forecast: weights for {', '.join(unknown)}, but losses of {', '.join(known) or 'nothing'}")
    total = sum(weights.values())
    if not total > 0 or not isfinite(total) or min(weights.values()) < 0:
        raise UsageError(f"forecast: weights {dict(weights)}; expected none below 0 and one or more above")
    return {name: weight / total for name, weight in weights.items()}


def _fit_all(
    observations: Sequence[Observation], names: Collection[str], arrivals: Collection[str], form: Form
) -> dict[str, Law]:
    return {name: fit(observations, name, name in arrivals, form) for name in names}


def _point(laws: Mapping[str, Law], weights: Mapping[str, float], share: float, tokens: float) -> Point:
    losses = {name: law.predict(share, tokens) for name, law in laws.items()}
    return Point(share, sum(weights[name] * loss for name, loss in losses.items()), losses)


def _refined(
    laws: Mapping[str, Law], weights: Mapping[str, float], tokens: float, best: Point, tried: Sequence[float]
) -> Point:
    """The minimum between the curve's neighbours of its best point."""
    from scipy.optimize import minimize_scalar

    step = (tried[-1] - tried[0]) / (CANDIDATES - 1)
    bounds = max(tried[0], best.share - step), min(tried[-1], best.share + step)
    found = minimize_scalar(
        lambda share: _point(laws, weights, float(share), tokens).mean, bounds=bounds, method="bounded"
    )
    refined = _point(laws, weights, float(found.x), tokens)
    return refined if refined.mean < best.mean else best


def _errors(
    observations: Sequence[Observation],
    names: Collection[str],
    arrivals: Collection[str],
    form: Form,
    laws: Mapping[str, Law],
) -> Errors:
    def left_out(key: Callable[[Observation], object], groups: Collection[object]) -> HeldOut | None:
        missed: dict[str, list[float]] = {name: [] for name in names}
        for group in groups:
            rest = [observation for observation in observations if key(observation) != group]
            if not _holds(rest, form):
                return None
            _miss(
                missed,
                _fit_all(rest, names, arrivals, form),
                [observation for observation in observations if key(observation) == group],
            )
        return _held_out(missed)

    fitted: dict[str, list[float]] = {name: [] for name in names}
    _miss(fitted, laws, observations)
    longest = max(observation.tokens for observation in observations)
    return Errors(
        fitted=_held_out(fitted),
        runs=left_out(lambda one: one.run, dict.fromkeys(observation.run for observation in observations)),
        shares=left_out(lambda one: one.share, dict.fromkeys(observation.share for observation in observations)),
        longest=None if form.lengths == "one" else left_out(lambda one: one.tokens == longest, [True]),
    )


def _holds(rest: Sequence[Observation], form: Form) -> bool:
    """Return whether the remaining points still determine a law of this form."""
    shares, lengths = {one.share for one in rest}, {one.tokens for one in rest}
    enough = {"one": 1, "few": 2, "many": 3}[form.lengths]
    return len(rest) >= form.parameters and len(shares) >= FEWEST_SHARES - 1 and len(lengths) >= enough


def _miss(missed: dict[str, list[float]], laws: Mapping[str, Law], points: Sequence[Observation]) -> None:
    for name, law in laws.items():
        missed[name] += [abs(law.predict(point.share, point.tokens) - point.losses[name]) for point in points]


def _held_out(missed: Mapping[str, list[float]]) -> HeldOut:
    errors = [error for found in missed.values() for error in found]
    return HeldOut(fmean(errors), max(errors), len(errors), {name: fmean(found) for name, found in missed.items()})


def _notes(
    observations: Sequence[Observation],
    used: Sequence[Observation],
    form: Form,
    tokens: float,
    best: Point,
    tried: Sequence[float],
) -> list[str]:
    notes = form.notes()
    if len(used) < len(observations):
        notes.append(f"{len(observations) - len(used)} points are left out: a loss is missing or not finite")
    longest = max(one.tokens for one in used)
    if form.lengths == "one" and tokens != longest:
        notes.append(f"the losses are those of {longest:,.0f} tokens, not of the {tokens:,.0f} asked for")
    elif tokens > 2 * longest:
        notes.append(f"{tokens:,.0f} tokens are {tokens / longest:.1f} times the longest run: far to extrapolate")
    if best.share in (tried[0], tried[-1]):
        side = "smallest" if best.share == tried[0] else "largest"
        notes.append(f"the best share is the {side} that was tried: the minimum may lie beyond it")
    return notes


ROUNDING, LEAST_APART = 0.05, 0.0005  # of a share, and of all tokens: less is rounding to whole sequences
SHARE, LENGTH = "replay.share", "budget.update_tokens"


def outlook(
    workspace: StudyWorkspace, trials: Sequence[Trial], study: Study, tokens: float | None
) -> tuple[Forecast | None, str]:
    """The forecast from the rows of the grid that differ in nothing but share and length; or why there is none.

    ``tokens`` is the full length; by default the longest of the runs. The weights are the study's: all
    datasets alike, or ``old_weight`` for the earlier datasets together and the rest for the arrival's.
    """
    seen = observations(workspace, trials)
    if not seen or not study.earlier:
        return None, f"a forecast needs a grid over {SHARE}, and earlier data"
    names = [*study.earlier, *study.arrivals]
    share = len(study.earlier) / len(names) if study.old_weight is None else study.old_weight
    old, new = share / len(study.earlier), (1 - share) / len(study.arrivals)
    weights = {**dict.fromkeys(study.earlier, old), **dict.fromkeys(study.arrivals, new)}
    length = tokens or max(one.tokens for one in seen)
    try:
        return forecast(seen, study.arrivals, weights, length, arrival_cost=study.arrival_cost), ""
    except UsageError as error:
        return None, str(error)


def observations(workspace: StudyWorkspace, trials: Sequence[Trial]) -> list[Observation]:
    """The ends of the grid's runs, of its first combination of all other settings."""
    found, others = [], None
    for trial in trials:
        folder = workspace.trial(trial.id)
        if trial.kind != "grid" or SHARE not in trial.settings or not folder.exists(TRIAL):
            continue
        rest = {key: value for key, value in trial.settings.items() if key not in (SHARE, LENGTH)}
        others = rest if others is None else others
        update = read_result(folder).update
        if rest == others and update is not None:
            found.append(Observation(trial.id, update.replay.achieved, update.tokens.planned, update.losses["release"]))
    return snapped(found)


def snapped(found: Sequence[Observation]) -> list[Observation]:
    """Observations whose shares were the same but for rounding have one share: their mean.

    The share is the one achieved, since a law fitted to 0.5 % where 1 % was replayed (``replay.floor``) is wrong.
    """
    made: list[Observation] = []
    for group in groups(sorted(found, key=lambda one: one.share)):
        mean = sum(one.share for one in group) / len(group)
        made += [replace(one, share=mean) for one in group]
    places = {one.run: number for number, one in enumerate(found)}
    return sorted(made, key=lambda one: places[one.run])


def groups(ordered: Sequence[Observation]) -> list[list[Observation]]:
    """Observations in the order of their shares, cut where two shares in a row are further apart than rounding."""
    parts: list[list[Observation]] = []
    for one in ordered:
        if parts and one.share - parts[-1][-1].share <= max(ROUNDING * one.share, LEAST_APART):
            parts[-1].append(one)
        else:
            parts.append([one])
    return parts


def outlook_lines(made: Forecast | None, why: str) -> list[str]:
    """Describe the forecast in words."""
    if made is None:
        return [f"No forecast: {why}"] if why else []
    losses = ", ".join(f"{name} {loss:.3f}" for name, loss in made.best.losses.items())
    held = made.errors.shares or made.errors.runs
    error = (
        f"{held.mean:.3f} nats on average, {held.max:.3f} at most" if held else "not known: too few runs to leave out"
    )
    if made.distance > 0:
        error += (
            f"; {made.tokens:,.0f} tokens are outside the lengths that were run"
            f"{f' by {made.distance:.1f} of their steps' if isfinite(made.distance) else ''}, where an error "
            + (f"of {made.error:.3f} nats is to be expected" if made.error is not None else "is not known")
        )
    return [
        f"Forecast at {made.tokens:,.0f} tokens: the weighted loss is least at a replay share of {made.best.share:.3f} "
        f"({losses}); from {made.alike[0]:.3f} to {made.alike[1]:.3f} it is the same within the law's error.",
        f"Error of the law on what was left out of its fit: {error}.",
        *made.notes,
    ]


def as_json(made: Forecast | None, why: str) -> dict[str, Any]:
    """Return the ``forecast`` part of the study's JSON."""
    return {"share": None, "because": why} if made is None else {"share": made.best.share, **made.to_json()}
