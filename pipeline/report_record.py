"""What the report is made from: the lineage's files as the plain records of ``pipeline.report``."""

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any, cast

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from pipeline import report, summary
from pipeline.lineage import PLAN, REFUSED, UNDECIDED, Lineage, Update, read_plan
from pipeline.report.record import State
from pipeline.workspace import Workspace
from stages import ingest
from stages.identity import now
from stages.ingest.account import AccountRecord
from stages.shapes import OPEN, read_as, stage_manifest
from stages.storage import Folder
from stages.train import CURVE


class Step(TypedDict):
    """One training step of a curve."""

    __pydantic_config__ = OPEN  # type: ignore[misc]

    tokens: float
    loss: float | None
    lr: float
    grad_norm: float | None


class Look(TypedDict):
    """The losses of a look at validation."""

    __pydantic_config__ = OPEN  # type: ignore[misc]

    tokens: float
    losses: dict[str, float | None]


class Curve(TypedDict):
    """What ``curve.json`` says."""

    __pydantic_config__ = OPEN  # type: ignore[misc]

    steps: list[Step]
    validation: list[Look]


ACCOUNTS, CURVES = TypeAdapter(AccountRecord), TypeAdapter(Curve)


def report_record(lineage: Lineage, versions: dict[str, str]) -> report.WorkspaceRecord:
    """What the report shows: every finished update, the refused among them, and the one that was begun."""
    workspace = lineage.workspace
    begun = summary.unfinished(lineage)
    return report.WorkspaceRecord(
        workspace=str(workspace.folder),
        release=lineage.release,
        generated=now(),
        datasets=[report_dataset(workspace, name, update) for update in lineage.updates for name in update.datasets],
        updates=[report_update(lineage, update) for update in lineage.updates]
        + [unfinished_update(lineage, update) for update in begun],
        versions=versions,
        history=promotions(lineage),
    )


def promotions(lineage: Lineage) -> list[report.PromotionRecord]:
    """Every change of the current release, with the reason where one was given."""
    return [report.PromotionRecord(entry["update"], entry["at"], entry["because"]) for entry in lineage.history]


def report_dataset(workspace: Workspace, name: str, update: Update) -> report.DatasetRecord:
    """A dataset in the report."""
    found = summary.dataset_summary(name, update)
    shown = ("name", "documents", "tokens", "validation_documents", "duplicates", "quarantined")
    folder, text = workspace.dataset(name), None
    if folder.exists(ingest.ACCOUNT):
        account = cast(dict[str, Any], read_as(folder, ingest.ACCOUNT, ACCOUNTS))
        names = [part.name for part in fields(report.TextRecord)]
        text = report.TextRecord(**{name: account[name] for name in names if name in account})
    removals = [one["sentence"] for one in found["removals"]]
    return report.DatasetRecord(**{part: found[part] for part in shown}, text=text, removals=removals)


def report_update(lineage: Lineage, update: Update) -> report.UpdateRecord:
    """One finished update with its verdict, its curves and where it came from."""
    folder = lineage.workspace.update(update.id)
    curves = ((curve(folder / "trunk"), False), (curve(folder / "release"), True))
    parts = replayed_parts(update.replay["by_dataset"])
    return report.UpdateRecord(
        id=update.id,
        arrival=update.arrival,
        state=report_state(update.state),
        datasets=update.datasets,
        start=started_from(lineage, update),
        gate=report_gate(update.gate),
        finished=update.finished,
        parameters=update.parameters,
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
        curve=[point for points, anneals in curves for point in steps(points, anneals)],
        validation=[point for points, anneals in curves for point in looks(points, anneals)],
        stages=stage_records(lineage.workspace, update),
        digests=digests(lineage.workspace, update),
        notes=update.notes,
    )


def report_state(state: str) -> State:
    """The state of a finished update."""
    return "refused" if state == REFUSED else "undecided" if state == UNDECIDED else "released"


def unfinished_update(lineage: Lineage, update: Mapping[str, Any]) -> report.UpdateRecord:
    """The update that is under way or was left, as far as it is known."""
    tokens = update["tokens"]
    head = lineage.head
    return report.UpdateRecord(
        id=update["id"],
        arrival=update["arrival"],
        state="unfinished",
        start=head.id if head else None,
        tokens=report.TokenRecord(tokens["planned"], tokens["new"], tokens["replayed"]) if tokens["planned"] else None,
        seconds=update["seconds"],
    )


def report_gate(gate: Mapping[str, Any]) -> report.GateRecord | None:
    """The verdict of an update's record; None where there is none."""
    if not gate:
        return None
    names = [part.name for part in fields(report.CheckRecord)]
    checks = [
        report.CheckRecord(
            **{**dict.fromkeys(names), "because": "", "outcome": "", **{k: check[k] for k in names if k in check}}
        )
        for check in gate.get("checks", ())
    ]
    return report.GateRecord(
        passed=gate["passed"],
        outcome=gate.get("outcome", ""),
        against=gate.get("against"),
        alpha=gate.get("alpha"),
        correction=gate.get("correction", "none"),
        because=gate.get("because", ()),
        checks=checks,
    )


def started_from(lineage: Lineage, update: Update) -> str | None:
    """The update whose trunk this one started from: as recorded, or by the digest of the weights it was given."""
    if follows := asdict(update).get("follows"):
        return str(follows)
    earlier = [before for before in lineage.updates if before.number < update.number]
    if not earlier:
        return None
    trunk = lineage.workspace.update(update.id) / "trunk"
    start = stage_manifest(trunk)["identity"]["inputs"].get("start") if trunk.committed() else None
    return next((before.id for before in reversed(earlier) if before.weights.get("trunk") == start), earlier[-1].id)


def stage_records(workspace: Workspace, update: Update) -> list[report.StageRecord]:
    """Every stage that left a manifest for this update, in the order they finished."""
    folders = [workspace.update(update.id) / part for part in workspace.update(update.id).folders()]
    for name in update.datasets:
        folders += [workspace.dataset(name), workspace.dataset(name) / "tokens"]
    if update.number == 0:
        folders.append(workspace.tokenizer)
    root = workspace.folder.uri
    found = [
        report.StageRecord(
            name=manifest["step"],
            folder=folder.uri.removeprefix(root).strip("/"),
            version=manifest["identity"]["version"],
            fingerprint=manifest["fingerprint"],
            seconds=manifest["seconds"],
            finished=manifest["finished"],
        )
        for folder in folders
        if folder.committed()
        for manifest in [stage_manifest(folder)]
        if "fingerprint" in manifest
    ]
    return sorted(found, key=lambda stage: stage.finished)


def digests(workspace: Workspace, update: Update) -> dict[str, str]:
    """Of what came in, and of what went out."""
    folder = workspace.update(update.id)
    begun = read_plan(workspace, update.id)["data"] if folder.exists(PLAN) else {}
    found = {f"input of {name}": str(digest) for name, digest in begun.items()}
    for name, stages in update.data.items():
        found |= {f"{stage} of {name}": part["digest"] for stage, part in stages.items() if part.get("digest")}
    return found | {f"weights of the {name}": digest for name, digest in update.weights.items()}


def replayed_parts(by_source: dict[str, dict[str, Any]]) -> dict[str, report.ReplayPart]:
    """What was replayed of each dataset, its domains together; those whose turn it was not are left out."""
    sums: dict[str, dict[str, Any]] = {}
    for key, part in by_source.items():
        if not part["sequences"]:
            continue
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
    if not folder.exists(CURVE):
        return {"steps": [], "validation": []}
    return cast(dict[str, list[dict[str, Any]]], read_as(folder, CURVE, CURVES))


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
