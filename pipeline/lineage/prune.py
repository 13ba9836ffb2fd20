"""``rewarm prune``: the deletion of weights that nothing needs any more, and of leftovers of killed commands.

Records and ingested data are never deleted, so an update without weights can still be shown, traced, replayed and
verified. The report also lists the weights that are kept, with the reason. Leftovers are files that nothing in the
workspace refers to: temporary files of killed writers and the data of discarded updates.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import PurePosixPath
from typing import Any

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from rewarm.pipeline.lineage.lineage import PLAN, UPDATE, Lineage, read_plan
from rewarm.pipeline.lineage.optimizer import OPTIMIZER, optimizers_needed
from rewarm.pipeline.lineage.verify.findings import Findings
from rewarm.pipeline.lineage.verify.records import check_numbers, check_records, check_releases, recorded
from rewarm.pipeline.lineage.weights import PRUNED, is_pruned, read_pruned, weight_files
from rewarm.pipeline.lineage.workspace import TRIAL, Workspace
from rewarm.stages import distill, train
from rewarm.stages.core.digests import now
from rewarm.stages.core.errors import DamagedError
from rewarm.stages.core.progress import Progress
from rewarm.stages.core.shapes import OPEN, read_as
from rewarm.stages.core.storage import Folder
from rewarm.stages.train import SNAPSHOTS

KNOWN = {  # top level of a workspace; hidden files belong to the lease and the system
    *("workspace.json", "releases.json", "commits", "tokenizer", "datasets", "dedup", "updates", "studies", "report"),
    *("watch", "logs"),
}
RECORDED = ("quarantine", "account.json")  # of a discarded arrival: kept for inspection
UNKNOWN = "unknown"


class Brought(TypedDict):
    """The field of an update's record that names its datasets, in every format."""

    __pydantic_config__ = OPEN  # type: ignore[misc]

    datasets: list[str]


BROUGHT = TypeAdapter(Brought)


@dataclass(frozen=True)
class Leftover:
    """A file or folder that no finished or unfinished update needs."""

    path: str  # relative to the workspace
    kind: str  # scratch, update, dataset, dedup, checkpoints, snapshots, optimizer, weights; unknown: not from rewarm
    bytes: int
    because: str

    @property
    def prunable(self) -> bool:
        """Whether it may be deleted; files that rewarm did not create are never deleted."""
        return self.kind != UNKNOWN


def leftover(workspace: Workspace, path: str, kind: str, because: str) -> Leftover:
    """Return a leftover with its size."""
    return Leftover(path, kind, workspace.folder.size(path), because)


def find_leftovers(lineage: Lineage) -> list[Leftover]:
    """Return everything in the workspace that nothing refers to, sorted by path."""
    workspace = lineage.workspace
    names = [*workspace.folder.files(), *workspace.folder.folders()]
    strange = [leftover(workspace, name, UNKNOWN, "not made by rewarm") for name in names if name not in KNOWN]
    leftovers = {item.path: item for item in [*of_updates(lineage), *of_data(lineage), *scratch(workspace), *strange]}
    parents = {path: {str(parent) for parent in PurePosixPath(path).parents} for path in leftovers}
    return [leftovers[path] for path in sorted(leftovers) if not parents[path] & leftovers.keys()]


def of_updates(lineage: Lineage) -> Iterator[Leftover]:
    """Yield folders that do not belong to any update, and files that finished updates no longer need."""
    workspace = lineage.workspace
    for name in (workspace.folder / "updates").folders():
        folder = workspace.update(name)
        if not folder.exists(UPDATE) and not folder.exists(PLAN):
            because = "neither begun nor finished: left by a discarded update"
            yield leftover(workspace, f"updates/{name}", "update", because)
    starts = optimizers_needed(lineage)
    for update in lineage.entries:
        place, finished = f"updates/{update.id}", f"{update.id} is finished"
        for path, kind, because in (
            (f"{place}/checkpoints", "checkpoints", finished),
            (f"{place}/trunk/{train.SNAPSHOTS}", "snapshots", finished),
            (f"{place}/trunk/{OPTIMIZER}", "optimizer", "no update can start from it any more"),
        ):
            if workspace.folder.exists(path) and (kind != "optimizer" or update.id not in starts):
                yield leftover(workspace, path, kind, because)
        folder = workspace.update(update.id)
        for part in ("trunk", "release"):
            if is_pruned(folder, part):
                for name in weight_files(folder / part / "model"):
                    yield leftover(workspace, f"{place}/{part}/model/{name}", "weights", "pruning was interrupted here")


