"""What lies in a workspace and nothing refers to: scratch of killed writers, data of dropped updates."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.handover import OPTIMIZER
from pipeline.lineage import PLAN, REFUSED, UPDATE, Lineage, Update
from pipeline.pruned import is_pruned, weight_files
from pipeline.workspace import Workspace
from stages import distill, train
from stages.storage import Folder

KNOWN = {  # at a workspace's top; hidden files are the lease's and the system's
    *("workspace.json", "releases.json", "tokenizer", "datasets", "dedup", "updates", "studies", "report"),
    *("watch", "logs"),
}
RECORDED = ("quarantine", "account.json")  # of an arrival that was dropped: they stay, to be looked at
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Leftover:
    """A file or folder that no finished or unfinished update needs."""

    path: Path
    kind: str  # scratch, update, dataset, dedup, checkpoints, snapshots, optimizer, weights; unknown: not rewarm's
    bytes: int
    because: str

    @property
    def prunable(self) -> bool:
        """Whether it may be deleted; what rewarm did not make it does not delete."""
        return self.kind != UNKNOWN


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file() and not file.is_symlink()]
    return sum(file.stat().st_size for file in files)


def leftover(path: Path, kind: str, because: str) -> Leftover:
    """A leftover with its size."""
    return Leftover(path, kind, size_of(path), because)


def find_leftovers(lineage: Lineage) -> list[Leftover]:
    """Everything in the workspace that nothing refers to, in the order of its path."""
    workspace = lineage.workspace
    entries = [path for path in workspace.folder.path.iterdir() if not path.name.startswith(".")]
    strange = [leftover(path, UNKNOWN, "not made by rewarm") for path in entries if path.name not in KNOWN]
    found = {one.path: one for one in [*of_updates(lineage), *of_data(lineage), *scratch(workspace), *strange]}
    return [found[path] for path in sorted(found) if not any(parent in found for parent in path.parents)]


def of_updates(lineage: Lineage) -> Iterator[Leftover]:
    """Folders that are no updates, and what finished updates no longer need."""
    workspace = lineage.workspace
    for name in (workspace.folder / "updates").folders():
        folder = workspace.update(name)
        if not folder.exists(UPDATE) and not folder.exists(PLAN):
            yield leftover(folder.path, "update", "neither begun nor finished: what a dropped update left")
    starts = {update.id for update in next_starts(lineage)}
    for update in lineage.updates:
        folder = workspace.update(update.id)
        if (folder / "checkpoints").exists():
            yield leftover((folder / "checkpoints").path, "checkpoints", f"{update.id} is finished")
        if (folder / "trunk" / train.SNAPSHOTS).exists():
            yield leftover((folder / "trunk" / train.SNAPSHOTS).path, "snapshots", f"{update.id} is finished")
        if update.id not in starts and (folder / "trunk" / OPTIMIZER).exists():
            yield leftover((folder / "trunk" / OPTIMIZER).path, "optimizer", "no update can start from it any more")
        for part in ("trunk", "release"):
            model = folder / part / "model"
            if is_pruned(folder, part):
                yield from (leftover(file, "weights", "pruning was stopped here") for file in weight_files(model))


def next_starts(lineage: Lineage) -> list[Update]:
    """The updates whose trunk the next one can start from, whatever the trunk policy says by then.

    The last update; and where that one was refused, also those before it, up to one that was released.
    """
    found = []
    for update in reversed(lineage.updates):
        found.append(update)
        if update.state != REFUSED:
            break
    return found


def of_data(lineage: Lineage) -> Iterator[Leftover]:
    """Datasets, and parts of the dedup index, that no update brought or is bringing."""
    workspace = lineage.workspace
    needed = brought(workspace) | ({distill.NAME} if lineage.unfinished is not None else set())
    for name in sorted(set((workspace.folder / "datasets").folders()) - needed):
        for entry in sorted(workspace.dataset(name).path.iterdir()):
            if entry.name not in RECORDED:
                yield leftover(entry, "dataset", f"{name} belongs to no update")
    for name in sorted(set((workspace.folder / "dedup").folders()) - needed):
        yield leftover(workspace.dedup(name).path, "dedup", f"{name} belongs to no update")


def brought(workspace: Workspace) -> set[str]:
    """Every dataset that any update's record or plan names, finished, refused or under way."""
    found: set[str] = set()
    for folder in (workspace.update(name) for name in (workspace.folder / "updates").folders()):
        if folder.exists(UPDATE):
            found.update(folder.read_json(UPDATE)["datasets"])
        if folder.exists(PLAN):
            found.update(folder.read_json(PLAN)["data"])
    return found


def scratch(workspace: Workspace) -> Iterator[Leftover]:
    """What killed writers left beside their files (``Folder.writing``). Studies have writers of their own."""
    for path in sorted(workspace.folder.path.rglob(".*.tmp")):
        inside = path.relative_to(workspace.folder.path).parts
        if inside[0] not in ("studies", "watch") and not inside[0].startswith(".lease"):
            yield leftover(path, "scratch", "a writer was killed")


def delete(folder: Folder, path: Path) -> None:
    """Remove a leftover of a folder below which it lies."""
    folder.delete(str(path.relative_to(folder.path)))
