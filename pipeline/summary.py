"""What a lineage looks like from outside: the object that ``rewarm status --json`` prints, and the report's record."""

from dataclasses import asdict, fields
from typing import Any

from pipeline import report
from pipeline.lineage import PLAN, Lineage, Update
from pipeline.steps import now
from pipeline.workspace import Workspace
from stages import distill, ingest
from stages.storage import Folder
from stages.train import CURVE

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
    plan = folder.read_json(PLAN)
    steps = [lineage.workspace.dataset(data) for data in plan["data"]]
    if distill.NAME not in lineage.datasets():
        steps.append(lineage.workspace.dataset(distill.NAME))
    steps += [step / "tokens" for step in steps] + [folder / part for part in FOLDERS]
    manifests = [step.manifest() for step in steps if step.committed()]
    outcomes = {manifest["step"]: manifest["outcome"] for manifest in manifests}
    mixture = outcomes.get("replay", {})
    trained = outcomes.get("train", {})
    return [
        {
            "id": name,
            "arrival": plan["arrival"],
            "state": "unfinished",
            "started": plan["started"],
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


def report_record(lineage: Lineage, versions: dict[str, str]) -> report.WorkspaceRecord:
    """What the report shows."""
    return report.WorkspaceRecord(
        workspace=str(lineage.workspace.folder),
        release=lineage.release,
        generated=now(),
        datasets=[report_dataset(lineage.workspace, name, update) for name, update in lineage.datasets().items()],
        updates=[report_update(lineage.workspace, update) for update in lineage.updates],
        versions=versions,
    )


def report_dataset(workspace: Workspace, name: str, update: Update) -> report.DatasetRecord:
    """A dataset in the report."""
    found = dataset_summary(name, update)
    shown = ("name", "documents", "tokens", "validation_documents", "duplicates", "quarantined")
    folder, text = workspace.dataset(name), None
    if folder.exists(ingest.ACCOUNT):
        account = folder.read_json(ingest.ACCOUNT)
        text = report.TextRecord(**{part.name: account[part.name] for part in fields(report.TextRecord)})
    return report.DatasetRecord(**{part: found[part] for part in shown}, text=text)


def report_update(workspace: Workspace, update: Update) -> report.UpdateRecord:
    """One update with its curves."""
    folder = workspace.update(update.id)
    trunk, branch = curve(folder / "trunk"), curve(folder / "release")
    parts = replayed_parts(update.replay["by_dataset"])
    return report.UpdateRecord(
        id=update.id,
        arrival=update.arrival,
        state="released",
        tokens=report.TokenRecord(**update.tokens) if update.schedule else None,
        schedule=flat_schedule(update.schedule),
        replay=report.ReplayRecord(
            requested=update.replay["requested"],
            achieved=update.replay["achieved"],
            source=update.replay["source"],
            by_dataset=parts,
        )
        if parts
        else None,
        losses=update.losses,
        window_losses=update.window_losses,
        bits_per_byte=update.bits_per_byte,
        forgetting=update.forgetting,
        gap={name: report.GapRecord(**gap) for name, gap in update.gap.items()},
        lm_eval=update.lm_eval,
        seconds=update.seconds,
        train=report.TrainRecord(**update.train) if update.schedule else None,
        plan=report_plan(update.plan) if update.plan else None,
        curve=[point for points, anneals in ((trunk, False), (branch, True)) for point in steps(points, anneals)],
        validation=[point for points, anneals in ((trunk, False), (branch, True)) for point in looks(points, anneals)],
    )


def replayed_parts(by_source: dict[str, dict[str, Any]]) -> dict[str, report.ReplayPart]:
    """What was replayed of each dataset, its domains together."""
    sums: dict[str, dict[str, Any]] = {}
    for key, part in by_source.items():
        of = sums.setdefault(key.partition("@")[0], {"sequences": 0, "tokens": 0, "share": 0.0})
        for name in of:
            of[name] += part[name]
    return {name: report.ReplayPart(**part) for name, part in sums.items()}


def report_plan(plan: dict[str, Any]) -> report.PlanRecord:
    """A plan, with what it predicted beside what came of it."""
    taken = [
        report.Taken(**plan[part]["tokens"], **{name: plan[part][name] for name in ("steps", "hours", "cost")})
        for part in ("predicted", "actual")
    ]
    return report.PlanRecord(
        strength=plan["shift"]["strength"],
        because=plan["shift"]["because"],
        choices={name: (choice["value"], choice["because"]) for name, choice in plan["choices"].items()},
        predicted=taken[0],
        actual=taken[1],
        currency=plan["actual"]["currency"],
    )


def curve(folder: Folder) -> dict[str, list[dict[str, Any]]]:
    """What a training run left of its curve."""
    empty: dict[str, list[dict[str, Any]]] = {"steps": [], "validation": []}
    return folder.read_json(CURVE) if folder.exists(CURVE) else empty


def steps(points: dict[str, list[dict[str, Any]]], anneals: bool) -> list[report.CurvePoint]:
    """Training points."""
    return [
        report.CurvePoint(row["tokens"], row["loss"], row["lr"], row["grad_norm"], anneals) for row in points["steps"]
    ]


def looks(points: dict[str, list[dict[str, Any]]], anneals: bool) -> list[report.ValidationPoint]:
    """Validation points."""
    return [report.ValidationPoint(row["tokens"], row["losses"], anneals) for row in points["validation"]]


def flat_schedule(schedule: dict[str, Any]) -> dict[str, object]:
    """The settings of a schedule with its phases in one line."""
    if not schedule:
        return {}
    phases = ", ".join(f"{phase['name']} to {phase['final']:g} at {phase['end']:,.0f}" for phase in schedule["phases"])
    return {**schedule["settings"], "phases": phases}
