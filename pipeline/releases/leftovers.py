"""What lies in a workspace and nothing refers to: scratch of killed writers, data of dropped updates."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from pipeline.handover import OPTIMIZER
from pipeline.lineage import PLAN, UPDATE, Lineage, read_plan
from pipeline.record import HELD_BACK, Entry
from pipeline.releases.pruned import is_pruned, weight_files
from pipeline.workspace import Workspace
from stages import distill, train
from stages.shapes import OPEN, read_as

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