def of_data(lineage: Lineage) -> Iterator[Leftover]:
    """Yield datasets, and parts of the dedup index, that do not belong to any finished or unfinished update."""
    workspace = lineage.workspace
    needed = brought(workspace) | ({distill.NAME} if lineage.unfinished is not None else set())
    for name in sorted(set((workspace.folder / "datasets").folders()) - needed):
        folder = workspace.dataset(name)
        for entry in sorted([*folder.files(), *folder.folders()]):
            if entry not in RECORDED:
                yield leftover(workspace, f"datasets/{name}/{entry}", "dataset", f"{name} belongs to no update")
    for name in sorted(set((workspace.folder / "dedup").folders()) - needed):
        yield leftover(workspace, f"dedup/{name}", "dedup", f"{name} belongs to no update")


def brought(workspace: Workspace) -> set[str]:
    """Return every dataset that an update's record or plan names: finished, refused or in progress."""
    datasets: set[str] = set()
    for name in (workspace.folder / "updates").folders():
        if workspace.update(name).exists(UPDATE):
            datasets.update(read_as(workspace.update(name), UPDATE, BROUGHT)["datasets"])
        if workspace.update(name).exists(PLAN):
            datasets.update(read_plan(workspace, name)["data"])
    return datasets


def scratch(workspace: Workspace) -> Iterator[Leftover]:
    """Yield the temporary files of killed writers (``Folder.writing``) on a local disk; object stores have none.

    Folders of studies and of ``rewarm watch`` are skipped: their writers may be running.
    """
    if not workspace.folder.is_local:
        return
    root = workspace.folder.path
    for path in sorted(root.rglob(".*.tmp")):
        inside = path.relative_to(root)
        if inside.parts[0] not in ("studies", "watch") and not inside.parts[0].startswith(".lease"):
            yield leftover(workspace, inside.as_posix(), "scratch", "a writer was killed")


STUDIES = "studies"


@dataclass(frozen=True)
class Weights:
    """The weights of a trunk or a release that nothing needs any more."""

    update: str
    part: str  # trunk or release
    files: tuple[str, ...]  # names in the model's folder
    bytes: int


@dataclass
class Prunable:
    """The files to delete, and the weights that are kept, with the reason."""

    weights: list[Weights] = field(default_factory=list)
    leftovers: list[Leftover] = field(default_factory=list)
    kept: dict[str, str] = field(default_factory=dict)  # update/part → why

    @property
    def bytes(self) -> int:
        """Bytes that pruning frees."""
        return sum(model.bytes for model in self.weights) + sum(item.bytes for item in self.leftovers)

    def to_json(self) -> dict[str, Any]:
        """Convert to JSON types; paths are relative to the workspace."""
        weights = [
            {
                "path": f"updates/{model.update}/{model.part}/model",
                "kind": f"{model.part} weights",
                "bytes": model.bytes,
            }
            for model in self.weights
        ]
        return {"bytes": self.bytes, "prune": [*weights, *map(asdict, self.leftovers)], "keep": self.kept}


def refuse_damaged_records(workspace: Workspace) -> None:
    """Raise ``DamagedError`` if the records are inconsistent: data that they fail to name would count as leftovers."""
    findings = Findings(workspace.folder)
    if (log := check_records(workspace, findings)) is not None:
        updates = recorded(workspace)
        check_numbers(workspace, updates, findings)
        check_releases(workspace, updates, log, findings)
    if findings.problems:
        first = findings.problems[0]
        raise DamagedError(
            f"{workspace.folder}: nothing was pruned because the records are damaged: {first.file}: expected "
            f"{first.expected}, found {first.found}. Run `rewarm verify {workspace.folder}` for what to do"
        )


