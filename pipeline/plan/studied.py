"""A study of the same arrival as the source of the plan's choice: a measured share goes before a rule."""

from collections.abc import Mapping
from typing import Any

from rewarm.pipeline.lineage.lineage import Lineage
from rewarm.pipeline.shift.choices import Choice
from rewarm.stages.core.shapes import understood

STUDIES = "studies"
PLAN = "study.json"
RESULTS = "results.json"
SHARE = "replay.share"


def studied_share(lineage: Lineage, digests: Mapping[str, str]) -> Choice | None:
    """Return the replay share that a finished study of this arrival from this trunk chose; None if there is none.

    ``digests`` are those of the arrival's files, by dataset. The last study by name counts; its forecast, if it has
    one, goes before its best row.
    """
    folder = lineage.workspace.folder / STUDIES
    for name in sorted(folder.folders(), reverse=True):
        study = folder / name
        if lineage.head is None or not (study.exists(PLAN) and study.exists(RESULTS)):
            continue
        with understood(f"{study}/{RESULTS} or {PLAN}"):
            plan, made = study.read_json(PLAN), study.read_json(RESULTS)
            same = plan["arrival"] == dict(digests) and plan["head"] == lineage.head.id and not made["unfinished"]
            found = choice_of(name, made) if same else None
        if found is not None:
            return found
    return None


def choice_of(name: str, made: Mapping[str, Any]) -> Choice | None:
    """Return the share of a study's results, with where it is from; None if the study did not compare shares."""
    limit = made.get("arrival_cost")
    objective = "the lowest mean loss over all datasets" + (
        "" if limit is None else f" with the arrival at most {limit:g} nats above the same update without replay"
    )
    forecast = made.get("forecast") or {}
    if forecast.get("share") is not None:
        share = round(forecast["share"], 4)
        return Choice(share, f"the forecast of study {name} at {forecast['tokens']:,.0f} tokens: {objective}")
    best = (made.get("best") or {}).get("settings", {})
    if SHARE in best:
        return Choice(best[SHARE], f"the best row of study {name}, {made['best']['name']}: {objective}")
    return None
