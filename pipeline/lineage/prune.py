"""``rewarm prune``: take out weights that nothing needs any more, and what killed commands left.

Never a record, nor data that an update took in: where weights went, it can still be shown, traced, replayed, verified.
What stays, and why, is said as well.

What lies in a workspace and nothing refers to: scratch of killed writers, data of dropped updates.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import PurePosixPath
from typing import Any

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from rewarm.pipeline.lineage.lineage import PLAN, UPDATE, Lineage, read_plan
from rewarm.pipeline.lineage.optimizer import OPTIMIZER
from rewarm.pipeline.lineage.verify.findings import Findings
from rewarm.pipeline.lineage.verify.records import check_numbers, check_records, check_releases, recorded
from rewarm.pipeline.lineage.weights import PRUNED, is_pruned, read_pruned, weight_files
from rewarm.pipeline.lineage.workspace import TRIAL, Workspace
from rewarm.pipeline.record import HELD_BACK, Entry
from rewarm.stages import distill, train
from rewarm.stages.core.errors import DamagedError
from rewarm.stages.core.identity import now
from rewarm.stages.core.progress import Progress
from rewarm.stages.core.shapes import OPEN, read_as
from rewarm.stages.core.storage import Folder
from rewarm.stages.train import SNAPSHOTS

KNOWN = {  # at a workspace's top; hidden files are the lease's and the system's
    *("workspace.json", "releases.json", "commits", "tokenizer", "datasets", "dedup", "updates", "studies", "report"),
    *("watch", "logs"),
}
RECORDED = ("quarantine", "account.json")  # of an arrival that was dropped: they stay, to be looked at
UNKNOWN = "unknown"


class Brought(TypedDict):
    """What any update's record says of its datasets."""

    __pydantic_config__ = OPEN  # type: ignore[misc]

    datasets: list[str]


BROUGHT = TypeAdapter(Brought)


@dataclass(frozen=True)
class Leftover:
    """A file or folder that no finished or unfinished update needs."""

    path: str  # relative to the workspace
    kind: str  # scratch, update, dataset, dedup, checkpoints, snapshots, optimizer, weights; unknown: not rewarm's
    bytes: int
    because: str

    @property
    def prunable(self) -> bool:
        """Whether it may be deleted; what rewarm did not make it does not delete."""
        return self.kind != UNKNOWN


def leftover(workspace: Workspace, path: str, kind: str, because: str) -> Leftover:
    """A leftover with its size."""
    return Leftover(path, kind, workspace.folder.size(path), because)


def find_leftovers(lineage: Lineage) -> list[Leftover]:
    """Everything in the workspace that nothing refers to, in the order of its path."""
    workspace = lineage.workspace
    names = [*workspace.folder.files(), *workspace.folder.folders()]
    strange = [leftover(workspace, name, UNKNOWN, "not made by rewarm") for name in names if name not in KNOWN]
    found = {one.path: one for one in [*of_updates(lineage), *of_data(lineage), *scratch(workspace), *strange]}
    inside = {path: {str(parent) for parent in PurePosixPath(path).parents} for path in found}
    return [found[path] for path in sorted(found) if not inside[path] & found.keys()]


def of_updates(lineage: Lineage) -> Iterator[Leftover]:
    """Folders that are no updates, and what finished updates no longer need."""
    workspace = lineage.workspace
    for name in (workspace.folder / "updates").folders():
        folder = workspace.update(name)
        if not folder.exists(UPDATE) and not folder.exists(PLAN):
            because = "neither begun nor finished: what a dropped update left"
            yield leftover(workspace, f"updates/{name}", "update", because)
    starts = {update.id for update in next_starts(lineage)}
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
                    yield leftover(workspace, f"{place}/{part}/model/{name}", "weights", "pruning was stopped here")


def next_starts(lineage: Lineage) -> list[Entry]:
    """The updates whose trunk the next one can start from, whatever the trunk policy says by then.

    The last update; and where that one was refused or is undecided, also those before it, up to one that was released.
    """
    found = []
    for update in reversed(lineage.entries):
        found.append(update)
        if update.state not in HELD_BACK:
            break
    return found


def of_data(lineage: Lineage) -> Iterator[Leftover]:
    """Datasets, and parts of the dedup index, that no update brought or is bringing."""
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
    """Every dataset that any update's record or plan names, finished, refused or under way."""
    found: set[str] = set()
    for name in (workspace.folder / "updates").folders():
        if workspace.update(name).exists(UPDATE):
            found.update(read_as(workspace.update(name), UPDATE, BROUGHT)["datasets"])
        if workspace.update(name).exists(PLAN):
            found.update(read_plan(workspace, name)["data"])
    return found


def scratch(workspace: Workspace) -> Iterator[Leftover]:
    """What killed writers left beside their files (``Folder.writing``), on a disk: in a store nothing is left.

    Studies have writers of their own.
    """
    if not workspace.folder.is_local:
        return
    root = workspace.folder.path
    for path in sorted(root.rglob(".*.tmp")):
        inside = path.relative_to(root)
        if inside.parts[0] not in ("studies", "watch") and not inside.parts[0].startswith(".lease"):
            yield leftover(workspace, inside.as_posix(), "scratch", "a writer was killed")