def find_prunable(lineage: Lineage, keep: int, studies: bool) -> Prunable:
    """Return what can be deleted if the last ``keep`` releases and the current one are kept."""
    prunable = Prunable(kept=needed(lineage, keep))
    for update in lineage.entries:
        folder = lineage.workspace.update(update.id)
        for part in ("trunk", "release"):
            model = folder / part / "model"
            files = weight_files(model)
            if files and f"{update.id}/{part}" not in prunable.kept and not is_pruned(folder, part):
                size = sum(map(model.size, files))
                prunable.weights.append(Weights(update.id, part, tuple(files), size))
    prunable.leftovers = [item for item in find_leftovers(lineage) if item.prunable]
    if lineage.entries:
        initial = f"updates/{lineage.entries[0].id}/initial/model"
        prunable.leftovers += [
            leftover(lineage.workspace, f"{initial}/{name}", "initial weights", "the base is finished")
            for name in weight_files(lineage.workspace.folder / initial)
        ]
    if studies:
        prunable.leftovers += list(study_weights(lineage.workspace))
    return prunable


def needed(lineage: Lineage, keep: int) -> dict[str, str]:
    """Return the weights that must be kept, as ``update/part`` → reason."""
    reasons: dict[str, str] = {}
    if lineage.entries:
        reasons[f"{lineage.entries[0].id}/trunk"] = "the base: select.model=base ranks documents by it"
    for update in lineage.possible_starts():
        reasons[f"{update.id}/trunk"] = "the next update can start from it, with it as the teacher (train.kl_weight)"
        reasons.setdefault(f"{update.id}/release", "the newest releases, promoted or refused")
    if lineage.head is not None:
        started = lineage.trunk().at("../..").name
        reasons.setdefault(f"{started}/trunk", "the next update starts from it")
    for name in list(dict.fromkeys(reversed(lineage.standing())))[:keep]:
        reasons[f"{name}/release"] = f"one of the last {keep} releases"
    if lineage.release is not None:
        reasons[f"{lineage.release}/release"] = "the current release"
    for update in lineage.entries:
        source = update.facts.follows
        if update.facts.branch and f"{source}/release" in reasons:
            reasons.setdefault(f"{update.id}/release", f"tuned from {source}, which is kept")
    return reasons


def study_weights(workspace: Workspace) -> Iterator[Leftover]:
    """Yield the models of studies' finished trials; their results are kept, and a resumed study needs only those."""
    for study in (workspace.folder / STUDIES).folders():
        trials = workspace.folder / STUDIES / study / "trials"
        for trial in (trials / name for name in trials.folders()):
            if trial.exists(TRIAL):
                because = f"trial {trial.name} of study {study} is finished"
                parts = [
                    part for part in ("checkpoints", f"trunk/{OPTIMIZER}", f"trunk/{SNAPSHOTS}") if trial.exists(part)
                ]
                for model in (f"{part}/model" for part in ("initial", "trunk", "release")):
                    parts += [f"{model}/{name}" for name in weight_files(trial / model)]
                place = trial.relative_to(workspace.folder)
                yield from (leftover(workspace, f"{place}/{part}", "study", because) for part in parts)


def prune(workspace: Workspace, keep: int, studies: bool, progress: Progress, wait_s: float = 0.0) -> Prunable:
    """Delete what ``find_prunable`` returns; the caller holds the workspace's lease.

    With ``studies``, waits up to ``wait_s`` seconds for each study that another command is running.

    ``pruned.json`` records that an update's weights are pruned before the first file is deleted. A killed command
    therefore never leaves a partial model that looks complete, and the next prune deletes the rest.
    """
    with ExitStack() as held:
        if studies:
            for study in (workspace.folder / STUDIES).folders():
                folder = Workspace((workspace.folder / STUDIES / study).uri)
                held.enter_context(folder.lease(wait_s=wait_s, note=progress.note))
        refuse_damaged_records(workspace)
        prunable = find_prunable(Lineage(workspace), keep, studies)
        progress.begin("pruning", prunable.bytes, "bytes")
        for weights in prunable.weights:
            take_out(workspace.update(weights.update), weights)
            progress.advance(weights.bytes)
        for item in prunable.leftovers:
            workspace.folder.delete(item.path)
            progress.advance(item.bytes)
    return prunable


def take_out(update: Folder, weights: Weights) -> None:
    """Record that a model's weights are pruned, then delete them."""
    entry = {"at": now(), "bytes": weights.bytes, "files": list(weights.files)}
    update.write_json(PRUNED, {**read_pruned(update), weights.part: entry})
    for name in weights.files:
        (update / weights.part / "model").delete(name)
