"""``rewarm prune``: take out weights that nothing needs any more, and what killed commands left.

Never a record, nor data that an update took in: where weights went, it can still be shown, traced, replayed, verified.
What stays, and why, is said as well.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from typing import Any

from pipeline.handover import OPTIMIZER
from pipeline.lineage import Lineage
from pipeline.releases.leftovers import Leftover, find_leftovers, leftover, next_starts
from pipeline.releases.pruned import PRUNED, is_pruned, read_pruned, weight_files
from pipeline.verify.findings import Findings
from pipeline.verify.records import check_numbers, check_records, check_releases, recorded
from pipeline.workspace import TRIAL, Workspace
from stages.errors import DamagedError
from stages.identity import now
from stages.progress import Progress
from stages.storage import Folder
from stages.train import SNAPSHOTS

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
