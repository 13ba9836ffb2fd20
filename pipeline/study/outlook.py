"""What a study's runs foretell: the best replay share at full length, by a mixture law fitted to them."""

from collections.abc import Sequence
from typing import Any

from pipeline.study.forecast import Forecast, forecast
from pipeline.study.grid import Trial
from pipeline.study.mixture_law import Observation
from pipeline.study.places import StudyWorkspace
from pipeline.study.results import Study
from pipeline.study.trial import RESULT
from stages.errors import UsageError

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
        if trial.kind != "grid" or SHARE not in trial.settings or not folder.exists(RESULT):
            continue
        rest = {key: value for key, value in trial.settings.items() if key not in (SHARE, LENGTH)}
        others = rest if others is None else others
        result = folder.read_json(RESULT)
        if rest == others and result["state"] == "done":
            update = result["update"]
            found.append(
                Observation(
                    trial.id, float(trial.settings[SHARE]), update["tokens"]["planned"], update["losses"]["release"]
                )
            )
    return found


def outlook_lines(made: Forecast | None, why: str) -> list[str]:
    """The forecast in words."""
    if made is None:
        return [f"No forecast: {why}"] if why else []
    losses = ", ".join(f"{name} {loss:.3f}" for name, loss in made.best.losses.items())
    held = made.errors.shares or made.errors.runs
    error = (
        f"{held.mean:.3f} nats on average, {held.max:.3f} at most" if held else "not known: too few runs to leave out"
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
