"""Where a study keeps things: ``studies/<name>/`` in the workspace, with the arrival's data and a folder a trial."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pipeline.lease import Lease, hold
from pipeline.lineage import Lineage
from pipeline.record import UpdateRecord
from pipeline.workspace import Workspace, check_name
from stages.storage import Folder


class StudyWorkspace(Workspace):
    """A workspace in which new datasets and updates lie in a study's folder; everything else is the lineage's own."""

    def __init__(self, uri: str, study: str, arrivals: list[str]) -> None:
        super().__init__(uri)
        self.study = self.folder / "studies" / check_name(study)
        self.arrivals = arrivals

    @contextmanager
    def lease(
        self, purpose: str | None = None, wait_s: float = 0.0, note: Callable[[str], None] | None = None
    ) -> Iterator[Lease]:
        """Hold the study's folder, not the lineage: others may go on with that."""
        with hold(self.study, purpose, wait_s, note=note) as lease:
            self.study = self.study.guarded(lease)
            try:
                yield lease
            finally:
                self.study = self.study.guarded(None)

    def dataset(self, name: str) -> Folder:
        """The folder of a dataset: the study's where it has just arrived."""
        return self.study / "datasets" / name if name in self.arrivals else super().dataset(name)

    def dedup(self, name: str) -> Folder:
        """The folder of a dataset's part of the dedup index."""
        return self.study / "dedup" / name if name in self.arrivals else super().dedup(name)

    def trial(self, name: str) -> Folder:
        """The folder of a trial."""
        return self.study / "trials" / name


class TrialWorkspace(StudyWorkspace):
    """A study's workspace in which one trial is the update in the making."""

    def __init__(self, uri: str, study: str, arrivals: list[str], trial: str) -> None:
        super().__init__(uri, study, arrivals)
        self.made = trial
        self.others: dict[str, str] = {}

    def stand_in(self, update: str, trial: str) -> None:
        """Let another trial's folder stand for an update of the lineage."""
        self.others[update] = trial

    def update(self, update: str) -> Folder:
        """The folder of an update: the trial's own, another trial's, or one of the lineage."""
        return (
            self.trial(self.others.get(update, update))
            if update in (self.made, *self.others)
            else super().update(update)
        )


class Blank(Lineage):
    """The lineage as if nothing had been trained: what a baseline from scratch starts with."""

    def __init__(self, workspace: Workspace) -> None:
        super().__init__(workspace)
        self.stand_on([])
        self.unfinished = None


class Rebased(Lineage):
    """The lineage with one update alone: a base of another seed."""

    def __init__(self, workspace: Workspace, base: UpdateRecord) -> None:
        super().__init__(workspace)
        self.stand_on([base])
        self.unfinished = None
