"""Saved progress of an unfinished update, to distinguish failed attempts that advanced it from those that did not."""

from dataclasses import dataclass

from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.stages.core.errors import DamagedError
from rewarm.stages.core.storage import Folder
from rewarm.stages.train.checkpoints import saved_step

DEPTH = 2  # levels of folders below an update or a dataset in which stages write manifests


@dataclass(frozen=True)
class Advance:
    """Saved progress of an unfinished update."""

    stages: frozenset[str] = frozenset()  # committed folders
    steps: int = 0  # training steps in the checkpoints of all its runs

    def beyond(self, before: "Advance") -> bool:
        """Return whether more is saved than ``before``."""
        return self.steps > before.steps or bool(self.stages - before.stages)


def advance(workspace: Workspace, update: str, dataset: str) -> Advance:
    """Return the saved progress of ``update``, which ingests ``dataset``."""
    folder = workspace.update(update)
    stages = {place.uri for top in (folder, workspace.dataset(dataset)) for place in below(top) if place.committed()}
    checkpoints = folder / "checkpoints"
    return Advance(frozenset(stages), sum(steps_saved(checkpoints / run) for run in checkpoints.folders()))


def below(folder: Folder, depth: int = DEPTH) -> list[Folder]:
    """Return a folder and its subfolders, down to ``depth``."""
    found = [folder]
    if depth:
        for name in folder.folders():
            found += below(folder / name, depth - 1)
    return found


def steps_saved(run: Folder) -> int:
    """Return the last step that a training run has saved; 0 if its checkpoints cannot be read."""
    try:
        return saved_step(run)
    except (DamagedError, OSError):
        return 0
