"""What a study's runs foretell: the best replay share at full length, by a mixture law fitted to them."""

from collections.abc import Sequence
from dataclasses import replace
from math import isfinite
from typing import Any

from pipeline.study.forecast import Forecast, forecast
from pipeline.study.grid import Trial
from pipeline.study.mixture_law import Observation
from pipeline.study.places import StudyWorkspace
from pipeline.study.results import Study
from pipeline.study.trial import read_result
from pipeline.workspace import TRIAL
from stages.errors import UsageError

ROUNDING, LEAST_APART = 0.05, 0.0005  # of a share, and of all tokens: less is rounding to whole sequences
SHARE, LENGTH = "replay.share", "budget.update_tokens"


def outlook(
    workspace: StudyWorkspace, trials: Sequence[Trial], study: Study, tokens: float | None
) -> tuple[Forecast | None, str]:
    """The forecast from the rows of the grid that differ in nothing but share and length; or why there is none.

    ``tokens`` is the full length; by default the longest of the runs. The weights are the study's: ``old_weight`` for
    the earlier datasets together, the rest for the arrival's.
    """
    seen = observations(workspace, trials)
    if not seen or not study.earlier:
        return None, f"a forecast needs a grid over {SHARE}, and earlier data"
    old, new = study.old_weight / len(study.earlier), (1 - study.old_weight) / len(study.arrivals)
    weights = {**dict.fromkeys(study.earlier, old), **dict.fromkeys(study.arrivals, new)}
    try:
        return forecast(seen, study.arrivals, weights, tokens or max(one.tokens for one in seen)), ""
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
    """The forecast in words."""
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
    """What stands under ``forecast`` in the study's JSON."""
    return {"share": None, "because": why} if made is None else {"share": made.best.share, **made.to_json()}
