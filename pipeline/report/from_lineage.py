"""Reader of the report's input: converts the lineage's files to the records of ``pipeline.report``."""

from dataclasses import fields
from typing import Any, cast

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from rewarm.pipeline import report
from rewarm.pipeline.lineage import status
from rewarm.pipeline.lineage.lineage import PLAN, Lineage, read_plan
from rewarm.pipeline.lineage.samples import read_samples, telling
from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.pipeline.record import UNFINISHED, UpdateRecord
from rewarm.stages import ingest
from rewarm.stages.core.digests import fingerprint, now
from rewarm.stages.core.shapes import OPEN, read_as, stage_manifest
from rewarm.stages.core.storage import Folder
from rewarm.stages.ingest.account import AccountRecord
from rewarm.stages.train import CURVE


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
    """Contents of ``curve.json``."""

    __pydantic_config__ = OPEN  # type: ignore[misc]

    steps: list[Step]
    validation: list[Look]


ACCOUNTS, CURVES = TypeAdapter(AccountRecord), TypeAdapter(Curve)


SAMPLED = 6  # datasets whose samples an update's page shows
SHOWN = 40  # updates that the workspace's page draws, and whose pages are kept up to date


def report_record(lineage: Lineage, versions: dict[str, str], last: int | None = SHOWN) -> report.WorkspaceRecord:
    """Return the report's data: the last finished updates (None: all), with the current and the unfinished one."""
    workspace = lineage.workspace
    found = status.status(lineage, last)
    finished = [update for update in found.updates if update.state != UNFINISHED]
    ids = {update.id for update in finished}
    updates = [shown(lineage, update) for update in finished]
    compared = dict.fromkeys(before for update in updates if (before := report.compared_with(update)))
    return report.WorkspaceRecord(
        workspace=found.workspace,
        release=found.release,
        generated=now(),
        datasets=[
            report.DatasetShown(name, part, text_of(workspace.dataset(name)))
            for update in finished
            for name, part in update.data.items()
        ],
        updates=updates
        + [
            report.UpdateShown(**vars(begun), start=begun.follows)
            for begun in found.updates
            if begun.state == UNFINISHED
        ],
        versions=versions,
        history=[report.PromotionRecord(one["update"], one["at"], one["because"]) for one in lineage.history],
        earlier=[report.EarlierUpdate(one.id, one.state) for one in lineage.entries if one.id not in ids],
        beside=[
            report.UpdateShown(**vars(lineage.read(before)))
            for before in compared
            if before not in ids and before in {one.id for one in lineage.entries}
        ],
        order=[name for entry in lineage.entries for name in entry.facts.datasets],
    )


def page_keys(lineage: Lineage, record: report.WorkspaceRecord) -> dict[str, str]:
    """Return the digest of what each update's page is made from, by the page's name.

    A finished update's record and files do not change; the rest is in ``record``.
    """
    stored = {entry.id: entry.record for entry in lineage.entries}
    return {
        report.file_name(update.id): fingerprint(
            {
                "edition": report.edition(),
                "versions": dict(record.versions),
                "workspace": record.name,
                "record": stored[update.id],
                "compared": stored.get(report.compared_with(update) or ""),
                "neighbours": report.neighbours(record, update),
                "current": update.id == record.release,
                "promotions": [[one.at, one.because] for one in record.history if one.update == update.id],
                "colours": [record.number(name) for name in update.losses.get("release", {})],
            }
        )
        for update in record.updates
        if update.state != UNFINISHED
    }


def text_of(dataset: Folder) -> report.TextRecord | None:
    """Return the ingest record of a dataset; None if the model wrote its documents."""
    if not dataset.exists(ingest.ACCOUNT):
        return None
    account = cast(dict[str, Any], read_as(dataset, ingest.ACCOUNT, ACCOUNTS))
    names = [part.name for part in fields(report.TextRecord)]
    return report.TextRecord(**{name: account[name] for name in names if name in account})


def shown(lineage: Lineage, update: UpdateRecord) -> report.UpdateShown:
    """Return one finished update with its curves and its starting point."""
    folder = lineage.workspace.update(update.id)
    curves = ((curve(folder / "trunk"), False), (curve(folder / "release"), True))
    return report.UpdateShown(
        **vars(update),
        start=started_from(lineage, update),
        curve=[point for points, anneals in curves for point in steps(points, anneals)],
        validation=[point for points, anneals in curves for point in looks(points, anneals)],
        stages=stage_records(lineage.workspace, update),
        digests=digests(lineage.workspace, update),
        samples=telling(read_samples(lineage.workspace, update), update.datasets, each=2, most=SAMPLED),
    )


def started_from(lineage: Lineage, update: UpdateRecord) -> str | None:
    """Return the update from whose trunk this one started, as recorded or by the digest of its starting weights."""
    if update.follows:
        return update.follows
    earlier = [before for before in lineage.entries if before.number < update.number]
    if not earlier:
        return None
    trunk = lineage.workspace.update(update.id) / "trunk"
    start = stage_manifest(trunk)["identity"]["inputs"].get("start") if trunk.committed() else None
    return next((before.id for before in reversed(earlier) if before.facts.weights.trunk == start), earlier[-1].id)


def stage_records(workspace: Workspace, update: UpdateRecord) -> list[report.StageRecord]:
    """Return every stage of this update that has a manifest, in the order in which they finished."""
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


def digests(workspace: Workspace, update: UpdateRecord) -> dict[str, str]:
    """Return the digests of the update's inputs and outputs."""
    folder = workspace.update(update.id)
    begun = read_plan(workspace, update.id)["data"] if folder.exists(PLAN) else {}
    found = {f"input of {name}": str(digest) for name, digest in begun.items()}
    for name, part in update.data.items():
        found |= {f"{stage} of {name}": digest for stage, digest in part.digests.items()}
    return found | {f"weights of the {name}": digest for name, digest in vars(update.weights).items() if digest}


def curve(folder: Folder) -> dict[str, list[dict[str, Any]]]:
    """Read the curve of a training run."""
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
