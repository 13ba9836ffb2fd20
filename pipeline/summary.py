"""What a lineage looks like from outside: the object that ``rewarm status --json`` prints."""

from dataclasses import asdict
from typing import Any

from pipeline.lineage import Lineage, Update, read_plan
from stages import distill
from stages.shapes import stage_manifest

# Which committed folder stands for which stage, to tell how far an unfinished update is.
FOLDERS = ("mixture", "initial", "trunk", "release", "evaluation")
SHOWN = (
    "id",
    "arrival",
    "state",
    "finished",
    "tokens",
    "replay",
    "schedule",
    "losses",
    "window_losses",
    "bits_per_byte",
    "forgetting",
    "gap",
    "lm_eval",
    "plan",
    "gate",
    "follows",
)


def status(lineage: Lineage) -> dict[str, Any]:
    """The workspace as one JSON object; losses in nats per token, ``bits_per_byte`` in the same form beside them."""
    return {
        "workspace": str(lineage.workspace.folder),
        "release": lineage.release,
        "datasets": [dataset_summary(name, update) for name, update in lineage.ingested().items()],
        "updates": [update_summary(update) for update in lineage.updates] + unfinished(lineage),
    }


def dataset_summary(name: str, update: Update) -> dict[str, Any]:
    """Counts of one dataset."""
    ingested, tokenized = update.data[name]["ingest"], update.data[name]["tokenize"]
    return {
        "name": name,
        "update": update.id,
        "distilled": "distill" in update.data[name],
        "documents": ingested["documents"],
        "tokens": tokenized["num_tokens"],
        "bytes": ingested["num_bytes"],
        "validation_documents": ingested["validation_documents"],
        "validation_tokens": tokenized["validation_tokens"],
        "duplicates": ingested["duplicates"] + ingested["duplicates_earlier"],
        "quarantined": ingested["quarantined"],
        "reasons": ingested["reasons"],
        "cut": {part: ingested.get(f"cut_{part}", 0) for part in ("documents", "bytes")},
        "removals": ingested.get("removals", []),
        "backend": tokenized["backend"],
        "selected": update.data[name].get("select"),
    }


def update_summary(update: Update) -> dict[str, Any]:
    """One finished update."""
    record = asdict(update)
    return {name: record[name] for name in (*SHOWN, "seconds", "train", "weights", "notes")}


def unfinished(lineage: Lineage) -> list[dict[str, Any]]:
    """The update that is under way or was left, as far as it is known."""
    name = lineage.unfinished
    if name is None:
        return []
    folder = lineage.workspace.update(name)
    plan = read_plan(lineage.workspace, name)
    steps = [lineage.workspace.dataset(data) for data in plan["data"]]
    if distill.NAME not in lineage.datasets():
        steps.append(lineage.workspace.dataset(distill.NAME))
    steps += [step / "tokens" for step in steps] + [folder / part for part in FOLDERS]
    manifests = [stage_manifest(step) for step in steps if step.committed()]
    outcomes = {manifest["step"]: manifest["outcome"] for manifest in manifests}
    mixture = outcomes.get("replay", {})
    trained = outcomes.get("train", {})
    return [
        {
            "id": name,
            "arrival": plan["arrival"],
            "state": "unfinished",
            "started": plan.get("started", ""),
            "tokens": {part: mixture.get(part, 0) for part in ("planned", "new", "replayed")},
            "replay": {part: mixture.get(part) for part in ("requested", "achieved", "source", "by_dataset")},
            "schedule": {},
            "losses": {},
            "window_losses": {},
            "bits_per_byte": {},
            "forgetting": {},
            "gap": {},
            "lm_eval": {},
            "gate": {},
            "seconds": {manifest["step"]: manifest["seconds"] for manifest in manifests},
            "train": {part: trained.get(part) for part in ("steps", "world_size", "tokens_per_second", "resumed_from")},
        }
    ]