KEEP = 3  # releases: the current one, the one to roll back to, and one more
STUDIES = "studies"


@dataclass(frozen=True)
class Weights:
    """The weights of a trunk or a release that nothing needs."""

    update: str
    part: str  # trunk or release
    files: tuple[str, ...]  # names, in the model's folder
    bytes: int


@dataclass
class Prunable:
    """What would go, and which weights stay for which reason."""

    weights: list[Weights] = field(default_factory=list)
    leftovers: list[Leftover] = field(default_factory=list)
    kept: dict[str, str] = field(default_factory=dict)  # update/part → why

    @property
    def bytes(self) -> int:
        """All that would be freed."""
        return sum(one.bytes for one in self.weights) + sum(one.bytes for one in self.leftovers)

    def to_json(self) -> dict[str, Any]:
        """As JSON types; paths relative to the workspace."""
        weights = [
            {"path": f"updates/{one.update}/{one.part}/model", "kind": f"{one.part} weights", "bytes": one.bytes}
            for one in self.weights
        ]
        return {"bytes": self.bytes, "prune": [*weights, *map(asdict, self.leftovers)], "keep": self.kept}


def refuse_damaged_records(workspace: Workspace) -> None:
    """``DamagedError`` where the records do not hold together: what they do not name would look like left over."""
    findings = Findings(workspace.folder)
    if (log := check_records(workspace, findings)) is not None:
        updates = recorded(workspace)
        check_numbers(workspace, updates, findings)
        check_releases(workspace, updates, log, findings)
    if findings.problems:
        first = findings.problems[0]
        raise DamagedError(
            f"{workspace.folder}: nothing was pruned, as the records are damaged: {first.file}: {first.expected} "
            f"expected, {first.found} found. `rewarm verify {workspace.folder}` says what to do"
        )


def find_prunable(lineage: Lineage, keep: int, studies: bool) -> Prunable:
    """What can go while the last ``keep`` releases stay, the current one always."""
    found = Prunable(kept=needed(lineage, keep))
    for update in lineage.entries:
        folder = lineage.workspace.update(update.id)
        for part in ("trunk", "release"):
            model = folder / part / "model"
            files = weight_files(model)
            if files and f"{update.id}/{part}" not in found.kept and not is_pruned(folder, part):
                size = sum(map(model.size, files))
                found.weights.append(Weights(update.id, part, tuple(files), size))
    found.leftovers = [one for one in find_leftovers(lineage) if one.prunable]
    if lineage.entries:
        place = f"updates/{lineage.entries[0].id}/initial/model"
        found.leftovers += [
            leftover(lineage.workspace, f"{place}/{name}", "initial weights", "the base is finished")
            for name in weight_files(lineage.workspace.folder / place)
        ]
    if studies:
        found.leftovers += list(study_weights(lineage.workspace))
    return found


def needed(lineage: Lineage, keep: int) -> dict[str, str]:
    """Weights that must stay, as ``update/part``, and why."""
    found: dict[str, str] = {}
    if lineage.entries:
        found[f"{lineage.entries[0].id}/trunk"] = "the base: select.model=base ranks documents by it"
    for update in next_starts(lineage):
        found[f"{update.id}/trunk"] = "the next update can start from it, and is held to it (train.kl_weight)"
        found.setdefault(f"{update.id}/release", "the newest releases, promoted or refused")
    if lineage.head is not None:
        started = lineage.trunk().at("../..").name
        found.setdefault(f"{started}/trunk", "the next update starts from it")
    for name in list(dict.fromkeys(reversed(lineage.standing())))[:keep]:
        found[f"{name}/release"] = f"one of the last {keep} releases"
    if lineage.release is not None:
        found[f"{lineage.release}/release"] = "the current release"
    return found


def study_weights(workspace: Workspace) -> Iterator[Leftover]:
    """The models of studies' finished trials; their figures stay, and a study that goes on does not need them."""
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


def prune(workspace: Workspace, keep: int, studies: bool, progress: Progress) -> Prunable:
    """Delete what ``find_prunable`` finds; the caller holds the workspace's lease.

    ``pruned.json`` says that an update's weights are gone before the first of them goes: a command that is killed in
    between leaves no half model that looks whole, and the next prune goes on.
    """
    with ExitStack() as held:
        if studies:
            for study in (workspace.folder / STUDIES).folders():
                held.enter_context(Workspace((workspace.folder / STUDIES / study).uri).lease())
        refuse_damaged_records(workspace)
        found = find_prunable(Lineage(workspace), keep, studies)
        progress.begin("pruning", found.bytes, "bytes")
        for weights in found.weights:
            take_out(workspace.update(weights.update), weights)
            progress.advance(weights.bytes)
        for one in found.leftovers:
            workspace.folder.delete(one.path)
            progress.advance(one.bytes)
    return found


def take_out(update: Folder, weights: Weights) -> None:
    """Delete a model's weights, and say so first."""
    said = {"at": now(), "bytes": weights.bytes, "files": list(weights.files)}
    update.write_json(PRUNED, {**read_pruned(update), weights.part: said})
    for name in weights.files:
        (update / weights.part / "model").delete(name)
